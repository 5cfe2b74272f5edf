"""What comes back from a language model that was asked, whoever served it; judges and models both speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One reply. A refusal and a call that failed are replies too: counted and shown, never dropped.

    Attributes:
        text: what was said; empty where `error` is set.
        finished: False where it was cut off, by the limit of tokens or by a filter.
        refusal: the provider marks it as one, or filtered the question or the answer.
        token_logprobs: natural-log probabilities of the likeliest first tokens; None where not asked for or not given.
        error: why there is no reply after all retries, one sentence; None where there is one.
    """

    text: str
    finished: bool = True
    refusal: bool = False
    token_logprobs: Mapping[str, float] | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The reply as `from_json` reads it."""
        return {
            "text": self.text,
            "finished": self.finished,
            "refusal": self.refusal,
            "token_logprobs": None if self.token_logprobs is None else dict(self.token_logprobs),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reply:
        return cls(**record)
