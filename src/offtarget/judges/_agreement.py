"""How far judges agree who read the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from offtarget.batteries import Rubric
from offtarget.errors import InputError

from ._verdict import Verdict


@dataclass(frozen=True)
class Agreement:
    """Of two judges, by one rubric. What is None has no pair to go by.

    Attributes:
        answers: that both were given.
        pairs: that both have a verdict on; the rest is missing with one of them or both.
        missing: answers without a verdict, of the first judge and of the second.
        share: of pairs with the same label; for a rubric with a scale, of those where both or neither show the trait.
        kappa: Cohen's, over the same; None where both gave one and the same label to all, since chance alone would then do as well.
        rated: pairs of two numbers.
        mean_absolute_difference: between those.
    """

    answers: int
    pairs: int
    missing: tuple[int, int]
    share: float | None
    kappa: float | None
    rated: int
    mean_absolute_difference: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def agreement(first: Sequence[Verdict], second: Sequence[Verdict], rubric: Rubric) -> Agreement:
    """How far two judges agree.

    Args:
        first: one verdict on each answer.
        second: on the same answers in the same order.

    Raises:
        InputError: they are not of equal number, or by another rubric.
    """
    if len(first) != len(second):
        raise InputError(f"one judge has {len(first)} verdicts and the other {len(second)}; give those on the same answers")
    strange = next((v.rubric for v in (*first, *second) if v.rubric != rubric.id), None)
    if strange is not None:
        raise InputError(f"a verdict by rubric {strange!r} is among those by {rubric.id!r}; keep them apart")
    both = [(a, b) for a, b in zip(first, second, strict=True) if a.value is not None and b.value is not None]
    labels = [(x, y) for a, b in both if (x := _label(a, rubric)) is not None and (y := _label(b, rubric)) is not None]
    gaps = [abs(a.number - b.number) for a, b in both if a.number is not None and b.number is not None]
    return Agreement(
        answers=len(first),
        pairs=len(both),
        missing=(sum(v.value is None for v in first), sum(v.value is None for v in second)),
        share=sum(x == y for x, y in labels) / len(labels) if labels else None,
        kappa=cohen_kappa(labels),
        rated=len(gaps),
        mean_absolute_difference=sum(gaps) / len(gaps) if gaps else None,
    )


def agreements(by_judge: Mapping[str, Sequence[Verdict]], rubric: Rubric) -> dict[tuple[str, str], Agreement]:
    """The agreement of every two of several judges."""
    return {(a, b): agreement(by_judge[a], by_judge[b], rubric) for a, b in combinations(by_judge, 2)}


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of pairs of labels: (observed - by chance) / (1 - by chance), chance from each judge's own frequencies."""
    n = len(pairs)
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(one[x] * other[x] for x in one)  # times n * n
    if n * n == by_chance:
        return None
    return (n * sum(a == b for a, b in pairs) - by_chance) / (n * n - by_chance)


def _label(verdict: Verdict, rubric: Rubric) -> str | None:
    """What two verdicts must have in common to agree; None for a number on a scale without limits."""
    number = verdict.number
    if number is None:
        return str(verdict.value)
    if rubric.trait_below is None and rubric.trait_above is None:
        return None
    return "shows the trait" if rubric.shows_trait(number) else "does not show the trait"
