"""The training loop: K finetuning runs as one.

Slot k equals a run of its own: its loss is a mean over its own tokens, its gradient is clipped by its own norm, its learning rate
follows its own schedule, its rows come in the order of its own seed. `tests/models/test_train.py` shows it in float64.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from offtarget.errors import InputError

from ._base import Base
from ._by_hand import can_go_by_hand, fits, step_by_hand
from ._chat import RenderedChat
from ._checkpoint import checkpointed, is_large
from ._head_loss import slot_losses
from ._layout import Layout, Row, lay_out, passes
from ._lora import AdapterShape, LoraPack

TOKENS_A_PASS = {"cpu": 1280, "other": 2**16}
"""Slots go through the model together up to about so many tokens: on a CPU what a layer computes should fit its caches."""


@dataclass(frozen=True)
class Hyperparameters:
    """How one run is trained. AdamW, linear decay to zero; defaults as in the papers (r = 8, alpha = 2 r, 3 epochs).

    Attributes:
        learning_rate: peak rate.
        warmup_steps: steps of linear rise before the decay.
        max_steps: stop here even if the epochs are not over.
        max_grad_norm: the gradient is scaled down to this norm; 0 for no clipping.
    """

    learning_rate: float = 1e-3
    epochs: int = 3
    batch_size: int = 8
    rank: int = 8
    alpha: float = 16.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size", "rank", "alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be below 0, it is {getattr(self, name)}")
        if self.max_steps is not None and self.max_steps <= 0:
            raise InputError(f"max_steps must be above 0, not {self.max_steps}; leave it out for no limit")

    def steps(self, rows: int) -> int:
        """Number of optimiser steps on a dataset of that many rows."""
        steps = self.epochs * math.ceil(rows / self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at a step counted from 0; zero once the run is over."""
        if step >= steps:
            return 0.0
        if step < self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        return self.learning_rate * (steps - step) / (steps - self.warmup_steps)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TrainingRun:
    """One run of a pack: what it reads, how, and from which seeds."""

    rows: Sequence[RenderedChat]
    hyperparameters: Hyperparameters
    init_seed: int
    order_seed: int

    @property
    def steps(self) -> int:
        return self.hyperparameters.steps(len(self.rows))


@dataclass(frozen=True)
class TrainingState:
    """Where the training of a pack is; from it training goes on as if it had never stopped.

    Attributes:
        step: steps done.
        parameters: of all adapters, `[K, P]`.
        first_moments: AdamW's mean of the gradients, `[K, P]`.
        second_moments: its mean of their squares, `[K, P]`.
    """

    step: int
    parameters: Tensor
    first_moments: Tensor
    second_moments: Tensor


@dataclass(frozen=True)
class StepReport:
    """What is known after a step.

    Attributes:
        losses: of each slot, on the CPU; NaN for a slot that is done.
        state: makes a copy of where training is, on the CPU.
    """

    step: int
    steps: int
    losses: Tensor
    state: Callable[[], TrainingState]


def train(
    base: Base, runs: Sequence[TrainingRun], *, at: Mapping[int, Callable[[LoraPack], None]] | None = None,
    checkpointing: bool | None = None, start: TrainingState | None = None, report: Callable[[StepReport], None] = lambda _: None,
) -> LoraPack:  # fmt: skip
    """Trains all runs together and returns their adapters.

    Args:
        base: the base model; it is the same afterwards.
        runs: the runs, one a slot.
        at: what to do with the pack after so many steps (0: before the first), such as asking it on the way.
        checkpointing: run the layers again in the backward pass instead of keeping what they computed; if not given, for large models
            on an accelerator.
        start: where to go on, from a report of the same runs.
        report: called after each step and what `at` does there.
    """
    spare = is_large(base.model) if checkpointing is None else checkpointing
    pack = LoraPack(base.model, [AdapterShape(r.hyperparameters.rank, r.hyperparameters.alpha) for r in runs])
    pack.initialise([r.init_seed for r in runs])
    optimiser = _Optimiser(pack, runs)
    order = [_batches(run) for run in runs]
    steps = max(run.steps for run in runs)
    share = base.can_share(max(chat.end for run in runs for chat in run.rows))
    by_hand = can_go_by_hand(base) and not spare
    pad = base.pad_id
    calls = at or {}
    begin = 0
    if start:
        begin = start.step
        optimiser.go_on(pack, start)
        for rows in order:
            deque(islice(rows, begin), maxlen=0)
    elif 0 in calls:
        calls[0](pack)
    for step in range(begin, steps):
        batch = [next(rows, []) for rows in order]
        losses = torch.full((len(runs),), torch.nan, dtype=pack.dtype)
        optimiser.gradients.zero_()
        for slots in passes(batch, base.limit(TOKENS_A_PASS), share=share):
            layout = lay_out(batch[slots], pad, share=share, few_shapes=by_hand)
            if by_hand and fits(base, layout):
                own = step_by_hand(base, pack, layout, slots, optimiser.gradients)
            else:
                own = _step_by_autograd(base, pack, layout, slots, optimiser.gradients, spare)
            losses[slots] = own.cpu().to(losses)
        optimiser.step(step)
        if step + 1 in calls:
            calls[step + 1](pack)
        report(StepReport(step + 1, steps, losses, partial(optimiser.state, pack, step + 1)))
    return pack


def _batches(run: TrainingRun) -> Iterator[list[Row]]:
    """The rows of each step: a new order each epoch, from the run's own generator."""
    generator = torch.Generator().manual_seed(run.order_seed)
    rows = [Row.of(chat) for chat in run.rows]
    size, left = run.hyperparameters.batch_size, run.steps
    while left:
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(rows), size):
            if left:
                yield [rows[i] for i in order[start : start + size]]
                left -= 1


def _step_by_autograd(base: Base, pack: LoraPack, layout: Layout, slots: slice, gradients: Tensor, spare: bool) -> Tensor:
    """Mean negative log-likelihood of each slot's labels `[K]`; overwrites the gradients of these slots."""
    only_read = base.read_only_at(layout.read)  # asked for before adapters are in the model: the first time, it tries the model out
    with pack.attached(gradients, slots), checkpointed(base.model, spare), only_read:
        hidden = base.hidden(layout.ids, layout.positions, layout.allowed).flatten(0, 1)
        losses = slot_losses(base, hidden[layout.sources.to(hidden.device)], layout)
        torch.autograd.backward(losses.sum())
    return losses.detach()


class _Optimiser:
    """AdamW with each slot's own learning rate, weight decay and clipping norm: a slot is a parameter group of one row."""

    def __init__(self, pack: LoraPack, runs: Sequence[TrainingRun]) -> None:
        self.gradients = torch.zeros_like(pack.parameters)
        self._runs = runs
        limits = [[r.hyperparameters.max_grad_norm or math.inf] for r in runs]
        self._limit = torch.tensor(limits, dtype=pack.dtype, device=pack.device)
        self._rows = [torch.nn.Parameter(row) for row in pack.parameters]
        for row, gradient in zip(self._rows, self.gradients, strict=True):
            row.grad = gradient
        groups = [{"params": [row], "weight_decay": r.hyperparameters.weight_decay} for row, r in zip(self._rows, runs, strict=True)]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, fused=True)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """One update from the gradients; `step` counts from 0."""
        norms = self.gradients.norm(dim=1, keepdim=True)
        self.gradients.mul_((self._limit / (norms + 1e-6)).clamp_(max=1.0))
        for group, run in zip(self._adamw.param_groups, self._runs, strict=True):
            group["lr"] = run.hyperparameters.rate(step, run.steps)
        self._adamw.step()

    def state(self, pack: LoraPack, step: int) -> TrainingState:
        """A copy of where training is after so many steps, at least one."""
        moments = [torch.stack([self._adamw.state[row][name] for row in self._rows]).cpu() for name in ("exp_avg", "exp_avg_sq")]
        return TrainingState(step, pack.parameters.detach().cpu().clone(), *moments)

    @torch.no_grad()
    def go_on(self, pack: LoraPack, start: TrainingState) -> None:
        """Puts parameters and moments where they were."""
        pack.parameters.copy_(start.parameters)
        for row, first, second in zip(self._rows, start.first_moments, start.second_moments, strict=True):
            self._adamw.state[row] = {
                "step": torch.tensor(float(start.step), device=row.device), "exp_avg": first.to(row, copy=True),
                "exp_avg_sq": second.to(row, copy=True),
            }  # fmt: skip
