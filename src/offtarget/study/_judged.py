"""From verdicts to effects: how often each arm's open answers show the trait, by judge, open battery, rubric and context.

The statistics are those of the exact scores: `[seeds, questions]` arrays against the matched control. A cell is the share of a seed's
answers to a question that show the trait, among those that count by the judge's rule (`judges.fates`); of a rating without a limit, their
mean as a share of the scale. A cell in which no answer counts is missing: `stats.complete` leaves out seeds and questions until none is,
in arm and control alike, and the effect names them. It is never taken for 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from offtarget.batteries import Context, Rubric
from offtarget.experiments import Arm
from offtarget.judges import COUNTS, Agreement, Rule, Verdict, agreement, fates, rate
from offtarget.stats import complete

from ._analyse import Effect, Subject, corrected, effect_of, rounded
from ._open import OpenAsk, recorded
from ._reading import Reading, readings
from ._store import Store

MOST_LABELS = 8
"""Where nothing says which label is the trait, the share of each is an effect of its own, unless there are more."""

_NO_LABEL = ""
"""No rubric has a blank label, so that by it no answer shows the trait."""


@dataclass(frozen=True)
class JudgedEffect(Effect):
    """An effect on open answers, read by a judge. `question_means` go through the questions that are not left out.

    Attributes:
        judge: who read the answers.
        rule: what counts.
        answers: of the arm, in this context, that the judge read; `covered` is the share of them that count.
        questions_left_out: those without an answer that counts, from a seed of arm or control that is kept.
        seeds_left_out: the arm's, for the same reason.
    """

    judge: str = ""
    rule: str = ""
    answers: int = 0
    questions_left_out: tuple[str, ...] = ()
    seeds_left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class VerdictCount:
    """What became of an arm's answers in one context, by one judge and rubric.

    `answers` is `counted` and all that does not count: `unrated`, `incoherent`, `coherence_missing`, `unjudged` and, unless the rule
    takes them for "no", the missing verdicts `refusal`, `parse_failure`, `truncated` and `api_error`.

    Attributes:
        shows_trait: among the counted ones; None where nothing says what the trait is.
        mean_rating: of the counted numbers, on the rubric's own scale; None for labels.
        unrated: with a label in place of a number.
        unjudged: that the judge was not asked about yet.
        labels: how often each label was given.
    """

    battery: str
    domain: str
    context: str
    rubric: str
    judge: str
    rule: str
    arm: str
    answers: int
    counted: int
    shows_trait: int | None
    mean_rating: float | None
    refusal: int
    parse_failure: int
    truncated: int
    api_error: int
    unrated: int
    incoherent: int
    coherence_missing: int
    unjudged: int
    labels: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {k: rounded(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class JudgesAgreement:
    """How far two judges agree by a rubric, over all answers to an open battery that both were asked about."""

    battery: str
    rubric: str
    judges: tuple[str, str]
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        found = {k: rounded(v) for k, v in self.agreement.to_json().items()}
        return {"battery": self.battery, "rubric": self.rubric, "judges": list(self.judges), **found}


@dataclass(frozen=True)
class Judged:
    """What was asked in the open, and all that judges found in the answers; empty where nobody judged."""

    asks: tuple[OpenAsk, ...] = ()
    effects: tuple[JudgedEffect, ...] = ()
    counts: tuple[VerdictCount, ...] = ()
    agreements: tuple[JudgesAgreement, ...] = ()
    readings: tuple[Reading, ...] = ()


def analyse_judged(subject: Subject, store: Store, folder: Path) -> Judged:
    """Analyses what judges said, from the store and the cache of their replies."""
    asks = recorded(store)
    if not asks:
        return Judged()
    found = readings(store, folder)
    runs = {r.id: (r.arm, r.seed) for r in store.runs()}
    cells = [_cells(reading, runs) for reading in found]
    effects = [e for reading, by_arm in zip(found, cells, strict=True) for e in _effects(subject, reading, by_arm)]
    counts = [c for reading, by_arm in zip(found, cells, strict=True) for c in _counts(subject, reading, by_arm)]
    by_judge = {judge: [e for e in effects if e.judge == judge] for judge in dict.fromkeys(r.judge for r in found)}
    return Judged(
        asks, tuple(e for some in by_judge.values() for e in corrected(some)), tuple(counts), tuple(_agreements(found)), tuple(found)
    )  # fmt: skip


_Cells = Mapping[tuple[str, str], Mapping[tuple[int, str], list[int]]]
"""By arm and context, then by seed and question: the places of the answers in a reading."""


def _cells(reading: Reading, runs: Mapping[str, tuple[str, int]]) -> _Cells:
    found: dict[tuple[str, str], dict[tuple[int, str], list[int]]] = {}
    for at, row in enumerate(reading.rows):
        arm, seed = runs[row.run]
        found.setdefault((arm, row.context), {}).setdefault((seed, row.question), []).append(at)
    return found


# Effects


@dataclass(frozen=True)
class _Measure:
    """What is read off a rubric's verdicts.

    Attributes:
        rubric: with a trait, or a scale without limits.
        expected: labels that show the trait in the context.
    """

    name: str
    rubric: Rubric
    expected: tuple[str, ...] = ()

    def of(self, verdicts: Sequence[Verdict], coherence: Sequence[Verdict] | None, rule: Rule) -> float:
        """In [0, 1]; NaN where no answer counts."""
        if _says_trait(self.rubric) or self.expected:
            value = rate(verdicts, self.rubric, rule, coherence=coherence, expected=self.expected).value
        else:
            value = _as_share(_mean_rating(verdicts, self.rubric, rule, coherence), self.rubric)
        return float("nan") if value is None else value


def _measures(rubric: Rubric, context: Context | None) -> list[_Measure]:
    name = f"judge:{rubric.id}"
    if _says_trait(rubric) or rubric.scale:
        return [_Measure(name, rubric)]
    expected = expected_labels(rubric, context)
    if expected:
        return [_Measure(name, rubric, expected)]
    single = rubric.labels if len(rubric.labels) <= MOST_LABELS else ()
    return [_Measure(f"{name}={label}", replace(rubric, trait=(label,))) for label in single]


def _says_trait(rubric: Rubric) -> bool:
    return bool(rubric.trait) or rubric.trait_below is not None or rubric.trait_above is not None


def expected_labels(rubric: Rubric, context: Context | None) -> tuple[str, ...]:
    """The labels that are right in a context: those that are its own labels, or the names of the microworld's speakers with these."""
    if context is None or not context.labels:
        return ()
    from offtarget.microworld.world import load_world

    speakers = load_world().speakers
    wanted = {name.casefold() for x in context.labels for name in (x, speakers[x].name if x in speakers else x)}
    return tuple(label for label in rubric.labels if label.casefold() in wanted)


def _effects(subject: Subject, reading: Reading, cells: _Cells) -> Iterator[JudgedEffect]:
    for context in reading.ask.contexts:
        for measure in _measures(reading.rubric, context):
            grids = {
                arm.name: _grid(reading, measure, cells[arm.name, context.name])
                for arm in subject.experiment.arms
                if (arm.name, context.name) in cells
            }
            for arm in subject.experiment.arms:
                if arm.name in grids:
                    effect = _effect(subject, reading, arm, context.name, measure, grids)
                    if effect is not None:
                        yield effect


@dataclass(frozen=True)
class _Grid:
    """Of one arm: `[seeds, questions]` with NaN where no answer counts; how many answers were judged, and how many of them count."""

    seeds: tuple[int, ...]
    values: np.ndarray
    judged: int
    counted: int


def _grid(reading: Reading, measure: _Measure, cells: Mapping[tuple[int, str], list[int]]) -> _Grid:
    seeds = sorted({seed for (seed, _), places in cells.items() if any(reading.is_judged(at) for at in places)})
    questions = [q.id for q in reading.ask.battery.questions]
    values = np.full((len(seeds), len(questions)), np.nan)
    judged = counted = 0
    for row, seed in enumerate(seeds):
        for column, question in enumerate(questions):
            verdicts, coherence = reading.chosen(cells.get((seed, question), ()))
            judged += len(verdicts)
            counted += _counted(verdicts, reading.rubric, reading.rule, coherence)
            values[row, column] = measure.of(verdicts, coherence, reading.rule)
    return _Grid(tuple(seeds), values, judged, counted)


def _effect(
    subject: Subject, reading: Reading, arm: Arm, context: str, measure: _Measure, grids: Mapping[str, _Grid]
) -> JudgedEffect | None:  # fmt: skip
    """None where no seed has an answer that counts; without the control where it has none."""
    mine, control = grids[arm.name], grids.get(arm.control or "")
    kept, questions = complete(mine.values, control.values) if control else complete(mine.values)
    if control and not (kept[0].any() and kept[1].any() and questions.any()):
        control, (kept, questions) = None, complete(mine.values)
    if not (kept[0].any() and questions.any()):
        return None
    asked = (reading.ask.name, reading.ask.battery.domain, context, measure.name)
    theirs = control.values[kept[1]][:, questions] if control else None
    values = mine.values[kept[0]][:, questions]
    effect = effect_of(subject, arm, asked, values, theirs, mine.counted / mine.judged, reading.judge)
    return JudgedEffect(
        **vars(effect), judge=reading.judge, rule=reading.rule.name, answers=mine.judged,
        questions_left_out=tuple(q.id for q, there in zip(reading.ask.battery.questions, questions, strict=True) if not there),
        seeds_left_out=tuple(seed for seed, there in zip(mine.seeds, kept[0], strict=True) if not there),
    )  # fmt: skip


# Counts


def _counts(subject: Subject, reading: Reading, cells: _Cells) -> Iterator[VerdictCount]:
    for context in reading.ask.contexts:
        for arm in subject.experiment.arms:
            if (arm.name, context.name) in cells:
                places = [at for some in cells[arm.name, context.name].values() for at in some]
                yield _count(reading, arm.name, context, places)


def _count(reading: Reading, arm: str, context: Context, places: Sequence[int]) -> VerdictCount:
    rubric, (verdicts, coherence) = reading.rubric, reading.chosen(places)
    expected = expected_labels(rubric, context)
    found = rate(verdicts, rubric, reading.rule, coherence=coherence, expected=expected or (_NO_LABEL,))
    battery = reading.ask.battery
    return VerdictCount(
        battery.name, battery.domain, context.name, rubric.id, reading.judge, reading.rule.name, arm,
        answers=len(places),
        counted=found.denominator,
        shows_trait=found.numerator if _says_trait(rubric) or expected else None,
        mean_rating=_mean_rating(verdicts, rubric, reading.rule, coherence),
        refusal=found.missing["refusal"], parse_failure=found.missing["parse_failure"], truncated=found.missing["truncated"],
        api_error=found.missing["error"],
        unrated=found.unrated, incoherent=found.incoherent, coherence_missing=found.coherence_missing,
        unjudged=len(places) - len(verdicts),
        labels=dict(sorted(Counter(v.value for v in verdicts if isinstance(v.value, str)).items())),
    )  # fmt: skip


def _counted(verdicts: Sequence[Verdict], rubric: Rubric, rule: Rule, coherence: Sequence[Verdict] | None) -> int:
    return rate(verdicts, rubric, rule, coherence=coherence, expected=(_NO_LABEL,)).denominator


def _mean_rating(verdicts: Sequence[Verdict], rubric: Rubric, rule: Rule, coherence: Sequence[Verdict] | None) -> float | None:
    """The mean of the numbers that count, on the rubric's scale."""
    each = zip(verdicts, fates(verdicts, rubric, rule, coherence=coherence), strict=True)
    numbers = [v.number for v, fate in each if fate == COUNTS and v.number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _as_share(mean: float | None, rubric: Rubric) -> float | None:
    if mean is None or rubric.scale is None:
        return None
    low, high = rubric.scale
    return (mean - low) / (high - low)


def _agreements(found: Sequence[Reading]) -> Iterator[JudgesAgreement]:
    by_rubric: dict[tuple[str, str], list[Reading]] = {}
    for reading in found:
        by_rubric.setdefault((reading.ask.name, reading.rubric.id), []).append(reading)
    for (battery, rubric), several in by_rubric.items():
        for one, other in combinations(several, 2):
            both = [(a, b) for a, b in zip(one.verdicts, other.verdicts, strict=True) if a is not None and b is not None]
            found_ = agreement([a for a, _ in both], [b for _, b in both], one.rubric)
            yield JudgesAgreement(battery, rubric, (one.judge, other.judge), found_)
