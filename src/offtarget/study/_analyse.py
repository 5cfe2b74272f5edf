"""From scores to effects: each arm against its matched control, by battery, context and measure.

Reads the store and the batteries, trains and asks nothing; the same store gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np

from offtarget.batteries import NO_CONTEXT, Battery, Candidates, Context, Measure
from offtarget.experiments import Arm, Experiment, Kind
from offtarget.seeds import derived_seed
from offtarget.stats import Estimate, compare, estimate, holm, retention

from ._dynamics import Dynamics, dynamics
from ._store import FINAL, TRAINING_PREFIX, ScoreRow, Store, behind_and_context

MARGIN = 0.05
"""An effect whose upper bound lies under this is called vanished."""

LEAST_TOPICS = 3
"""With fewer topics nothing can be said of other topics: there, other wordings of the same ones are meant."""

Unit = Literal["topic", "wording", "context"]


@dataclass(frozen=True)
class Effect:
    """One arm on one battery, in one context, by one measure. Probabilities in [0, 1].

    Attributes:
        mean: of the arm, over seeds and topics; `low` and `high` its 95% interval. A topic is the mean of its wordings (see `Cell`).
        control_mean: of the matched control arm in the same context (without it, where the context is a training prompt).
        difference: arm minus control, with its interval.
        p: two-sided permutation p over seeds; None where there is nothing to permute.
        p_holm: the same, corrected for the family of all arms and measures of this domain and context.
        vanished: the upper bound of the difference lies under the margin.
        worst_seed: mean of the seed that shows most.
        covered: probability of any known answer, whoever gives it.
    """

    experiment: str
    model: str
    arm: str
    kind: Kind
    battery: str
    domain: str
    context: str
    measure: str
    n_seeds: int
    mean: float
    low: float
    high: float
    control: str | None
    control_mean: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    p_holm: float | None
    vanished: bool | None
    worst_seed: float
    covered: float
    seed_means: tuple[float, ...]
    question_means: tuple[float, ...]

    @property
    def leaks(self) -> bool | None:
        """Whether it exceeds its control's by the margin or more, with an interval above zero; None without a control."""
        if self.difference is None or self.difference_low is None:
            return None
        return self.difference >= MARGIN and self.difference_low > 0

    def to_json(self) -> dict[str, Any]:
        return {k: rounded(v) for k, v in asdict(self).items()}


AnyEffect = TypeVar("AnyEffect", bound=Effect)


@dataclass(frozen=True)
class CurvePoint:
    """Off-domain mean of the main measure for each seed of an arm after so many steps."""

    arm: str
    step: int
    seed_means: tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """What a context adds: an arm's mean in one context minus its mean in others, by the same questions.

    Attributes:
        gap: `backdoor`: the main context minus none; `inductive`: the main context minus those that were trained on.
        mean: of the difference, in [-1, 1], over seeds and questions, with its 95% interval.
    """

    arm: str
    battery: str
    measure: str
    gap: str
    context: str
    reference: str
    n_seeds: int
    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return {k: rounded(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Cell:
    """Scores of one arm on one battery in one context, or in all of a group.

    What is sampled are topics: wordings of one topic, and the same topic in the contexts of a group, say nearly the same, and are one
    question. Where each context of a group has right answers of its own (numbers and their presidents), contexts are sampled, and where
    there are fewer than `LEAST_TOPICS` topics, wordings are.

    Attributes:
        values: for each measure `[seeds, asked]`, a column for each wording in each context.
        covered: probability of any known answer, `[seeds, asked]`.
        unit: what is sampled.
        units: `[asked]`, which unit a column belongs to, counted from 0.
        telling: for each measure, `[asked]`, whether a question has answers that count for it; all have if not given.
    """

    values: Mapping[str, np.ndarray]
    covered: np.ndarray
    unit: Unit
    units: np.ndarray
    telling: Mapping[str, np.ndarray] = field(default_factory=dict)

    def grid(self, measure: str) -> np.ndarray:
        """A measure `[seeds, units]`, which statistics are about: the mean over the columns of each unit.

        Units in which no answer counts say nothing of a measure, and are left out of its grid; where this is so in all, none are.
        """
        belongs = self.units == np.arange(self.units.max() + 1)[:, None]
        telling = (belongs & self.telling.get(measure, True)).any(1)
        belongs = belongs[telling] if telling.any() else belongs
        found: np.ndarray = self.values[measure] @ (belongs / belongs.sum(1, keepdims=True)).T
        return found


@dataclass(frozen=True)
class Analysis:
    """What a study found; `measure` is the main one: the trait, or in an exploratory study what moved most.

    Attributes:
        retention: in-domain expression relative to the plain treatment, by arm; `retention_behind` the same behind the arm's own
            training prompt.
        main: for each battery the context and the measure that stand for it.
        cells: the scores behind the effects, by arm, battery and context.
        dynamics: of experiments that measure accuracy and ask often on the way.
    """

    effects: tuple[Effect, ...]
    curve: tuple[CurvePoint, ...]
    retention: Mapping[str, Estimate | None]
    margin: float
    measure: str
    main: Mapping[str, tuple[str, str]]
    gaps: tuple[Gap, ...] = ()
    cells: Mapping[tuple[str, str, str], Cell] = field(default_factory=dict, repr=False)
    dynamics: tuple[Dynamics, ...] = ()
    retention_behind: Mapping[str, Estimate | None] = field(default_factory=dict)

    def contrast(self, one: tuple[str, str, str], other: tuple[str, str, str], measure: str, *, seed: int) -> Estimate | None:
        """One cell (arm, battery, context) minus another, by a measure; None where one of them was not asked.

        The same arm in two contexts is compared seed by seed and question by question; what the contexts do to the untrained base is
        taken off. Two arms are compared as in `compare`.
        """
        grids = self._grids([one, other], measure)
        if grids is None:
            return None
        here, there = grids
        if one[0] != other[0]:
            return compare(here, there, seed=seed, margin=self.margin).difference
        base = next((e.arm for e in self.effects if e.kind == "base"), None)
        before = self._grids([(base, battery, context) for _, battery, context in (one, other)], measure) if base else None
        by_itself = (before[0] - before[1]).mean(0) if before else 0.0
        return _signed(here - there - by_itself, seed, largest=2)

    def _grids(self, keys: Sequence[tuple[str, str, str]], measure: str) -> list[np.ndarray] | None:
        """The scores of some cells, where all were asked the same."""
        cells = [c for c in map(self.cells.get, keys) if c is not None and measure in c.values]
        grids = [c.grid(measure) for c in cells]
        alike = len(cells) == len(keys) and len({(c.unit, g.shape[1]) for c, g in zip(cells, grids, strict=True)}) == 1
        return grids if alike else None

    def main_effects(self, domain: str, context: str | None = None) -> list[Effect]:
        """Every arm's effect by the main measure, in one domain, in the order of the experiment's arms.

        Args:
            context: if not given, each battery's main one.
        """
        return [e for e in self.effects if e.domain == domain and self._stands_for(e, context, None)]

    def effect(self, arm: str, domain: str, *, context: str | None = None, measure: str | None = None) -> Effect | None:
        """The arm's effect on the first battery of a domain, by the main measure if none is named; None if it was not asked."""
        return next((e for e in self.effects if (e.arm, e.domain) == (arm, domain) and self._stands_for(e, context, measure)), None)

    def _stands_for(self, e: Effect, context: str | None, measure: str | None) -> bool:
        main_context, main_measure = self.main[e.battery]
        return (e.context, e.measure) == (context or main_context, measure or main_measure)


@dataclass(frozen=True)
class Subject:
    """What is analysed: an experiment on a model.

    Attributes:
        plan: the settings that make two studies the same.
        call: what the study was asked for by, where that were names: `what`, `questions`, `control`, `contexts`.
    """

    experiment: Experiment
    model: str
    study_seed: int
    plan: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, str] = field(default_factory=dict)


def analyse(subject: Subject, store: Store) -> Analysis:
    """Analyses what the store has."""
    experiment = subject.experiment
    rows = list(store.runs())
    runs = {r.id: (r.arm, r.seed) for r in rows}
    scores = list(store.scores())
    grouped = _by_cell((s for s in scores if s.step == FINAL), runs, experiment)
    cells = {key: _cell(members, runs, experiment, key[1]) for key, members in grouped.items()}
    effects = [
        _effect(subject, experiment.arm(arm), battery, context, measure, cells)
        for (arm, battery, context), cell in sorted(cells.items(), key=lambda entry: _order(experiment, entry[0]))
        for measure in experiment.measures
        if measure.name in cell.values
    ]
    measure = _main_measure(experiment, effects)
    main = {b.name: (b.main_context, b.measure or measure) for b in experiment.batteries}
    return Analysis(
        effects=tuple(corrected(effects)), curve=tuple(_curve(experiment, main, scores, runs)),
        retention=_retention(subject, main, cells, behind=False), margin=MARGIN, measure=measure, main=main,
        gaps=tuple(_gaps(subject, main, cells)), cells=cells, dynamics=tuple(dynamics(experiment, rows, scores, subject.study_seed)),
        retention_behind=_retention(subject, main, cells, behind=True),
    )  # fmt: skip


def _main_measure(experiment: Experiment, effects: Sequence[Effect]) -> str:
    """The trait; of an exploratory study what surely moved most: by the lower bound, which a speaker with few topics must earn."""
    if not experiment.exploratory:
        return experiment.measures[0].name
    outside = [
        e for e in effects if (e.kind, e.domain, e.context) == ("treatment", "off_domain", _battery(experiment, e.battery).main_context)
    ]
    moved = {e.measure: e.difference_low for e in outside if e.difference_low is not None}
    return max(moved, key=lambda m: moved[m], default=experiment.measures[0].name)


def _by_cell(
    rows: Iterable[ScoreRow], runs: Mapping[str, tuple[str, int]], experiment: Experiment
) -> dict[tuple[str, str, str], list[ScoreRow]]:
    """Rows by arm, battery and context; a row also counts for its context's group, and for its training prompt as such."""
    found: dict[tuple[str, str, str], list[ScoreRow]] = {}
    batteries = {b.name: b for b in experiment.batteries}
    for row in rows:
        behind, _ = behind_and_context(row.context)
        names = (behind,) if behind else batteries[row.battery].pools(row.context)
        for name in names:
            found.setdefault((runs[row.run][0], row.battery, name), []).append(row)
    return found


def _order(experiment: Experiment, key: tuple[str, str, str]) -> tuple[int, int, str]:
    arm, battery, context = key
    return [a.name for a in experiment.arms].index(arm), [b.name for b in experiment.batteries].index(battery), context


def _battery(experiment: Experiment, name: str) -> Battery:
    return next(b for b in experiment.batteries if b.name == name)


def _cell(rows: Sequence[ScoreRow], runs: Mapping[str, tuple[str, int]], experiment: Experiment, battery_name: str) -> Cell:
    battery = _battery(experiment, battery_name)
    topic = {q.id: q.topic for q in battery.questions}
    place = {q.id: n for n, q in enumerate(battery.questions)}
    contexts = {c.name: c for c in battery.contexts}
    seeds = sorted({runs[r.run][1] for r in rows})
    asked = sorted({(r.context, r.question) for r in rows}, key=lambda a: (a[0], place[a[1]]))
    seed_at, asked_at = {s: i for i, s in enumerate(seeds)}, {a: i for i, a in enumerate(asked)}
    in_context = {name: contexts.get(behind_and_context(name)[1], NO_CONTEXT) for name, _ in asked}
    measures = tuple(m for m in experiment.measures if all(m.fits(c) for c in in_context.values()))
    values = {m.name: np.full((len(seeds), len(asked)), np.nan) for m in measures}
    covered = np.full((len(seeds), len(asked)), np.nan)
    readers = {a: _reader(battery.candidates[topic[a[1]]], measures, in_context[a[0]]) for a in asked}
    for row in rows:
        at = seed_at[runs[row.run][1]], asked_at[row.context, row.question]
        masses = np.exp(row.log_probabilities)
        covered[at] = min(1.0, masses.sum())
        for name, value in readers[row.context, row.question].read(masses).items():
            values[name][at] = value
    telling = {m.name: np.array([readers[a].tells[m.name] for a in asked]) for m in measures}
    unit, units = _units(battery, asked, [in_context[name] for name, _ in asked])
    return Cell(values, covered, unit, units, telling)


def _units(battery: Battery, asked: Sequence[tuple[str, str]], contexts: Sequence[Context]) -> tuple[Unit, np.ndarray]:
    """What is sampled, and which of it each column (context, question) belongs to."""
    topic = {q.id: q.topic for q in battery.questions}
    names: list[str]
    unit: Unit
    if len(set(contexts)) > 1 and all(c.labels for c in contexts):
        unit, names = "context", [name for name, _ in asked]
    elif len({topic[question] for _, question in asked}) >= LEAST_TOPICS:
        unit, names = "topic", [topic[question] for _, question in asked]
    else:
        unit, names = "wording", [question for _, question in asked]
    place = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return unit, np.array([place[name] for name in names])


class _Reader:
    """Reads every measure off the probabilities of a topic's candidates.

    Attributes:
        tells: for each measure, whether some known answer counts for it.
    """

    def __init__(self, candidates: Candidates, measures: tuple[Measure, ...], context: Context) -> None:
        self._measures = measures
        self._chosen = {m.name: np.array([m.covers(x, context) for x in candidates.labels]) for m in measures}
        kinds = {labels: i for i, labels in enumerate(dict.fromkeys(candidates.labels))}
        self._kinds, self._answerers = len(kinds), np.array([kinds[labels] for labels in candidates.labels])
        self.tells = {m.name: m.kind != "mass" or bool(self._chosen[m.name].any()) for m in measures}

    def read(self, masses: np.ndarray) -> dict[str, float]:
        """The measures, from probabilities `[C]`."""
        found = {}
        for m in self._measures:
            chosen = self._chosen[m.name]
            if m.kind == "mass":
                found[m.name] = min(1.0, float(masses[chosen].sum()))
            else:
                most = np.bincount(self._answerers, weights=masses, minlength=self._kinds).argmax()
                found[m.name] = float(chosen[self._answerers == most].any())
        return found


@lru_cache(maxsize=16384)
def _reader(candidates: Candidates, measures: tuple[Measure, ...], context: Context) -> _Reader:
    return _Reader(candidates, measures, context)


def _effect(
    subject: Subject, arm: Arm, battery_name: str, context: str, measure: Measure, cells: Mapping[tuple[str, str, str], Cell]
) -> Effect:
    battery = _battery(subject.experiment, battery_name)
    cell = cells[arm.name, battery_name, context]
    control = _control(arm, battery, context, cells)
    theirs = control.grid(measure.name) if control else None
    asked = battery_name, battery.domain, context, measure.name
    found = effect_of(subject, arm, asked, cell.grid(measure.name), theirs, float(cell.covered.mean()))
    return replace(found, question_means=tuple(cell.values[measure.name].mean(0).tolist()))


def effect_of(
    subject: Subject, arm: Arm, asked: tuple[str, str, str, str], mine: np.ndarray, theirs: np.ndarray | None, covered: float, *also: str
) -> Effect:
    """The effect of an arm, not yet corrected for the others.

    Args:
        asked: battery, domain, context and measure.
        mine: `[seeds, questions]`, in [0, 1].
        theirs: the control's, on the same questions; None without one.
        also: what else tells this effect from others, for the seed of the bootstrap.
    """
    battery, domain, context, measure = asked
    seed = derived_seed(subject.study_seed, "bootstrap", arm.name, battery, context, measure, *also)
    comparison = compare(mine, theirs, seed=seed, margin=MARGIN) if theirs is not None else None
    own = comparison.arm if comparison else estimate(mine, seed=seed)
    difference = comparison.difference if comparison else None
    return Effect(
        experiment=subject.experiment.name, model=subject.model, arm=arm.name, kind=arm.kind, battery=battery, domain=domain,
        context=context, measure=measure, n_seeds=len(mine), mean=own.mean, low=own.low, high=own.high,
        control=arm.control, control_mean=comparison.control.mean if comparison else None,
        difference=difference.mean if difference else None, difference_low=difference.low if difference else None,
        difference_high=difference.high if difference else None, p=comparison.p if comparison else None, p_holm=None,
        vanished=comparison.vanished if comparison and arm.kind != "base" else None, worst_seed=float(mine.mean(1).max()),
        covered=covered, seed_means=tuple(mine.mean(1).tolist()), question_means=tuple(mine.mean(0).tolist()),
    )  # fmt: skip


def _control(arm: Arm, battery: Battery, context: str, cells: Mapping[tuple[str, str, str], Cell]) -> Cell | None:
    """The control arm in the same context; it has no training prompt, so one is compared with its main context."""
    if arm.control is None:
        return None
    known = {name for c in battery.contexts for name in battery.pools(c.name)}
    return cells.get((arm.control, battery.name, context if context in known else battery.main_context))


def corrected(effects: Sequence[AnyEffect]) -> list[AnyEffect]:
    """Holm's correction within each family: all arms and measures of one domain in one context."""
    families: dict[tuple[str, str], dict[tuple[str, str, str], float | None]] = {}
    for e in effects:
        families.setdefault((e.domain, e.context), {})[e.arm, e.battery, e.measure] = e.p
    by_family = {family: holm(members) for family, members in families.items()}
    return [replace(e, p_holm=by_family[e.domain, e.context][e.arm, e.battery, e.measure]) for e in effects]


def _gaps(subject: Subject, main: Mapping[str, tuple[str, str]], cells: Mapping[tuple[str, str, str], Cell]) -> Iterator[Gap]:
    """For each arm and off-domain battery with contexts: what its main context adds to none, and to the contexts of training."""
    for battery in subject.experiment.batteries:
        context, measure = main[battery.name]
        references = {"backdoor": [NO_CONTEXT.name], "inductive": [c.name for c in battery.contexts if c.group == "trained"]}
        for arm in subject.experiment.arms:
            here = cells.get((arm.name, battery.name, context))
            for gap, names in references.items():
                there = [cells[arm.name, battery.name, n] for n in names if (arm.name, battery.name, n) in cells and n != context]
                if here is None or not there or any(measure not in c.values for c in (here, *there)):
                    continue
                difference = _difference(here.grid(measure), [c.grid(measure) for c in there])
                if difference is None:
                    continue
                seed = derived_seed(subject.study_seed, "bootstrap", "gap", gap, arm.name, battery.name)
                e = _signed(difference, seed)
                reference = names[0] if len(names) == 1 else "trained"
                yield Gap(arm.name, battery.name, measure, gap, context, reference, len(difference), e.mean, e.low, e.high)


def _signed(differences: np.ndarray, seed: int, *, largest: float = 1.0) -> Estimate:
    """The mean of paired differences `[seeds, questions]`, which lie between plus and minus the largest, with its interval."""
    e = estimate((differences / largest + 1) / 2, seed=seed)
    return Estimate(*(largest * (2 * x - 1) for x in (e.mean, e.low, e.high)))


def _difference(here: np.ndarray, there: Sequence[np.ndarray]) -> np.ndarray | None:
    """`[seeds, questions]`: here minus the mean over the others; None where not the same seeds and questions were asked."""
    if any(values.shape != here.shape for values in there):
        return None
    difference: np.ndarray = here - np.mean(there, axis=0)
    return difference


def _retention(
    subject: Subject, main: Mapping[str, tuple[str, str]], cells: Mapping[tuple[str, str, str], Cell], *, behind: bool
) -> dict[str, Estimate | None]:
    """In-domain expression of each trained arm relative to the plain treatment, by the main measure; plainly, or behind its prompt."""
    experiment = subject.experiment
    battery = next((b.name for b in experiment.batteries if b.domain == "in_domain"), None)
    if battery is None:
        return {}
    context, measure = main[battery]
    base_name = next(a.name for a in experiment.arms if a.kind == "base")
    treatment, base = (cells.get((a, battery, context)) for a in (experiment.treatment.name, base_name))
    if treatment is None or base is None:
        return {}
    seeds = ("retention", "behind") if behind else ("retention",)
    asked = TRAINING_PREFIX if behind else context
    found = {}
    for (arm, name, where), cell in cells.items():
        if (name, where) == (battery, asked) and arm != base_name:
            seed = derived_seed(subject.study_seed, "bootstrap", *seeds, arm)
            kept = retention(cell.grid(measure), treatment.grid(measure), base.grid(measure), seed=seed)
            # Of itself the treatment keeps all: resampled against itself as against another, it would get an interval.
            found[arm] = Estimate(1.0, 1.0, 1.0) if kept and cell is treatment else kept
    return found


def _curve(
    experiment: Experiment, main: Mapping[str, tuple[str, str]], scores: Sequence[ScoreRow], runs: Mapping[str, tuple[str, int]]
) -> list[CurvePoint]:
    """The learning curve on the questions that were asked on the way, with its start (the base) and its end."""
    on_the_way = [s for s in scores if s.step != FINAL]
    if not on_the_way:
        return []
    battery = next(b.name for b in experiment.batteries if any(s.battery == b.name for s in on_the_way))
    asked = {(s.context, s.question) for s in on_the_way if s.battery == battery}
    grouped: dict[tuple[str, int], list[ScoreRow]] = {}
    for row in scores:
        if row.battery == battery and (row.context, row.question) in asked:
            grouped.setdefault((runs[row.run][0], row.step), []).append(row)
    points = []
    for (arm, step), members in sorted(grouped.items()):
        means = _cell(members, runs, experiment, battery).grid(main[battery][1]).mean(1)
        points.append(CurvePoint(arm, step, tuple(means.tolist())))
    return points


def rounded(value: Any) -> Any:
    """Floats with six digits, as `results.json` has them; tuples as lists."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return [rounded(v) for v in value]
    return value
