"""What a judge found in one answer. Missing is a value: counted and shown, never dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from offtarget.errors import InputError
from offtarget.replies import Reply

Missing = Literal["refusal", "parse_failure", "truncated", "error"]
"""Why there is no verdict: the judge declined, said what cannot be read, was cut off before it said it, or did not reply at all."""

MISSING: tuple[Missing, ...] = get_args(Missing)


@dataclass(frozen=True)
class Verdict:
    """Of one answer, by one rubric and one judge.

    Attributes:
        rubric: the rubric's id.
        judge: who read the answer.
        value: a label, or a number on the rubric's scale; None where it is missing.
        missing: why there is none; None where there is one.
        reply: what the judge replied, as it stands; None for judges that need not ask.
        mass: for a rating that is an expected value, the probability of the number tokens that it is over; None for all others.

    Raises:
        InputError: there is neither a value nor a reason why not, or both.
    """

    rubric: str
    judge: str
    value: str | float | None = None
    missing: Missing | None = None
    reply: Reply | None = None
    mass: float | None = None

    def __post_init__(self) -> None:
        if self.missing is not None and self.missing not in MISSING:
            raise InputError(f"verdict by {self.judge!r} is missing by {self.missing!r}; use one of {', '.join(MISSING)}")
        if (self.value is None) == (self.missing is None):
            raise InputError(f"verdict by {self.judge!r} has value {self.value!r} and missing {self.missing!r}; give it one of them")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise InputError(f"verdict by {self.judge!r} has value {self.value}; where there is no number, say why it is missing")

    @property
    def number(self) -> float | None:
        """The value where it is a number, else None."""
        return None if self.value is None or isinstance(self.value, str) else float(self.value)

    def to_json(self) -> dict[str, Any]:
        """The verdict as `from_json` reads it."""
        reply = None if self.reply is None else self.reply.to_json()
        return {
            "rubric": self.rubric,
            "judge": self.judge,
            "value": self.value,
            "missing": self.missing,
            "reply": reply,
            "mass": self.mass,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Verdict:
        reply = None if record["reply"] is None else Reply.from_json(record["reply"])
        return cls(record["rubric"], record["judge"], record["value"], record["missing"], reply, record["mass"])
