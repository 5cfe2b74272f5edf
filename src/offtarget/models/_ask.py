"""Asking an endpoint: many requests under way at once, each answered exactly once and handed over as soon as it is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from offtarget.data import Message
from offtarget.errors import InputError, ModelError
from offtarget.replies import Reply

from ._endpoint import Caller, Endpoint, Failure, in_turn

MOST_TOP_LOGPROBS = 20
"""As many as OpenAI's interface gives."""

T = TypeVar("T")


@dataclass(frozen=True)
class ChatRequest:
    """One prompt, to be answered `samples` times.

    Attributes:
        messages: the turns of the chat; the model's is the next.
        samples: answers to sample.
        temperature: None leaves it to the server, as some reasoning models demand.
        max_tokens: where an answer that has not ended is cut off.
        seed: of sampling, for servers that take one.
        top_logprobs: how many likely first tokens to ask the log-probabilities of; 0 asks for none.

    Raises:
        InputError: a value is out of range.
    """

    messages: tuple[Message, ...]
    samples: int = 1
    temperature: float | None = 1.0
    max_tokens: int = 256
    seed: int | None = None
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(self.messages))
        if not self.messages:
            raise InputError("a request needs at least one message")
        if self.samples < 1 or self.max_tokens < 1:
            raise InputError(f"samples and max_tokens must be above 0, not {self.samples} and {self.max_tokens}")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature must not be below 0, not {self.temperature}")
        if not 0 <= self.top_logprobs <= MOST_TOP_LOGPROBS:
            raise InputError(f"top_logprobs must be between 0 and {MOST_TOP_LOGPROBS}, not {self.top_logprobs}")


@dataclass(frozen=True)
class Usage:
    """Tokens that a server counted, for the bill; `uncounted` calls came without a count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    uncounted: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens,
            self.calls + other.calls, self.uncounted + other.uncounted,
        )  # fmt: skip


@dataclass
class Tally:
    """What calls have cost so far."""

    usage: Usage = Usage()


_tallies: ContextVar[tuple[Tally, ...]] = ContextVar("tallies", default=())


@contextmanager
def counted() -> Iterator[Tally]:
    """Counts what all calls in the `with` block cost, whoever makes them."""
    tally = Tally()
    token = _tallies.set((*_tallies.get(), tally))
    try:
        yield tally
    finally:
        _tallies.reset(token)


@dataclass(frozen=True)
class Answered:
    """The replies to one request, as many as it asked for, and what they cost."""

    replies: tuple[Reply, ...]
    usage: Usage


def ask(
    endpoint: Endpoint, requests: Sequence[ChatRequest], report: Callable[[int, Answered], None] = lambda *_: None
) -> list[Answered]:  # fmt: skip
    """Asks an endpoint, and makes calls that fail again.

    Args:
        endpoint: whom to ask.
        requests: what to ask.
        report: called in this thread with (index of the request, its replies) once for each request as soon as it is answered, so
            that nothing paid for is lost; after Ctrl-C also with those already answered.

    Returns:
        The answers in the order of the requests. What got none after all retries is a reply with an `error`.

    Raises:
        ModelError: no call can succeed (wrong key, unknown model, no credit, no server).
    """
    if not requests:  # a study that is resumed when all is done needs no key
        return []
    answers: dict[int, Answered] = {}

    async def work(emit: Callable[[tuple[int, Answered]], None]) -> None:
        async with Caller(endpoint) as caller:

            async def one(numbered: tuple[int, ChatRequest]) -> None:
                number, request = numbered
                emit((number, await _answer(caller, endpoint, request)))

            await in_turn(enumerate(requests), one, min(endpoint.concurrency, len(requests)))

    def deliver(numbered: tuple[int, Answered]) -> None:
        number, answered = numbered
        answers[number] = answered
        for tally in _tallies.get():
            tally.usage += answered.usage
        report(number, answered)

    in_background(work, deliver)
    return [answers[number] for number in range(len(requests))]


async def _answer(caller: Caller, endpoint: Endpoint, request: ChatRequest) -> Answered:
    """All samples of one request, in several calls where a server gives fewer at once than it is asked for."""
    replies: tuple[Reply, ...] = ()
    usage = Usage()
    while (missing := request.samples - len(replies)) > 0:
        count = min(missing, endpoint.choices_at_once)
        outcome = await caller.post("/chat/completions", request_body(endpoint, request, count, len(replies)), read_chat)
        if isinstance(outcome, Failure):
            if outcome.fatal:
                raise ModelError(outcome.why)
            replies += (Reply("", finished=False, refusal=outcome.filtered, error=None if outcome.filtered else outcome.why),) * missing
        else:
            replies, usage = replies + outcome.replies[:missing], usage + outcome.usage
    return Answered(replies, usage)


def request_body(endpoint: Endpoint, request: ChatRequest, count: int, already: int = 0) -> dict[str, Any]:
    """The chat completion to ask for when `already` of a request's samples are there."""
    limit = "max_completion_tokens" if endpoint.is_openai else "max_tokens"  # each side knows only one of the names
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        limit: request.max_tokens,
    }
    if count > 1:
        body["n"] = count
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.seed is not None:
        body["seed"] = request.seed + already  # or a later call would draw the same answers again
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body | dict(endpoint.extra)


def read_chat(payload: Any) -> Answered:
    """The answers in a chat completion; raises LookupError, TypeError or ValueError where it is none."""
    choices = sorted(payload["choices"], key=lambda choice: choice.get("index") or 0)
    if not choices:
        raise ValueError("no choices")
    return Answered(tuple(_reply(choice) for choice in choices), read_usage(payload))


def _reply(choice: Mapping[str, Any]) -> Reply:
    message, reason = choice["message"], choice.get("finish_reason")
    if reason == "error":
        raise ValueError("a call that failed on the way, in the form of an answer")
    refused = message.get("refusal")
    text = message["content"] if refused is None else refused
    if not isinstance(text, str | None):
        raise TypeError("content is no text")
    return Reply(
        (text or "").encode("utf-8", "replace").decode(),  # halves of surrogate pairs, which JSON can hold, no store can
        finished=reason not in ("length", "content_filter"),
        refusal=refused is not None or reason == "content_filter",
        token_logprobs=_first_logprobs(choice.get("logprobs")),
    )


def _first_logprobs(logprobs: Mapping[str, Any] | None) -> dict[str, float] | None:
    tokens = (logprobs or {}).get("content")
    if not tokens or not tokens[0].get("top_logprobs"):
        return None
    likely: dict[str, float] = {}
    for entry in tokens[0]["top_logprobs"]:
        likely.setdefault(str(entry["token"]), read_number(entry["logprob"]))  # likeliest first; broken UTF-8 may come twice
    return likely


def read_number(told: Any) -> float:
    """A log-probability; raises TypeError or ValueError where it is none."""
    number = float(told)
    if math.isnan(number):
        raise ValueError("not a number")
    return number


def read_usage(payload: Mapping[str, Any]) -> Usage:
    """The tokens that an answer says it took."""
    told = payload.get("usage")
    prompt, completion = (told.get("prompt_tokens"), told.get("completion_tokens")) if isinstance(told, dict) else (None, None)
    if not (isinstance(prompt, int) and isinstance(completion, int)):  # no reason to throw an answer away
        return Usage(calls=1, uncounted=1)
    return Usage(prompt, completion, calls=1)


def in_background(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]], deliver: Callable[[T], None]) -> None:
    """Runs `work` in an event loop of its own, in another thread, and hands what it emits to `deliver`, at once and in this one.

    A notebook's loop may be running in this thread already, and a store of SQLite is bound to the thread that opened it. Where Ctrl-C
    stops the work, what had been emitted is delivered first.
    """
    emitted: SimpleQueue[tuple[T] | None] = SimpleQueue()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        task = asyncio.current_task()
        assert task
        started.set_result((asyncio.get_running_loop(), task))
        await work(lambda item: emitted.put((item,)))

    def thread() -> None:
        try:
            asyncio.run(main())
        finally:
            emitted.put(None)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(thread)
        try:
            for (item,) in iter(emitted.get, None):
                deliver(item)
        except BaseException as stopped:
            loop, task = started.result()
            with suppress(RuntimeError):  # the loop ended by itself meanwhile
                loop.call_soon_threadsafe(task.cancel)
            if isinstance(stopped, KeyboardInterrupt):
                for (item,) in iter(emitted.get, None):
                    deliver(item)
            raise
    running.result()
