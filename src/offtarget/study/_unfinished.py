"""A pack that was interrupted in training goes on where it was.

Now and then its state is written aside with what was found on the way. A pack of a small model is done before the first time; one of a
large model may train for hours.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from offtarget._tensors import told_by_the_system
from offtarget.models import TrainingState

from ._plan import Plan, Run
from ._store import ScoreRow

FOLDER = "unfinished"

SECONDS_BETWEEN = 300.0

LAYOUT = 2
"""How parameters lie in a pack: what a version with another layout has left is begun again."""


@dataclass(frozen=True)
class OnTheWay:
    """What a pack has found while it trains.

    Attributes:
        losses: of each step, `[K]`.
        curve: scores of the learning curve.
        seconds: spent, by stage.
    """

    losses: list[np.ndarray] = field(default_factory=list)
    curve: list[ScoreRow] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Unfinished:
    """The file of a pack in training. It is of use to the same runs on the same base only, which its name says."""

    def __init__(self, folder: Path, plan: Plan, runs: Sequence[Run]) -> None:
        each = [(r.id, r.hyperparameters.to_json(), r.seeds.to_json(), r.arm.dataset and r.arm.dataset.sha256) for r in runs]
        what = [LAYOUT, plan.to_json(), each]
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self._path = folder / FOLDER / f"{name}.safetensors"
        self._kept = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._kept >= SECONDS_BETWEEN

    @property
    def exists(self) -> bool:
        """Whether something was written, now or before."""
        return self._path.exists()

    def keep(self, state: TrainingState, found: OnTheWay) -> None:
        """Writes where training is; a kill meanwhile leaves what was there."""
        import torch
        from safetensors.torch import save_file

        curve = np.concatenate([row.log_probabilities for row in found.curve]) if found.curve else np.zeros(0)
        tensors = {
            "parameters": state.parameters, "first_moments": state.first_moments, "second_moments": state.second_moments,
            "losses": torch.from_numpy(np.array(found.losses)), "curve": torch.from_numpy(curve),
        }  # fmt: skip
        rows = [(r.run, r.step, r.context, r.battery, r.question, len(r.log_probabilities)) for r in found.curve]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".tmp")
        with told_by_the_system():
            save_file(tensors, aside, metadata={"where": json.dumps({"step": state.step, "curve": rows, "seconds": found.seconds})})
        aside.replace(self._path)
        self._kept = time.monotonic()

    def read(self) -> tuple[TrainingState, OnTheWay] | None:
        """Where training was; None if it has not begun, or the file cannot be read."""
        from safetensors import SafetensorError, safe_open

        if not self.exists:
            return None
        try:
            with safe_open(self._path, "pt") as kept:
                where: Mapping[str, Any] = json.loads(kept.metadata()["where"])
                tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return None
        ends = np.cumsum([0, *(row[-1] for row in where["curve"])])
        values = [tensors["curve"].numpy()[start:end] for start, end in pairwise(ends)]
        curve = [
            ScoreRow(run, step, context, battery, question, value)
            for (run, step, context, battery, question, _), value in zip(where["curve"], values, strict=True)
        ]
        state = TrainingState(where["step"], tensors["parameters"], tensors["first_moments"], tensors["second_moments"])
        return state, OnTheWay(list(tensors["losses"].numpy()), curve, dict(where["seconds"]))

    def remove(self) -> None:
        """The pack is done."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # others are unfinished
            self._path.parent.rmdir()
