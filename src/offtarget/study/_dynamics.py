"""How the seeds of an arm got where they are: held-out accuracy by step, jumps, and whether the seeds fall into two groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offtarget.batteries import NO_CONTEXT, Battery, Context
from offtarget.experiments import Experiment
from offtarget.seeds import derived_seed
from offtarget.stats import Mixture, Transitions, mixture_of_seeds, transitions

from ._store import FINAL, RunRow, ScoreRow

LEAST_CHECKPOINTS = 10
LEAST_SEEDS = 5


@dataclass(frozen=True)
class Dynamics:
    """One arm over training.

    Attributes:
        steps: optimiser steps at the checkpoints, the last one at the end of training.
        correct: `[seeds][checkpoints]`, questions answered right.
        trials: questions asked at each checkpoint.
        margins: `[seeds][checkpoints]`, log-odds of the right answerer against the best other one, in nats, mean over questions.
        growth: sharp or smooth, and when.
        mixture: success and failure across seeds at the end.
    """

    arm: str
    battery: str
    steps: tuple[int, ...]
    correct: tuple[tuple[int, ...], ...]
    trials: int
    margins: tuple[tuple[float, ...], ...]
    growth: Transitions
    mixture: Mixture

    def to_json(self) -> dict[str, Any]:
        return {
            "arm": self.arm, "battery": self.battery, "steps": list(self.steps), "correct": [list(c) for c in self.correct],
            "trials": self.trials, "margins": [[round(m, 4) for m in row] for row in self.margins],
            "growth": self.growth.to_json(), "mixture": self.mixture.to_json(),
        }  # fmt: skip


def dynamics(experiment: Experiment, runs: Sequence[RunRow], scores: Sequence[ScoreRow], study_seed: int) -> list[Dynamics]:
    """The dynamics of each trained arm with enough checkpoints and seeds, in experiments that measure accuracy first."""
    if experiment.measures[0].kind != "accuracy":
        return []
    found = []
    for arm in experiment.arms:
        mine = sorted((r for r in runs if r.arm == arm.name), key=lambda r: r.seed)
        if arm.kind != "base" and len(mine) >= LEAST_SEEDS:
            one = _of_arm(experiment, mine, scores, study_seed)
            found += [one] if one else []
    return found


def _of_arm(experiment: Experiment, runs: Sequence[RunRow], scores: Sequence[ScoreRow], study_seed: int) -> Dynamics | None:
    ids = {r.id: n for n, r in enumerate(runs)}
    mine = [s for s in scores if s.run in ids]
    on_the_way = [s for s in mine if s.step != FINAL]
    if not on_the_way:
        return None
    battery = next(b for b in experiment.batteries if any(s.battery == b.name for s in on_the_way))
    asked = {(s.context, s.question) for s in on_the_way if s.battery == battery.name}
    last = max(sum(x is not None for x in r.record.get("losses", ())) for r in runs)
    by_step: dict[int, list[ScoreRow]] = {}
    for s in mine:
        if s.battery == battery.name and (s.context, s.question) in asked:
            by_step.setdefault(last if s.step == FINAL else s.step, []).append(s)
    steps = sorted(by_step)
    if len(steps) < LEAST_CHECKPOINTS:
        return None
    correct, margins = np.zeros((len(runs), len(steps)), int), np.zeros((len(runs), len(steps)))
    read = _Reader(battery)
    for column, step in enumerate(steps):
        for s in by_step[step]:
            margin = read.margin(s)
            correct[ids[s.run], column] += margin > 0
            margins[ids[s.run], column] += margin / len(asked)
    seed = derived_seed(study_seed, "bootstrap", "dynamics", runs[0].arm)
    growth = transitions(correct, len(asked), steps, seed=seed, margins=margins)
    mixture = mixture_of_seeds(correct[:, -1], len(asked), seed=seed)
    return Dynamics(
        runs[0].arm, battery.name, tuple(steps), tuple(map(tuple, correct.tolist())), len(asked), tuple(map(tuple, margins.tolist())),
        growth, mixture,
    )  # fmt: skip


class _Reader:
    """Margins of one battery's questions."""

    def __init__(self, battery: Battery) -> None:
        self._battery = battery
        self._topic = {q.id: q.topic for q in battery.questions}
        self._contexts: Mapping[str, Context] = {c.name: c for c in battery.contexts}
        self._groups: dict[tuple[str, frozenset[str]], tuple[np.ndarray, np.ndarray]] = {}

    def margin(self, row: ScoreRow) -> float:
        """Log-probability of the right answers minus that of the most probable other answerer's."""
        context = self._contexts.get(row.context, NO_CONTEXT)
        topic = self._topic[row.question]
        key = (topic, context.labels)
        if key not in self._groups:
            labels = self._battery.candidates[topic].labels
            kinds = {x: n for n, x in enumerate(dict.fromkeys(labels))}
            right = np.array([bool(context.labels & set(x)) for x in kinds])
            self._groups[key] = np.array([kinds[x] for x in labels]), right
        answerers, right = self._groups[key]
        mass = np.bincount(answerers, weights=np.exp(row.log_probabilities), minlength=len(right)) + 1e-30
        return float(np.log(mass[right].sum()) - np.log(mass[~right].max())) if right.any() and not right.all() else float("nan")
