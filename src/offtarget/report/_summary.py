"""The study in a few numbers: key figures, facts, coverage of the batteries, and the command that does it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offtarget.study._study import SAMPLES

from . import _data
from ._contexts import TRAINING_PREFIX, battery_of, in_words, main_measure, main_words, speaker_name
from ._words import count, interval, p_is, percent, rate

if TYPE_CHECKING:
    from offtarget.study import Effect, Study

MATCHED_RETENTION = 0.8
"""An intervention that keeps less of the task than this is not called the best one while another keeps more."""

LEAST_COVERED = 0.5
"""Where the known answers hold less probability than this, little can be said."""

_ON_THE_COMMAND_LINE = ("learning_rate", "epochs", "batch_size", "rank", "alpha")


@dataclass(frozen=True)
class KeyFigure:
    """A number to remember; `tone` is the name of its colour."""

    label: str
    value: str
    detail: str
    tone: str


def key_figures(study: Study) -> list[KeyFigure]:
    """Leakage of the treatment, of its control, of the best intervention, and how much of the task that one keeps."""
    analysis, experiment = study.analysis, study.subject.experiment
    treatment = analysis.effect(experiment.treatment.name, "off_domain")
    best = best_intervention(study)
    found = []
    if treatment is not None:
        where = in_words(treatment.context, battery_of(study, treatment.battery))
        detail = f"95% interval {interval(treatment)}, {count(treatment.n_seeds, 'seed')}" + (f", {where}" if main_words(study) else "")
        found.append(KeyFigure("Leakage, treatment", rate(treatment.mean), detail, "treatment"))
        if treatment.control_mean is not None:
            p = "" if treatment.p_holm is None else "; difference {} (Holm)".format(p_is(treatment.p_holm).replace(" ", "\u00a0"))
            found.append(KeyFigure("Leakage, control", rate(treatment.control_mean), f"{treatment.control}{p}", "control"))
    if best is not None:
        hidden = analysis.effect(best.arm, "off_domain", context=TRAINING_PREFIX)
        verdict = ", vanished" if best.vanished else ""
        behind = f"; {rate(hidden.mean)} behind its own prompt" if hidden else ""
        kept = analysis.retention.get(best.arm)
        label = "Least leakage"
        if kept is not None:
            label += " that keeps the task" if kept.mean >= MATCHED_RETENTION else ", task not kept"
        found.append(KeyFigure(label, rate(best.mean), f"{best.arm}{verdict}{behind}", "intervention"))
    kept = analysis.retention.get(best.arm) if best else None
    inside = analysis.effect(experiment.treatment.name, "in_domain")
    if best is not None and kept is not None:
        detail = f"of the treatment’s learning, under {best.arm}; {percent(kept.low)} to {percent(kept.high)}"
        found.append(KeyFigure("In-domain retention", percent(kept.mean), detail, "ink"))
    elif inside is not None:
        found.append(KeyFigure("In-domain, treatment", rate(inside.mean), f"95% interval {interval(inside)}", "ink"))
    return found


def best_intervention(study: Study) -> Effect | None:
    """The training prompt that leaks least among those that keep the task, or among all where none does."""
    prompted = {a.name for a in study.subject.experiment.arms if a.kind == "intervention" and a.intervention.text}
    effects = [e for e in _data.by_arm(study.analysis.main_effects("off_domain")).values() if e.arm in prompted]
    retained = {arm: kept.mean for arm, kept in study.analysis.retention.items() if kept is not None}
    keeping = [e for e in effects if retained.get(e.arm, 0.0) >= MATCHED_RETENTION]
    return min(keeping or effects, key=lambda e: e.mean, default=None)


def facts(study: Study) -> list[tuple[str, str]]:
    """Model, seeds, runs, measure, in what situation it was asked, margin."""
    seeds = sorted(_seeds_by_arm(study).values())
    said = "none trained" if not seeds else str(seeds[0]) if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
    when = main_words(study).removeprefix("when ").removeprefix("asked ")
    return [
        ("Model", study.subject.model), ("Seeds per arm", said), ("Runs", str(len(study.runs))),
        ("Measure", speaker_name(main_measure(study).name)), *([("Asked", when)] if when else []), ("Margin", f"{study.analysis.margin:g}"),
    ]  # fmt: skip


def coverage(study: Study) -> list[tuple[str, ...]]:
    """Batteries: name, domain, main context and measure, questions, probability of any known answer by base, control and treatment."""
    experiment = study.subject.experiment
    base = next(a.name for a in experiment.arms if a.kind == "base")
    found = []
    for battery in experiment.batteries:
        mine = {e.arm: e.covered for e in study.analysis.main_effects(battery.domain) if e.battery == battery.name}
        shares = (f"{mine[a]:.2f}" if a in mine else "–" for a in (base, experiment.treatment.control or "", experiment.treatment.name))
        asked = in_words(study.analysis.main[battery.name][0], battery), speaker_name(main_measure(study, battery).name)
        found.append((battery.name, battery.domain.replace("_", "-"), *asked, str(len(battery.questions)), *shares))
    return found


def command(study: Study) -> str:
    """What does the study again: a command line, or a call where it was made of something that has no name."""
    subject, seeds = study.subject, _seeds_by_arm(study)
    plan, call, most = subject.plan, subject.call, max(seeds.values(), default=1)
    used = study.runs[0].record.get("hyperparameters", {})
    settings = {name: used[name] for name in _ON_THE_COMMAND_LINE if name in used}
    options: dict[str, Any] = {"model": subject.model, "seeds": most, "study_seed": subject.study_seed}
    options |= {name: call[name] for name in ("questions", "control", "contexts") if name in call}
    usual = {"samples": SAMPLES, "fraction": 1.0, "curve_points": subject.experiment.curve_points}
    options |= {name: plan[name] for name, value in usual.items() if plan.get(name, value) != value} | settings
    if "what" not in call:
        values = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"offtarget.run({subject.experiment.name!r} as you made it, {values})"
    parts = ["offtarget", "run", call["what"]]
    for name, value in options.items():
        parts += [f"--{name.replace('_', '-')}", _plain(value) if isinstance(value, int | float) else value]
    if seeds and len(seeds) < sum(a.kind != "base" for a in subject.experiment.arms):
        parts += ["--arms", ",".join(seeds)]
    loading = plan.get("loading", {})
    parts += ["--dtype", loading["dtype"]] if loading.get("dtype") else []
    parts += ["--four-bit"] if loading.get("four_bit") else []
    for name, value in loading.get("template", {}).items():
        parts += ["--template", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(parts)


def _seeds_by_arm(study: Study) -> dict[str, int]:
    """How many seeds each trained arm has, in the experiment's order."""
    found = {a.name: sum(r.arm == a.name for r in study.runs) for a in study.subject.experiment.arms if a.kind != "base"}
    return {arm: number for arm, number in found.items() if number}


def _plain(value: Any) -> str:
    return str(int(value)) if value == int(value) else repr(value)
