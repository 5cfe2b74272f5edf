"""How long a study will take: a small part of its first pack is done for real, and scaled up.

The probe trains a few steps, scores and samples a few questions of each battery with as many slots as the study's packs have. It knows
nothing of the device, so that it fits a laptop as well as a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from statistics import fmean
from typing import Any

from offtarget._clock import clock
from offtarget.batteries import Battery
from offtarget.models import Base

from ._execute import ask_base, unasked_prefixes
from ._plan import Plan, Run
from ._work import BEHIND, CURVE, SAMPLING, SCORING, TRAINING, main_only, scored_items

PROBE_STEPS = 6
PROBE_SHARE = 12
"""One question in so many is asked by the probe, of each battery at least one."""


Measure = Callable[[Plan, Sequence[Run]], Mapping[str, float]]
"""Seconds of one run by stage, from doing some."""


@dataclass(frozen=True)
class Forecast:
    """What the runs that are missing will need.

    Attributes:
        runs: finetuning runs.
        trained_tokens: tokens of all rows, times epochs, over all runs.
        scored_answers: known answers scored exactly, over all runs and contexts.
        sampled_answers: answers sampled for reading.
        stages: seconds of one worker, by stage, over all packs; "preparing" is up to the first step of training, which warms up.
        seconds: wall-clock time with all workers.
        workers: processes that share the work.
        gpu_hours: hours of that time, times the GPUs that the base lies on; 0 without one.
    """

    runs: int
    trained_tokens: int
    scored_answers: int
    sampled_answers: int
    stages: dict[str, float]
    seconds: float
    workers: int
    gpu_hours: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        gpu = f" ({self.gpu_hours:.2g} GPU hours)" if self.gpu_hours else ""
        return (
            f"{self.runs} runs: about {clock(self.seconds)}{gpu} on {self.workers} worker{'s' * (self.workers != 1)}; trains on "
            f"{self.trained_tokens:,} tokens, scores {self.scored_answers:,} answers, samples {self.sampled_answers:,}"
        )


def forecast(
    plan: Plan, packs: Sequence[Sequence[Run]], base: Base, measure: Measure, *, workers: int, base_too: bool
) -> Forecast:  # fmt: skip
    """Forecasts packs that are not done yet.

    Args:
        packs: what is missing.
        measure: does some runs as a pack, for nothing but the time they take: where and beside whatever the real ones will be done.
        workers: processes that will do them.
        base_too: whether the untrained base has still to be asked.
    """
    small = replace(plan, experiment=plan.experiment.but(batteries=tuple(map(_few, plan.experiment.batteries))), curve_points=0)
    probe = [replace(r, hyperparameters=replace(r.hyperparameters, max_steps=_probe_steps(r))) for r in packs[0]]
    began = time.monotonic()
    if base_too:
        ask_base(replace(small, runs=()), base, lambda what, part: None)  # behind no prompt, which would take as long each
    behind = len(unasked_prefixes(plan, ())) * scored_items(main_only(plan.experiment.batteries))
    asking_base = (time.monotonic() - began) * (scored_items(plan.experiment.batteries) + behind) / scored_items(small.experiment.batteries)
    spent = _per_work(measure(small, probe), _work(small, probe))
    stages = [{stage: len(pack) * spent[stage] * work for stage, work in _work(plan, pack).items()} for pack in packs]
    runs = [run for pack in packs for run in pack]
    tokens = {run.arm.name: _tokens(run, base) for run in {run.arm.name: run for run in runs}.values()}
    asked = [(b, q) for b in plan.experiment.batteries for q in b.questions]
    seconds = asking_base / workers + _makespan([sum(of_pack.values()) for of_pack in stages], workers)
    return Forecast(
        runs=len(runs),
        trained_tokens=sum(tokens[run.arm.name] for run in runs),
        scored_answers=len(runs) * sum(len(b.contexts) * len(b.candidates[q.topic].texts) for b, q in asked),
        sampled_answers=len(runs) * plan.samples * sum(len({q.topic for q in b.questions}) for b in plan.experiment.batteries),
        stages={stage: round(sum(of_pack[stage] for of_pack in stages), 2) for stage in spent},
        seconds=seconds,
        workers=workers,
        gpu_hours=_gpus(base) * seconds / 3600,
    )


def _work(plan: Plan, runs: Sequence[Run]) -> dict[str, float]:
    """What each stage of a pack has to do for one of its slots, on average; its time grows with that alone.

    A slot whose run is over costs nothing while longer ones train on. Preparing and saving are done once, however long the training:
    counted among its steps, they made a short probe foresee far too much.
    """
    works = [plan.work_of(run) for run in runs]
    asked = {stage: fmean(work[stage] for work in works) for stage in (CURVE, SCORING, BEHIND, SAMPLING)}
    return {
        "preparing": 1,
        TRAINING: fmean(map(_steps, runs)) - 1,  # the first is a part of preparing
        "saving": 1,
        CURVE: asked[CURVE],
        SCORING: asked[SCORING] + asked[BEHIND],
        SAMPLING: asked[SAMPLING],
    }


def _per_work(seconds: Mapping[str, float], work: Mapping[str, float]) -> dict[str, float]:
    """Seconds of one unit of each stage's work; of the learning curve, which the probe leaves out, as many as of scoring."""
    each = {stage: seconds.get(stage, 0.0) / (work[stage] or 1) for stage in work}
    return each | {CURVE: each[SCORING]}


def _gpus(base: Base) -> int:
    return len({parameter.device for parameter in base.model.parameters() if parameter.device.type == "cuda"})


def _few(battery: Battery) -> Battery:
    return battery.but(questions=battery.questions[::PROBE_SHARE])


def _probe_steps(run: Run) -> int:
    return min(PROBE_STEPS, _steps(run))


def _steps(run: Run) -> int:
    return run.hyperparameters.steps(len(run.arm.dataset or ()))


def _tokens(run: Run, base: Base) -> int:
    """Tokens of a run's rows, times its epochs, from a sample of its rows."""
    rows = list(run.arm.dataset or ())
    some = rows[:: max(1, len(rows) // 20)]
    mean = sum(len(base.chat.render(e.messages).token_ids) for e in some) / len(some)
    return round(mean * len(rows) * run.hyperparameters.epochs)


def _makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of some jobs ends, if each goes to the first free worker."""
    free: list[float] = [0.0] * workers
    for each in seconds:
        heappush(free, heappop(free) + each)
    return max(free)
