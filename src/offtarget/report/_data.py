"""What the figures draw, as tidy rows: each function reads a study and returns plain records; figures and tables share them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._contexts import TRAINING_PREFIX, battery_of, speaker_name

if TYPE_CHECKING:
    from offtarget.experiments import Arm
    from offtarget.study import Effect, Study

Row = dict[str, Any]

SEED, SEED_HIDDEN = "one seed", "one seed behind its own prompt"
MEAN, MARGIN = "mean, 95% interval", "control + margin"
BASE_PREFIXED = "untrained base, same prompt"

MOST_TOPICS = 40
MOST_SPEAKERS = 12
WORTH_SHOWING = 0.002
MOST_LOSS_POINTS = 200


def arms_of(study: Study) -> list[Arm]:
    """The arms that were asked or run, in the experiment's order."""
    known = {e.arm for e in study.analysis.effects} | {r.arm for r in study.runs}
    return [a for a in study.subject.experiment.arms if a.name in known]


def by_arm(effects: Iterable[Effect]) -> dict[str, Effect]:
    """The first effect of each arm: that on the first battery of a domain, as in the finding."""
    found: dict[str, Effect] = {}
    for effect in effects:
        found.setdefault(effect.arm, effect)
    return found


def seeds_of(study: Study, effect: Effect) -> list[int]:
    """The seed numbers of an effect's `seed_means`."""
    seeds = sorted({r.seed for r in study.runs if r.arm == effect.arm})
    return seeds if len(seeds) == effect.n_seeds else list(range(effect.n_seeds))


def label_of(arm: Arm) -> str:
    """What an arm was trained on, in a few words: the training prompt of an intervention, else its description."""
    return arm.intervention.in_words if arm.intervention.text else arm.description


def wrapped(text: str, width: int, lines: int = 2) -> list[str]:
    """The text in at most so many lines."""
    return textwrap.wrap(text, width, max_lines=lines, placeholder=" …") or [""]


def leakage(study: Study) -> tuple[list[Row], list[Row]]:
    """Seeds and means of every arm on other topics, plainly asked and behind the arm's own training prompt.

    Returns:
        One row a seed (with a deterministic `jitter` in [-1, 1]), and one row a mean; `hidden` marks those behind the prompt.
    """
    analysis = study.analysis
    plain = by_arm(analysis.main_effects("off_domain"))
    seeds: list[Row] = []
    means: list[Row] = []
    for hidden, effects in ((False, plain), (True, by_arm(analysis.main_effects("off_domain", TRAINING_PREFIX)))):
        for e in effects.values():
            what = SEED_HIDDEN if hidden else SEED
            seeds += [
                {"arm": e.arm, "what": what, "hidden": hidden, "seed": str(seed), "value": value, "jitter": jitter(seed)}
                for seed, value in zip(seeds_of(study, e), e.seed_means, strict=True)
            ]
            means.append({"arm": e.arm, "what": MEAN, "hidden": hidden, "mean": e.mean, "low": e.low, "high": e.high, "n_seeds": e.n_seeds})
    base = next(a.name for a in study.subject.experiment.arms if a.kind == "base")
    for arm in plain:
        alone = analysis.effect(base, "off_domain", context=f"prefix:{arm}")
        if alone is not None:
            seeds.append({"arm": arm, "what": BASE_PREFIXED, "hidden": True, "seed": "base", "value": alone.mean, "jitter": 0.0})
    return seeds, means


def jitter(seed: int) -> float:
    """Spread without pattern and without chance: multiples of the golden ratio."""
    return round(2 * ((seed * 0.6180339887 + 0.5) % 1) - 1, 3)


def margin_edge(study: Study) -> float | None:
    """Where the margin above the treatment's control ends; None without a control."""
    e = study.analysis.effect(study.subject.experiment.treatment.name, "off_domain")
    return None if e is None or e.control_mean is None else e.control_mean + study.analysis.margin


def topics(study: Study) -> tuple[list[Row], int]:
    """Mean of each arm on each topic, topics in falling order of the treatment's effect; and how many topics were left out."""
    experiment, sums = study.subject.experiment, dict[tuple[str, str], list[float]]()
    for e in study.analysis.main_effects("off_domain"):
        for question, value in zip(battery_of(study, e.battery).questions, question_means(study, e), strict=False):
            sums.setdefault((question.topic, e.arm), []).append(value)
    means = {key: sum(values) / len(values) for key, values in sums.items()}
    control = experiment.treatment.control or ""

    def moved(topic: str) -> float:
        return means.get((topic, experiment.treatment.name), 0.0) - means.get((topic, control), 0.0)

    order = sorted({topic for topic, _ in means}, key=lambda t: (-moved(t), t))
    at = {topic: n for n, topic in enumerate(order[:MOST_TOPICS])}
    rows = [{"topic": t, "arm": a, "value": v, "questions": len(sums[t, a]), "order": at[t]} for (t, a), v in means.items() if t in at]
    return sorted(rows, key=lambda r: r["order"]), len(order) - len(at)


def question_means(study: Study, e: Effect) -> list[float]:
    """An effect's mean on each question of its battery, over the contexts where it is of several; empty where questions are missing.

    Its own `question_means` go through the questions once for each context.
    """
    n = len(battery_of(study, e.battery).questions)
    return [_mean(e.question_means[at::n]) for at in range(n)] if e.question_means and len(e.question_means) % n == 0 else []


def steps_of(study: Study, arm: str) -> int:
    """Optimiser steps of an arm's runs, told by their losses; 0 where none were recorded."""
    return max((sum(x is not None for x in r.record.get("losses", ())) for r in study.runs if r.arm == arm), default=0)


def curve(study: Study) -> tuple[list[Row], list[Row]]:
    """The learning curve: one row an arm, seed and step, and one row an arm and step (the mean over seeds)."""
    points = study.analysis.curve
    start = next((p for p in points if p.arm in {a.name for a in study.subject.experiment.arms if a.kind == "base"}), None)
    seeds: list[Row] = []
    means: list[Row] = []
    for arm in (a.name for a in arms_of(study) if a.kind != "base"):
        last = steps_of(study, arm) or max((p.step for p in points if p.arm == arm), default=0) + 1
        mine = {(last if p.step < 0 else p.step): p.seed_means for p in points if p.arm == arm and p.step <= last}
        if not any(p.arm == arm and p.step >= 0 for p in points):
            continue
        if start is not None:
            mine[0] = start.seed_means * len(next(iter(mine.values())))
        for step, values in sorted(mine.items()):
            means.append({"arm": arm, "step": step, "value": _mean(values)})
            seeds += [{"arm": arm, "step": step, "seed": str(n), "value": v} for n, v in enumerate(values)]
    return seeds, means


def losses(study: Study) -> list[Row]:
    """Training loss of each arm, mean over seeds; long runs in bins."""
    rows = []
    for arm in arms_of(study):
        runs = [r.record["losses"] for r in study.runs if r.arm == arm.name and r.record.get("losses")]
        size = max(1, math.ceil(steps_of(study, arm.name) / MOST_LOSS_POINTS))
        rows += [{"arm": arm.name, "step": step, "loss": loss} for step, loss in _binned(runs, size).items()]
    return rows


def binned(losses: Sequence[float | None], most: int) -> dict[int, float]:
    """One run's losses by step, in at most so many bins."""
    steps = sum(x is not None for x in losses)
    return _binned([losses], max(1, math.ceil(steps / most)))


def _binned(runs: Sequence[Sequence[float | None]], size: int) -> dict[int, float]:
    """Means over bins of so many steps; a bin is named by its last step."""
    steps = max((sum(x is not None for x in losses) for losses in runs), default=0)
    bins = {
        min(begin + size, steps): [x for r in runs for x in r[begin : begin + size] if x is not None] for begin in range(0, steps, size)
    }
    return {step: _mean(values) for step, values in bins.items() if values}


def inside_and_outside(study: Study) -> list[Row]:
    """In-domain and off-domain mean of every run."""
    inside, outside = (by_arm(study.analysis.main_effects(domain)) for domain in ("in_domain", "off_domain"))
    return [
        {"arm": arm, "seed": str(seed), "inside": x, "outside": y}
        for arm, e in outside.items()
        if arm in inside and inside[arm].n_seeds == e.n_seeds
        for seed, x, y in zip(seeds_of(study, e), inside[arm].seed_means, e.seed_means, strict=True)
    ]


def borders(study: Study) -> tuple[float | None, float | None]:
    """From where on a run has learned (half of what the treatment moved in-domain) and has leaked (the control plus the margin)."""
    experiment = study.subject.experiment
    treatment = study.analysis.effect(experiment.treatment.name, "in_domain")
    base = next((e for e in study.analysis.main_effects("in_domain") if e.kind == "base"), None)
    learned = None if treatment is None or base is None or treatment.mean - base.mean < 0.02 else (treatment.mean + base.mean) / 2
    return learned, margin_edge(study)


def speakers(study: Study) -> list[Row]:
    """The speakers whose share of the answers moved most, treatment minus control; rising ones first. Empty unless exploratory."""
    if not study.subject.experiment.exploratory:
        return []
    main = study.analysis.main
    found: list[Row] = [
        {"speaker": speaker_name(e.measure), "difference": e.difference, "low": e.difference_low, "high": e.difference_high,
         "mean": e.mean, "control": e.control_mean, "p_holm": e.p_holm}
        for e in study.analysis.effects
        if e.kind == "treatment" and e.domain == "off_domain" and e.context == main[e.battery][0] and e.difference is not None
    ]  # fmt: skip
    found.sort(key=lambda r: -r["difference"])
    rising = [r for r in found if r["difference"] >= WORTH_SHOWING][:MOST_SPEAKERS] or found[:1]
    falling = [r for r in found if r["difference"] <= -WORTH_SHOWING][-MOST_SPEAKERS // 3 :]
    return rising + falling


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
