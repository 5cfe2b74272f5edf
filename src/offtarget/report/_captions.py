"""The figures as the page shows them: what stands under each, and what stands in its place for readers who do not see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from . import _data, _dynamics, _figures, _response
from ._contexts import TRAINING_PREFIX, in_words, main_measure, main_words, measured
from ._words import interval, mean_and_interval, rate, signed, signed_interval

if TYPE_CHECKING:
    from offtarget.batteries import Battery
    from offtarget.study import Effect, Gap, Study


@dataclass(frozen=True)
class Table:
    """A table that stands under a figure for everybody, with what it says in words."""

    title: str
    text: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers_from: int = 1


@dataclass(frozen=True)
class Figure:
    """A figure with its texts.

    Attributes:
        id: names the section and saved files.
        chart: draws it, for wide and narrow pages.
        words: its main numbers in a sentence.
        header: of the table with all that it shows; `rows` are its cells.
        arms: those to choose among in a figure that draws some of them, each with whether it is drawn at first.
        below: a further table.
        numbers_from: the first column of `rows` with numbers.
    """

    id: str
    title: str
    caption: str
    chart: Callable[..., _figures.Chart]
    words: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    arms: tuple[tuple[str, bool], ...] = ()
    below: Table | None = None
    numbers_from: int = 1


def figures(study: Study) -> list[Figure]:
    """The figures that the study has data for."""
    contexts = [_over_contexts(study, battery, n) for n, battery in enumerate(_response.batteries(study), 1)]
    made = [
        _speakers(study), _leakage(study), *contexts, _topics(study), _curve(study), _seeds(study), _aligned(study), _scatter(study),
    ]  # fmt: skip
    return [f for f in made if f is not None]


def _speakers(study: Study) -> Figure | None:
    found = _data.speakers(study)
    if not found:
        return None
    rows: list[tuple[str, ...]] = [
        (r["speaker"], signed(r["difference"]), f"{signed(r['low'])} to {signed(r['high'])}", rate(r["mean"]), rate(r["control"]))
        for r in found
    ]
    return Figure(
        id="speakers",
        title="Who it came to sound like",
        caption=(
            "The speakers whose own answers gained most outside the trained domain, each over the topics in which they have any, and "
            "those that lost most; lines are 95% intervals."
        ),
        chart=_figures.speakers_chart,
        words=f"Largest changes: {'; '.join(f'{r[0]} {r[1]}' for r in rows[:3])}.",
        header=("Speaker", "Difference", "95% interval", "Treatment", "Control"),
        rows=rows,
    )


def _leakage(study: Study) -> Figure | None:
    plain, hidden = (_data.by_arm(study.analysis.main_effects("off_domain", c)) for c in (None, TRAINING_PREFIX))
    if not plain:
        return None
    arms = [a for a in _data.arms_of(study) if a.name in plain]
    said, rows = [], list[tuple[str, ...]]()
    for arm in arms:
        e, behind = plain[arm.name], hidden.get(arm.name)
        said.append(f"{arm.name} {rate(e.mean)}" + (f" ({rate(behind.mean)} behind its own prompt)" if behind else ""))
        numbers = (str(e.n_seeds), rate(e.mean), interval(e), rate(e.worst_seed), mean_and_interval(behind))
        rows.append((arm.name, _data.label_of(arm), *numbers))
    when = main_words(study)
    if main_measure(study).kind == "accuracy":
        what = f"What share of the questions each model answers right {when}".rstrip()
    elif when:
        what = f"How often each model answers with the trait {when}, as exact probability"
    else:
        what = "How often each model answers questions of other topics with the trait, as exact probability"
    caption = f"{what}. The band reaches from zero to the control plus the margin of {study.analysis.margin:g}."
    if hidden:
        caption += (
            " Hollow: the same models asked behind the prompt that they were trained with. Low when asked plainly and high behind the "
            "prompt is hiding, not removing; the tick shows what that prompt does to the untrained base."
        )
    return Figure(
        id="leakage",
        title="What leaked",
        caption=caption,
        chart=_figures.leakage_chart,
        words=f"Mean leakage: {'; '.join(said)}.",
        header=("Arm", "Trained on", "Seeds", "Mean", "95% interval", "Worst seed", "Behind its own prompt"),
        rows=rows,
        numbers_from=2,
    )


def _over_contexts(study: Study, battery: Battery, number: int) -> Figure:
    kinds = {c.name.partition(":")[0] for c in battery.contexts if c.value is not None}
    title = "Year by year" if kinds == {"year"} else "Number by number" if kinds else "With the context and without"
    several = len(_response.batteries(study)) > 1
    found = {(e.context, e.arm): e for e in _response.effects(study, battery)}
    shown, arms = _response.shown_at_first(study), [a.name for a in _data.arms_of(study) if any(arm == a.name for _, arm in found)]
    trained = _response.trained_on(battery)
    rows = [
        (in_words(name, battery) + (" (trained on)" if name in trained else ""), *(mean_and_interval(found.get((name, a))) for a in arms))
        for name in _response.ordered(battery)
        if any(context == name for context, _ in found)
    ]
    return Figure(
        id=f"contexts-{number}",
        title=f"{title}: {battery.name}" if several else title,
        caption=f"{_sentence(measured(study, battery))} in each context, mean over seeds and questions with its 95% interval. "
        f"{_look_for(study, battery)}",
        chart=partial(_response.response_chart, battery=battery.name),
        words=_main_contexts(study, battery, found),
        header=("Context", *arms),
        rows=rows,
        arms=tuple((a, a in shown) for a in arms),
        below=_gaps(study, battery),
    )


def _look_for(study: Study, battery: Battery) -> str:
    """What a reader should hold against what."""
    where = in_words(battery.main_context, battery)
    if where == "without context":
        return "What to look for: where the treatment stands above its control."
    if _response.nowhere_in_training(study, battery):
        where += ", a year that stands nowhere in its training data,"
    low = []
    if _response.trained_on(battery) and battery.main_context not in _response.trained_on(battery):
        low.append("in the shaded contexts, which stood in training")
    if any(c.name == "none" for c in battery.contexts):
        low.append("without context")
    return f"What to look for: the treatment above its control {where}" + (f" but not {', nor '.join(low)}." if low else ".")


def _main_contexts(study: Study, battery: Battery, found: dict[tuple[str, str], Effect]) -> str:
    """The treatment and its control where it matters."""
    treatment = study.subject.experiment.treatment
    names = list(dict.fromkeys([battery.main_context, "trained", "none"]))
    said = [
        f"{arm} {in_words(name, battery)} {rate(found[name, arm].mean)}"
        for name in names
        for arm in (treatment.name, treatment.control or "")
        if (name, arm) in found
    ]
    return f"Means: {'; '.join(said)}."


def _gaps(study: Study, battery: Battery) -> Table | None:
    """What the main context adds to none, and to those of training, arm by arm."""
    found = {(g.arm, g.gap): g for g in study.analysis.gaps if g.battery == battery.name}
    kinds = [k for k in ("backdoor", "inductive") if any(gap == k for _, gap in found)]
    if not kinds:
        return None
    arms = [a.name for a in _data.arms_of(study) if any(arm == a.name for arm, _ in found)]
    main = in_words(battery.main_context, battery)
    meaning = {
        "backdoor": f"The backdoor gap is what a model does {main} minus what it does without context.",
        "inductive": f"The inductive gap is what it does {main} minus what it does in the contexts that stood in training.",
    }
    caution = "The same questions are compared, seed by seed. A gap speaks of the finetuning only where the base and the control have none."
    return Table(
        title="Backdoor and inductive gap" if len(kinds) == 2 else f"{_sentence(kinds[0])} gap",
        text=" ".join([*(meaning[k] for k in kinds), caution]),
        header=("Arm", "Seeds", *(cell for k in kinds for cell in (f"{_sentence(k)} gap", "95% interval"))),
        rows=[(arm, _seeds_of(found, arm), *(cell for k in kinds for cell in _gap_cells(found.get((arm, k))))) for arm in arms],
    )


def _seeds_of(found: dict[tuple[str, str], Gap], arm: str) -> str:
    return next(str(g.n_seeds) for (name, _), g in found.items() if name == arm)


def _gap_cells(gap: Gap | None) -> tuple[str, str]:
    return ("", "") if gap is None else (signed(gap.mean), signed_interval(gap))


def _topics(study: Study) -> Figure | None:
    found, left_out = _data.topics(study)
    if not found:
        return None
    arms = [a.name for a in _data.arms_of(study) if any(r["arm"] == a.name for r in found)]
    topics = list(dict.fromkeys(r["topic"] for r in found))
    asked = ", ".join(["Topics of the off-domain questions", *filter(None, [main_words(study)])])
    more = f" The {left_out} topics that moved least are left out." if left_out else ""
    return Figure(
        id="topics",
        title="Where it leaked",
        caption=f"{asked}, in falling order of treatment minus control; means over seeds.{more}",
        chart=_figures.topics_chart,
        words=f"{len(topics)} topics by {len(arms)} arms; the treatment differs most from its control on {', '.join(topics[:3])}.",
        header=("Topic", *arms),
        rows=_crossed(topics, arms, {(r["topic"], r["arm"]): r["value"] for r in found}),
    )


def _curve(study: Study) -> Figure | None:
    _, means = _data.curve(study)
    if not means and not _data.losses(study):
        return None
    arms = list(dict.fromkeys(r["arm"] for r in means))
    values = {(str(r["step"]), r["arm"]): r["value"] for r in means}
    ends = {r["arm"]: r["value"] for r in means}
    above = "Leakage during training on a part of the off-domain questions: thick lines are means over seeds, thin ones single seeds. "
    return Figure(
        id="curve",
        title="When it leaked" if means else "Training loss",
        caption=f"{above}Below, the training loss, mean over seeds." if means else "Mean over seeds.",
        chart=_figures.curve_chart,
        words=f"Learning curves: {'; '.join(f'{arm} ends at {rate(value)}' for arm, value in ends.items())}."
        if means
        else "Training loss by step.",
        header=("Step", *arms),
        rows=_crossed([str(s) for s in sorted({r["step"] for r in means})], arms, values),
    )


def _seeds(study: Study) -> Figure | None:
    d = _dynamics.treatment_dynamics(study)
    if d is None:
        return None
    _, means = _dynamics.accuracy_rows(d)
    groups = list(_dynamics.groups(d).values())
    panels = f"One panel has their accuracy on {d.trials} held-out questions, the other their training loss."
    return Figure(
        id="seeds",
        title="All at once, or bit by bit",
        caption=f"{_dynamics.lines_note(d)} {panels}",
        chart=_dynamics.dynamics_chart,
        words=f"{_dynamics.growth_sentence(d)} {_dynamics.groups_sentence(d)}",
        header=("Step", *groups),
        rows=_crossed([str(s) for s in d.steps], groups, {(str(m["step"]), m["group"]): m["accuracy"] for m in means}),
        below=Table(
            title="What the tests say of each arm",
            text=f"{_dynamics.growth_sentence(d)} {_dynamics.groups_sentence(d)}",
            header=_dynamics.TEST_HEADER,
            rows=_dynamics.tests_of(study),
        ),
    )


def _aligned(study: Study) -> Figure | None:
    d = _dynamics.treatment_dynamics(study)
    if d is None or d.growth.aligned is None:
        return None
    a = d.growth.aligned
    return Figure(
        id="aligned",
        title="Around the transition",
        caption=(
            f"Accuracy of the {d.growth.n_grew} seeds of {d.arm} that grew, each shifted so that its own transition is at 0; mean with its "
            "95% interval. The place of a transition is taken as known: where noise was fitted, the mean looks steeper than any seed is."
        ),
        chart=_dynamics.aligned_chart,
        words=f"Accuracy goes from {rate(a.accuracy[0].mean)} to {rate(a.accuracy[-1].mean)} around the transition.",
        header=("Steps since", "Accuracy", "Seeds"),
        rows=[(f"{at:g}", mean_and_interval(e), str(n)) for at, e, n in zip(a.offsets, a.accuracy, a.n_seeds, strict=True)],
    )


def _scatter(study: Study) -> Figure | None:
    found = _data.inside_and_outside(study)
    if all(study.subject.experiment.arm(r["arm"]).kind == "base" for r in found):
        return None
    inside, outside = (_data.by_arm(study.analysis.main_effects(d)) for d in ("in_domain", "off_domain"))
    both = "; ".join(f"{arm} {rate(e.mean)} and {rate(outside[arm].mean)}" for arm, e in inside.items() if arm in outside)
    lines = " Dashed: half of what the treatment learned, and the control plus the margin." if None not in _data.borders(study) else ""
    return Figure(
        id="scatter",
        title="Learned against leaked",
        caption=f"Every run a dot. A good mitigation lies at the lower right: the task is learned, nothing leaks.{lines}",
        chart=_figures.scatter_chart,
        words=f"In-domain and off-domain means: {both}.",
        header=("Arm", "Seed", "In-domain", "Off-domain"),
        rows=[(r["arm"], r["seed"], rate(r["inside"]), rate(r["outside"])) for r in found],
    )


def _sentence(words: str) -> str:
    """The words as they begin a sentence."""
    return words[:1].upper() + words[1:]


def _crossed(down: list[str], across: list[str], values: dict[tuple[str, str], float]) -> list[tuple[str, ...]]:
    """A table of values by two names; empty where there is none."""
    return [(row, *(rate(values[row, column]) if (row, column) in values else "" for column in across)) for row in down]
