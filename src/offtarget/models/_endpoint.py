"""An OpenAI-compatible server, and one call to it: made again until a whole answer is there or none can be hoped for.

The openai client makes the call, but its own retries are off: they take half a body or wrong JSON for an answer, and know of no rate limit.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from offtarget.errors import InputError, ModelError

OPENAI = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the first retry, doubled for each further one, and where the doubling ends."""

LONGEST_PAUSE = 600.0
"""Seconds. A server that asks for a longer pause is not waited for."""

CONNECTING = 10.0
"""Seconds to connect in."""

FIRST_CONTACT = 2
"""Retries for a server that was never reached: its address is more likely wrong than the network weak."""

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server.

    Attributes:
        model: its name there; for vLLM with adapters, the adapter's.
        base_url: usually ends in `/v1`.
        key_variable: environment variable that holds the key. A server on this machine may do without.
        concurrency: calls under way at once.
        requests_per_minute: calls, retries among them, are spread evenly at this rate; None sets no limit.
        timeout: seconds until a call that is not wholly answered is given up and made again.
        retries: how often a failed call is made again.
        choices_at_once: answers to ask for in one call; 1 for servers that refuse `n`.
        extra: further fields of each chat request, such as vLLM's `chat_template_kwargs`.

    Raises:
        InputError: a value is out of range.
    """

    model: str
    base_url: str = OPENAI
    key_variable: str = OPENAI_KEY
    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout: float = 120.0
    retries: int = 8
    choices_at_once: int = 128
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("an endpoint needs the name of a model, as its server lists it under /models")
        address = _parts(self.base_url)
        if address.username or address.password or address.query:
            raise InputError("the address of an endpoint must hold no password or key; put it in an environment variable and name that")
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InputError(f"{self.base_url!r} is not the address of an endpoint; write it like {OPENAI}")
        if self.concurrency < 1 or self.choices_at_once < 1:
            raise InputError(f"concurrency and choices_at_once must be above 0, not {self.concurrency} and {self.choices_at_once}")
        if self.timeout <= 0 or self.retries < 0:
            raise InputError(f"timeout must be above 0 and retries not below 0, not {self.timeout} and {self.retries}")
        if self.requests_per_minute is not None and self.requests_per_minute <= 0:
            raise InputError(f"requests_per_minute must be above 0, not {self.requests_per_minute}; leave it out to set no limit")

    @property
    def is_openai(self) -> bool:
        """Whether OpenAI itself serves it."""
        return urlsplit(self.base_url).hostname == urlsplit(OPENAI).hostname

    @property
    def is_local(self) -> bool:
        """Whether this machine serves it."""
        return urlsplit(self.base_url).hostname in ("localhost", "127.0.0.1", "::1")


def _parts(url: str) -> SplitResult:
    """The parts of an address; one that cannot be taken apart is quoted only where no password can be in it."""
    try:
        address = urlsplit(url)
        readable = url.isprintable() and " " not in url and address.port != 0
    except ValueError:  # no host, or no port
        readable = False
    if readable:
        return address
    shown = "the address of the endpoint" if "@" in url or "?" in url else repr(url)
    raise InputError(f"{shown} cannot be read; write it like http://localhost:8000/v1, its port a number up to 65535 with a / behind it")


@dataclass(frozen=True)
class Failure:
    """Why a call got no answer, one sentence without keys.

    Attributes:
        why: the sentence.
        again: the same call may succeed later.
        fatal: other calls will fail as well, at least now.
        filtered: the provider refused the question for what it says.
        unreached: no connection came about.
        status: HTTP status, where there was one.
        wait: seconds that the server asks us to wait.
    """

    why: str
    again: bool = False
    fatal: bool = False
    filtered: bool = False
    unreached: bool = False
    status: int | None = None
    wait: float | None = None


class Caller:
    """Calls one endpoint, at its rate. Use with `async with`, inside one event loop.

    Raises:
        InputError: the address has a host that cannot be.
        ModelError: the openai client is not installed, or there is no key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._key = endpoint, _key(endpoint)
        openai = _openai()
        import httpx2

        # An address always gets some key: without, the client would look for one itself.
        patience = openai.Timeout(None, connect=min(CONNECTING, endpoint.timeout / 2))
        try:
            self._client = openai.AsyncOpenAI(api_key=self._key or "none", base_url=endpoint.base_url, max_retries=0, timeout=patience)
        except httpx2.InvalidURL as error:
            raise InputError(f"{endpoint.base_url!r} is not the address of an endpoint ({error}); write it like {OPENAI}") from error
        self._turn, self._next_at, self._reached = asyncio.Lock(), 0.0, False
        self._random = random.Random()  # of its own, so that a study's random numbers do not depend on the weather in the network

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.close()

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T | Failure:
        """What `read` makes of the decoded JSON, or why there is none after all retries.

        `read` raises LookupError, TypeError or ValueError where the JSON is not what was asked for.
        """
        for attempt in count():
            await self._take_turn()
            outcome = await self._attempt(path, body, read)
            if not isinstance(outcome, Failure):
                self._reached = True
                return outcome
            self._reached = self._reached or not outcome.unreached
            retries = self._endpoint.retries if self._reached else min(FIRST_CONTACT, self._endpoint.retries)
            if not outcome.again or attempt >= retries:
                return outcome
            if outcome.wait:
                self._next_at = max(self._next_at, _now() + outcome.wait)  # for all calls, not for this one alone
            jittered = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 30)) * self._random.uniform(0.5, 1)
            await asyncio.sleep(max(outcome.wait or 0, jittered))
        raise AssertionError("counting has no end")

    async def _take_turn(self) -> None:
        """Waits until the rate allows one more call."""
        async with self._turn:
            while (wait := self._next_at - _now()) > 0:  # again after waking: a pause may have been asked for meanwhile
                await asyncio.sleep(wait)
            if self._endpoint.requests_per_minute:
                self._next_at = _now() + 60 / self._endpoint.requests_per_minute

    async def _attempt(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T | Failure:
        import httpx2
        import openai

        try:
            async with asyncio.timeout(self._endpoint.timeout):  # over the whole call: a server that drips bytes is cut off too
                response = await self._client.post(path, cast_to=httpx2.Response, body=dict(body))
        except TimeoutError:
            return Failure(f"no answer within {self._endpoint.timeout:g} s", again=True)
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.body, error.response.headers)
        except openai.APIConnectionError as error:
            return self._lost(error)
        try:
            payload = json.loads(response.content)
        except (ValueError, RecursionError):
            return Failure("the answer was broken: no JSON", again=True)
        try:
            return read(payload)
        except (AttributeError, LookupError, TypeError, ValueError):
            return Failure(f"the answer was broken: not the JSON that was asked for{self._quoted(payload)}", again=True)

    def _lost(self, error: Exception) -> Failure:
        """The network's own errors are named, not quoted: their text may hold headers."""
        kind = type(error.__cause__).__name__
        if kind in ("ConnectError", "ConnectTimeout"):
            said = f"cannot connect to {self._endpoint.base_url}; check the address and that the server runs, then go on"
            return Failure(said, again=True, fatal=True, unreached=True)
        return Failure(f"the connection was lost ({kind})", again=True)

    def _refused(self, status: int, body: object, headers: Mapping[str, str]) -> Failure:
        endpoint, quoted = self._endpoint, self._quoted(body)
        where, code = endpoint.base_url, str(body.get("code")) if isinstance(body, dict) else ""
        if status == 401:  # not quoted: such answers show the key, or most of it
            known = f"refused the key in {endpoint.key_variable}" if self._key else "wants a key"
            return Failure(f"{where} {known} (HTTP 401); set {endpoint.key_variable} to a valid one", status=status, fatal=True)
        if status == 403:
            said = f"{where} does not let this key use the model {endpoint.model!r} (HTTP 403{quoted}); ask for access or choose another"
            return Failure(said, status=status, fatal=True)
        if status == 404:
            said = f"{where} does not know the model {endpoint.model!r} (HTTP 404{quoted}); check its name, and the address up to /v1"
            return Failure(said, status=status, fatal=True)
        if status == 402 or code == "insufficient_quota":
            return Failure(
                f"{where} has no credit left for this key (HTTP {status}{quoted}); add some and go on", status=status, fatal=True
            )
        again = status in (408, 409, 425, 429) or (status >= 500 and status != 501)
        wait = retry_after(headers) if again else None
        if wait and wait > LONGEST_PAUSE:
            return Failure(f"{where} asks to wait {wait:.0f} s (HTTP {status}{quoted}); go on after that", status=status, fatal=True)
        filtered = status == 400 and code in ("content_filter", "content_policy_violation")
        return Failure(f"HTTP {status}{quoted}", again=again, filtered=filtered, status=status, wait=wait)

    def _quoted(self, payload: object) -> str:
        """`: ` and what the server says went wrong, short and without keys; empty if it says nothing."""
        said: object = payload
        for name in ("error", "message", "detail"):
            said = said[name] if isinstance(said, dict) and name in said else said
        if not isinstance(said, str):
            return ""
        if self._key:
            said = said.replace(self._key, "***")
        line = " ".join(re.sub(r"\bsk-\S+", "sk-***", said).split())
        return f": {line[:200]}" if line else ""


def _key(endpoint: Endpoint) -> str | None:
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not key:
        if endpoint.is_local and endpoint.key_variable == OPENAI_KEY:
            return None
        cure = "put the key into that environment variable, or any word if the server asks for none"
        raise ModelError(f"there is no key for {endpoint.base_url}: {endpoint.key_variable} is not set; {cure}")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ModelError(f"{endpoint.key_variable} holds characters that no key has, such as spaces or line ends; set it anew")
    return key


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise ModelError("asking an endpoint needs the openai client; install it with: pip install 'offtarget[api]'") from None
    return openai


def _now() -> float:
    return asyncio.get_running_loop().time()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; None without one that can be read."""
    with suppress(TypeError, ValueError):
        seconds = float(headers.get("retry-after-ms", "")) / 1000
        return max(0.0, seconds) if math.isfinite(seconds) else None
    told = headers.get("retry-after", "")
    with suppress(TypeError, ValueError):
        seconds = float(told)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    with suppress(TypeError, ValueError):
        return max(0.0, (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    return None


async def in_turn(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Works through the items, some at once; the first error cancels the rest and is raised."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
