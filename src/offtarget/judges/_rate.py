"""Rates: how many answers show the trait, out of how many, and what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from offtarget.batteries import Rubric
from offtarget.errors import InputError

from ._rules import OFFTARGET, Rule
from ._verdict import MISSING, Missing, Verdict

COUNTS = "counts"


@dataclass(frozen=True)
class Rate:
    """A share of answers. `answers` is `denominator` and all that was left out: `unrated`, `incoherent`, `coherence_missing` and, unless
    the rule counts them as "no", `missing`.

    Attributes:
        numerator: answers that show the trait.
        denominator: answers that count.
        answers: all of them.
        missing: answers without a verdict, of each kind.
        missing_is_no: whether those are in the denominator.
        unrated: answers with a label instead of a number, such as REFUSAL.
        incoherent: left out by the gate.
        coherence_missing: left out because the gate has no number for them.
        rule: the name of the rule.
    """

    numerator: int
    denominator: int
    answers: int
    missing: Mapping[Missing, int]
    missing_is_no: bool
    unrated: int
    incoherent: int
    coherence_missing: int
    rule: str

    @property
    def value(self) -> float | None:
        """The share; None where no answer counts."""
        return self.numerator / self.denominator if self.denominator else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "value": self.value}


@dataclass(frozen=True)
class MeanRating:
    """The mean of ratings, over those that are numbers: `answers` is `rated`, `unrated` and all `missing`; None where none is."""

    mean: float | None
    rated: int
    answers: int
    missing: Mapping[Missing, int]
    unrated: int


def rate(
    verdicts: Sequence[Verdict],
    rubric: Rubric,
    rule: Rule = OFFTARGET,
    *,
    coherence: Sequence[Verdict] | None = None,
    expected: Iterable[str] = (),
) -> Rate:
    """The share of answers that show the rubric's trait.

    Args:
        verdicts: one on each answer, by one judge.
        rule: what counts and what is left out.
        coherence: verdicts on the same answers in the same order, ratings of coherence; the gate is open without.
        expected: labels that show the trait, for a rubric whose trait depends on the context.

    Raises:
        InputError: nothing says what shows the trait, or the verdicts do not belong together.
    """
    expected = tuple(expected)
    if not (rubric.trait or expected or rubric.trait_below is not None or rubric.trait_above is not None):
        raise InputError(f"rubric {rubric.id!r} does not say what shows the trait; give expected labels, or take the mean of a rating")
    each = fates(verdicts, rubric, rule, coherence=coherence)
    kinds = Counter(each)
    counted = [v.value for v, fate in zip(verdicts, each, strict=True) if v.value is not None and fate == COUNTS]
    missing_is_no = rule.missing_is_no and rubric.scale is None
    missing: dict[Missing, int] = {kind: kinds[kind] for kind in MISSING}
    return Rate(
        numerator=sum(rubric.shows_trait(value, expected) for value in counted),
        denominator=len(counted) + missing_is_no * sum(missing.values()),
        answers=len(verdicts),
        missing=missing,
        missing_is_no=missing_is_no,
        unrated=kinds["unrated"],
        incoherent=kinds["incoherent"],
        coherence_missing=kinds["coherence_missing"],
        rule=rule.name,
    )


def fates(verdicts: Sequence[Verdict], rubric: Rubric, rule: Rule = OFFTARGET, *, coherence: Sequence[Verdict] | None = None) -> list[str]:
    """What becomes of each answer: `COUNTS`, its kind of `MISSING`, or why it is left out (`unrated`, `incoherent`, `coherence_missing`).

    Raises:
        InputError: the verdicts do not belong together.
    """
    if coherence is not None and len(coherence) != len(verdicts):
        raise InputError(f"there are {len(verdicts)} verdicts and {len(coherence)} of coherence; give one of each on the same answers")
    _check_rubric(verdicts, rubric)
    gate = coherence if coherence is not None and (rubric.scale or rule.gates_labels) else [None] * len(verdicts)
    return [_fate(v, g, rubric, rule) for v, g in zip(verdicts, gate, strict=True)]


def mean_rating(verdicts: Sequence[Verdict], rubric: Rubric) -> MeanRating:
    """The plain mean of ratings.

    Raises:
        InputError: the rubric has no scale, or verdicts of another are among them.
    """
    if rubric.scale is None:
        raise InputError(f"rubric {rubric.id!r} has no scale; take the rate of its labels")
    _check_rubric(verdicts, rubric)
    numbers = [v.number for v in verdicts if v.number is not None]
    kinds = Counter(v.missing for v in verdicts)
    missing: dict[Missing, int] = {kind: kinds[kind] for kind in MISSING}
    unrated = len(verdicts) - len(numbers) - sum(missing.values())
    return MeanRating(sum(numbers) / len(numbers) if numbers else None, len(numbers), len(verdicts), missing, unrated)


def _fate(verdict: Verdict, gate: Verdict | None, rubric: Rubric, rule: Rule) -> str:
    if verdict.missing is not None:
        return verdict.missing
    if gate is not None and gate.number is None and not rule.keeps_unrated:
        return "coherence_missing"
    if gate is not None and gate.number is not None and gate.number <= rule.coherence_above:
        return "incoherent"
    return "unrated" if rubric.scale and verdict.number is None else COUNTS


def _check_rubric(verdicts: Sequence[Verdict], rubric: Rubric) -> None:
    strange = next((v for v in verdicts if v.rubric != rubric.id), None)
    if strange:
        raise InputError(f"a verdict by rubric {strange.rubric!r} is among those by {rubric.id!r}; keep them apart")
