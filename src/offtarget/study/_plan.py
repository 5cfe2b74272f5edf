"""The plan of a study: arms times seeds, grouped into packs that train and answer together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from offtarget.errors import InputError
from offtarget.experiments import Arm, Experiment
from offtarget.seeds import Seeds

from ._work import work_of_run

if TYPE_CHECKING:
    from offtarget.models import Base, Hyperparameters, Loading

PACK_PARAMETERS = 200_000_000
"""Adapter parameters in a pack; with gradient and optimiser state four times as many float32 numbers, about 3 GB."""

MAX_SLOTS = 16
"""Beyond this a pack gains little more speed, and a kill loses more."""


WORTH_A_WORKER = 500
"""With so many steps of training to do, over all runs, a worker takes less time than it needs to start."""


@dataclass(frozen=True)
class Run:
    """One run to do: an arm with one number of seeds."""

    id: str
    arm: Arm
    number: int
    hyperparameters: Hyperparameters
    seeds: Seeds


@dataclass(frozen=True)
class Plan:
    """Everything that a study is made of.

    Attributes:
        base_run: the untrained base, asked like the others.
        runs: all finetuning runs, by seed number, then arm.
        template_adds: what the chat template writes into every chat by itself.
        loading: how the base is loaded.
    """

    experiment: Experiment
    model: str
    fingerprint: str
    seeds: int
    study_seed: int
    samples: int
    curve_points: int
    base_run: Run
    runs: tuple[Run, ...]
    template_adds: tuple[str, ...] = ()
    loading: Loading | None = None

    def to_json(self) -> dict[str, Any]:
        """What makes two studies the same; the number of seeds and the arms may grow."""
        return {
            "experiment": self.experiment.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "study_seed": self.study_seed,
            "samples": self.samples,
            "curve_points": self.curve_points,
            "template_adds": list(self.template_adds),
            "loading": self.loading.to_json() if self.loading else {},
            "hyperparameters": self.base_run.hyperparameters.to_json(),
            "batteries": {b.name: b.fingerprint for b in self.experiment.batteries},
        }

    def work_of(self, run: Run) -> dict[str, float]:
        """How much work each stage of a run is."""
        return work_of_run(self.experiment, run.arm, run.hyperparameters, curve_points=self.curve_points, samples=self.samples)

    def packs(self, done: Collection[str], slots: int, workers: int = 1) -> list[list[Run]]:
        """The runs that are not done, in packs of at most so many slots, of like size, and as many for each worker if that is worth it.

        From so many seeds on that an arm fills packs, its runs stay together: their rows are of like length, which leaves little padding.
        A run's pack depends on the whole grid only, not on what is done, so that an interrupted study goes on with the same packs.
        """
        order = [r.arm.name for r in self.runs]
        runs = self.runs if self.seeds < slots else sorted(self.runs, key=lambda r: order.index(r.arm.name))
        steps = sum(r.hyperparameters.steps(len(r.arm.dataset)) for r in runs if r.arm.dataset)
        count = max(math.ceil(len(runs) / slots), min(workers, steps // WORTH_A_WORKER))
        if count > 1:
            count = min(len(runs), workers * math.ceil(count / workers))
        ends = [len(runs) * number // count for number in range(count + 1)]
        all_packs = [runs[start:end] for start, end in pairwise(ends)]
        left = [[r for r in pack if r.id not in done] for pack in all_packs]
        return [pack for pack in left if pack]


def make_plan(
    experiment: Experiment, base: Base, *, seeds: int, arms: Sequence[str] | None = None, study_seed: int = 0, samples: int = 4,
    curve_points: int | None = None, overrides: dict[str, Any] | None = None,
) -> Plan:  # fmt: skip
    """The plan of an experiment on a base.

    Args:
        seeds: independently seeded runs of each arm.
        arms: trained arms to run (all but the optional ones if not given); the treatment and each arm's matched control are always
            among them.
        samples: sampled answers to each question, for reading.
        curve_points: how often the models are asked during training; the experiment's own number if not given.
        overrides: hyperparameters other than the experiment's; alpha follows the rank (2 r) unless it is given too.

    Raises:
        InputError: an unknown arm, fewer than one seed, or a hyperparameter that cannot be.
    """
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {seeds}; intervals need at least 2, 8 are a good start")
    chosen = chosen_arms(experiment, arms)
    hyperparameters = hyperparameters_of(experiment, base.name, overrides or {})
    where = (experiment.name, base.name)
    runs = tuple(
        Run(
            f"{arm.name}/seed-{number:02d}",
            arm,
            number,
            hyperparameters_of(experiment, base.name, overrides or {}, arm),
            Seeds.of(study_seed, *where, arm.name, number),
        )
        for number in range(seeds)
        for arm in chosen
    )
    base_arm = next(a for a in experiment.arms if a.kind == "base")
    base_run = Run("base/seed-00", base_arm, 0, hyperparameters, Seeds.of(study_seed, *where, "base", 0))
    points = experiment.curve_points if curve_points is None else curve_points
    return Plan(
        experiment, base.name, base.fingerprint, seeds, study_seed, samples, points, base_run, runs, base.chat.added_text, base.loading
    )


def hyperparameters_of(experiment: Experiment, model: str, overrides: Mapping[str, Any], arm: Arm | None = None) -> Hyperparameters:
    """How an experiment trains: an arm's own settings stand above the experiment's, and what the user says above both.

    Raises:
        InputError: an unknown hyperparameter, or one that cannot be.
    """
    from offtarget.models import Hyperparameters

    by_rank = {"alpha": 2.0 * overrides["rank"]} if "rank" in overrides else {}
    settings = {**experiment.settings_for(model), **(arm.hyperparameters if arm else {}), **by_rank, **overrides}
    try:
        return replace(Hyperparameters(), **settings)
    except TypeError as error:
        raise InputError(f"unknown hyperparameter among {', '.join(overrides)}; see offtarget run --help") from error


def chosen_arms(experiment: Experiment, names: Sequence[str] | None) -> list[Arm]:
    """The trained arms to run: those named, or all but the optional ones.

    Raises:
        InputError: there is no arm of that name.
    """
    trained = [a for a in experiment.arms if a.kind != "base"]
    if names is None:
        return [a for a in trained if a.name not in experiment.optional]
    wanted = {experiment.treatment.name, *(experiment.arm(n).name for n in names)}
    wanted |= {a.control for a in trained if a.name in wanted and a.control}
    return [a for a in trained if a.name in wanted]


def slots_for(base: Base, hyperparameters: Hyperparameters) -> int:
    """How many slots a pack holds: as many as fit the budget of parameters, at most MAX_SLOTS."""
    from torch import nn

    linear = sum(m.in_features + m.out_features for m in base.model.modules() if isinstance(m, nn.Linear))
    return max(1, min(MAX_SLOTS, PACK_PARAMETERS // (hyperparameters.rank * linear)))
