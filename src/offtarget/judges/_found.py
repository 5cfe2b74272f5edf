"""Verdicts of judges that look for texts themselves and ask nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from offtarget.batteries import Rubric
from offtarget.errors import InputError

from ._answer import Answer
from ._verdict import Verdict


def verdicts_of(
    judge: str, answers: Sequence[Answer], rubric: Rubric, labels: Iterable[str], labels_of: Callable[[Answer], Collection[str]],
    otherwise: str | None,
) -> list[Verdict]:  # fmt: skip
    """One verdict on each answer: its label, or `otherwise` if it has none; several labels, and none at all, are a parse failure.

    Args:
        labels: all that `labels_of` may give.

    Raises:
        InputError: one of them, or `otherwise`, is a label that the rubric does not have.
    """
    _check_labels(judge, labels, otherwise, rubric)
    found = [labels_of(answer) or ([otherwise] if otherwise else []) for answer in answers]
    return [
        Verdict(rubric.id, judge, next(iter(labels))) if len(labels) == 1 else Verdict(rubric.id, judge, missing="parse_failure")
        for labels in found
    ]


def _check_labels(judge: str, labels: Iterable[str], otherwise: str | None, rubric: Rubric) -> None:
    strange = [x for x in (*labels, *([otherwise] if otherwise else [])) if x not in rubric.labels]
    if strange:
        known = ", ".join(rubric.labels) or "none"
        raise InputError(f"the {judge} judge gives the label {strange[0]!r}, and rubric {rubric.id!r} has {known}; use those")
