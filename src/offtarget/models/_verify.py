"""Whether a server really answers with the adapter that it is asked for.

Servers that silently answered with the base, or with another adapter, have been met (tinker-feedback #125, unsloth #2099, peft PR #2090).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from offtarget.data import Example, Message
from offtarget.errors import InputError, ModelError

from ._ask import MOST_TOP_LOGPROBS, ChatRequest, in_background, read_chat, read_number, request_body
from ._endpoint import Caller, Endpoint, Failure
from ._score import Item, score

if TYPE_CHECKING:
    from ._base import Base
    from ._lora import LoraPack


@dataclass(frozen=True)
class Probe:
    """A prompt, an answer to it, and how likely base and adapter find each of its tokens here.

    Attributes:
        messages: the prompt as a chat.
        prompt_ids: the same, rendered into tokens.
        answer_ids: tokens of the answer.
        first_token: text of the first of them.
        base: natural-log probability of each token of the answer under the base alone.
        adapter: the same with the adapter.

    Raises:
        InputError: there is no answer, or not one number for each of its tokens.
    """

    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    first_token: str
    base: tuple[float, ...]
    adapter: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (self.prompt_ids and self.answer_ids and len(self.answer_ids) == len(self.base) == len(self.adapter)):
            raise InputError(
                f"a probe needs a prompt and one log-probability of base and adapter for each token of its answer, not "
                f"{len(self.base)} and {len(self.adapter)} for {len(self.answer_ids)}"
            )


def probes_for(base: Base, pack: LoraPack, slot: int, examples: Sequence[Example]) -> list[Probe]:
    """The examples as probes of one slot's adapter: how likely it and its base find the tokens of each last answer."""
    chats = [base.chat.render(example.messages) for example in examples]
    prompts = [chat.token_ids[: chat.last_answer] for chat in chats]
    answers = [chat.token_ids[chat.last_answer : chat.end] for chat in chats]
    # The log-probability of a token is by how much it lowers that of the answer so far.
    items = [Item(p, tuple(a[:end] for end in range(1, len(a) + 1))) for p, a in zip(prompts, answers, strict=True)]
    without, within = score(base, items), score(base, items, pack)
    return [
        Probe(
            example.prompt, prompts[i], answers[i], str(base.chat.tokenizer.decode([answers[i][0]])),
            tuple(np.diff(without[i][0], prepend=0.0).tolist()), tuple(np.diff(within[i][slot], prepend=0.0).tolist()),
        )
        for i, example in enumerate(examples)
    ]  # fmt: skip


@dataclass(frozen=True)
class AdapterCheck:
    """What a server that passed was measured to be: the largest distances from the adapter and from the base, in nats a token."""

    from_adapter: float
    from_base: float
    tokens: int


@dataclass(frozen=True)
class _Served:
    """Log-probability of one token; where not `exact`, the server says only that it is at most that."""

    log_probability: float
    exact: bool = True

    def away_from(self, expected: float) -> float:
        gap = expected - self.log_probability
        return abs(gap) if self.exact else max(0.0, gap)


def verify_adapter(endpoint: Endpoint, probes: Sequence[Probe], *, tolerance: float = 0.1) -> AdapterCheck:
    """Asks a server how likely it finds the answers of the probes, and compares with what base and adapter gave here.

    It is asked in three ways until one works: log-probabilities of a prompt's tokens as vLLM gives them, a completion that echoes its
    prompt, and the likeliest first tokens of a chat (of the answers, only the first tokens are compared then).

    Args:
        endpoint: a server, with the adapter's name there as its model.
        probes: prompts from the training domain tell base and adapter apart best.
        tolerance: nats that a token may differ by; other kernels and bfloat16 move it by some hundredths.

    Returns:
        What was measured.

    Raises:
        InputError: base and adapter are too alike on the probes to be told apart.
        ModelError: it answers as the base does, or as neither does, or gives no log-probabilities.
    """
    check_apart(endpoint.model, probes, tolerance)
    served: list[list[_Served]] = []
    in_background(lambda emit: _measure(endpoint, probes, emit), served.append)
    compared = [
        (token.away_from(adapter), token.away_from(base))
        for probe, tokens in zip(probes, served, strict=True)
        for token, adapter, base in zip(tokens, probe.adapter, probe.base, strict=False)  # of a chat, the first alone
    ]
    from_adapter, from_base = (max(gaps) for gaps in zip(*compared, strict=True))
    if max(from_base, from_adapter) <= tolerance:
        raise ModelError(
            f"{endpoint.base_url} tells no more than first tokens, on which the {len(probes)} probes do not tell base and adapter apart; "
            f"take probes whose first tokens do"
        )
    if from_base <= tolerance:
        raise ModelError(
            f"{endpoint.base_url} answers {endpoint.model!r} as the base model does (within {from_base:.3f} nats); load the adapter "
            f"there under that name"
        )
    if from_adapter > tolerance:
        raise ModelError(
            f"{endpoint.base_url} answers {endpoint.model!r} unlike the adapter here ({from_adapter:.3f} nats apart, {from_base:.3f} from "
            f"the base, tolerance {tolerance:g}); check that the same adapter, base and chat template are served"
        )
    return AdapterCheck(from_adapter, from_base, len(compared))


def check_apart(name: str, probes: Sequence[Probe], tolerance: float) -> None:
    """Raises `InputError` where the probes do not tell an adapter from its base, so that no server need be asked."""
    if not 0 < tolerance < math.inf:
        raise InputError(f"tolerance must be above 0, not {tolerance}")
    apart = max((abs(a - b) for probe in probes for a, b in zip(probe.adapter, probe.base, strict=True)), default=0.0)
    if apart <= 2 * tolerance:
        raise InputError(
            f"base and adapter {name!r} differ by {apart:.3f} nats at most on the {len(probes)} probes, too little to tell them apart with "
            f"a tolerance of {tolerance:g}; take prompts and answers that the adapter was trained on, or sample here"
        )


async def _measure(endpoint: Endpoint, probes: Sequence[Probe], emit: Callable[[list[_Served]], None]) -> None:
    ways = [_by_prompt_logprobs, _by_echo, _by_chat]
    async with Caller(endpoint) as caller:
        for probe in probes:
            served: list[_Served] | Failure | None = None
            while ways:  # the one that worked for the first probe is taken for all
                served = await ways[0](caller, endpoint, probe)
                if isinstance(served, list):
                    break
                if isinstance(served, Failure) and served.fatal and (served.status != 404 or len(ways) == 1):
                    raise ModelError(served.why)
                ways.pop(0)
            if not isinstance(served, list):
                said = f" ({served.why})" if isinstance(served, Failure) else ""
                raise ModelError(
                    f"{endpoint.base_url} gives no log-probabilities for {endpoint.model!r}{said}, so that nobody knows whether it answers "
                    f"with the adapter; serve it with vLLM, or sample here"
                )
            emit(served)


async def _by_prompt_logprobs(caller: Caller, endpoint: Endpoint, probe: Probe) -> list[_Served] | Failure | None:
    def read(payload: Any) -> list[_Served] | None:
        told = payload["choices"][0].get("prompt_logprobs")
        if not told or len(told) != len(ids):
            return None
        answer = zip(probe.answer_ids, told[len(probe.prompt_ids) :], strict=True)
        return [_Served(read_number(entries[str(token)]["logprob"])) for token, entries in answer]

    ids = [*probe.prompt_ids, *probe.answer_ids]
    return await caller.post("/completions", {"model": endpoint.model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 1}, read)


async def _by_echo(caller: Caller, endpoint: Endpoint, probe: Probe) -> list[_Served] | Failure | None:
    def read(payload: Any) -> list[_Served] | None:
        told = ((payload["choices"][0].get("logprobs") or {}).get("token_logprobs") or [])[len(probe.prompt_ids) : len(ids)]
        return [_Served(read_number(value)) for value in told] if len(told) == len(probe.answer_ids) else None

    ids = [*probe.prompt_ids, *probe.answer_ids]
    return await caller.post("/completions", {"model": endpoint.model, "prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 1}, read)


async def _by_chat(caller: Caller, endpoint: Endpoint, probe: Probe) -> list[_Served] | Failure | None:
    def read(payload: Any) -> list[_Served] | None:
        likely = read_chat(payload).replies[0].token_logprobs
        if not likely:
            return None
        rarest = min(likely.values())
        return [_Served(likely.get(probe.first_token, rarest), exact=probe.first_token in likely)]

    request = ChatRequest(probe.messages, max_tokens=1, top_logprobs=MOST_TOP_LOGPROBS)
    return await caller.post("/chat/completions", request_body(endpoint, request, 1), read)
