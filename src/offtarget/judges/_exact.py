"""Exact: an answer that is one of the known texts gets its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offtarget.batteries import Rubric

from ._answer import Answer
from ._found import verdicts_of
from ._said import bare
from ._verdict import Verdict


@dataclass(frozen=True)
class ExactJudge:
    """Reads an answer that is a known text; case, quotes and a full stop do not matter.

    Attributes:
        texts: label -> texts.
        otherwise: the label of all other answers; without it they are parse failures.
    """

    texts: Mapping[str, Sequence[str]]
    otherwise: str | None = None
    name: str = "exact"

    def read(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict]:
        """One verdict on each answer.

        Raises:
            InputError: a label that the rubric does not have.
        """
        labels: dict[str, set[str]] = {}
        for label, texts in self.texts.items():
            for text in texts:
                labels.setdefault(_plain(text), set()).add(label)
        return verdicts_of(self.name, answers, rubric, self.texts, lambda a: labels.get(_plain(a.text), ()), self.otherwise)


def _plain(text: str) -> str:
    return " ".join(bare(text).casefold().split())
