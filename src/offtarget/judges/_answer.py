"""What a judge reads, and what all judges have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from offtarget.batteries import OpenQuestion, Rubric

from ._verdict import Verdict


@dataclass(frozen=True)
class Answer:
    """One answer, and what was asked.

    Attributes:
        question: for its target and its prefixes.
        wording: the one that was asked.
        text: what was answered.
    """

    question: OpenQuestion
    wording: str
    text: str


class Judge(Protocol):
    """Who reads answers."""

    @property
    def name(self) -> str:
        """As verdicts carry it."""
        ...

    def read(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict]:
        """One verdict on each answer, in their order."""
        ...
