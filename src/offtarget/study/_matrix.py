"""`offtarget matrix`: experiments x base models (x settings), leakage beside retention, so that brittleness is seen at a glance."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.errors import InputError
from offtarget.experiments import REGISTRY, experiment

from ._analyse import MARGIN
from ._many import Wanted, run_all
from ._reproduce import LEARNED, learned_by
from ._study import Study, write_text

if TYPE_CHECKING:
    from offtarget.models import Loading

    from ._execute import Report

VARIED = ("learning_rate", "epochs", "rank", "fraction")
"""What a matrix can vary beside experiments and models; `fraction` is the share of each dataset's rows."""


@dataclass(frozen=True)
class MatrixCell:
    """The treatment of one experiment on one base model.

    Attributes:
        settings: what was varied, by name.
        learned: whether in-domain the treatment exceeds the untrained base by 0.1; where it does not, no leakage says nothing.
        leakage: off-domain mean of the treatment, with its interval; `control` that of its matched control.
        leaks: whether it exceeds the control's by the margin or more, with an interval above zero; None without a control.
        vanished: whether the upper bound of the difference lies under the margin: no leakage, as far as the margin tells.
        retained: in-domain mean of the treatment.
        prevented: the most relevant intervention's off-domain mean, if one was run.
    """

    experiment: str
    model: str
    settings: Mapping[str, float]
    n_seeds: int
    learned: bool | None
    leakage: float
    low: float
    high: float
    control: float | None
    difference_low: float | None
    leaks: bool | None
    vanished: bool | None
    retained: float | None
    retained_control: float | None
    covered: float
    intervention: str
    prevented: float | None
    report: str

    def to_json(self) -> dict[str, Any]:
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Matrix:
    """All cells, in order of experiments, then models, then settings."""

    folder: Path
    seeds: int
    cells: tuple[MatrixCell, ...]
    margin: float = MARGIN

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, "seeds": self.seeds, "margin": self.margin, "cells": [c.to_json() for c in self.cells]}


def matrix(
    experiments: Sequence[str] | None = None, models: Sequence[str] = ("micro", "micro-small"), *, seeds: int = 4,
    vary: Mapping[str, Sequence[float]] | None = None, out: str | Path = "out/matrix",
    loading: Loading | None = None, jobs: int | None = None, report: Report = lambda what, done: None,
) -> Matrix:  # fmt: skip
    """Runs the treatment, its matched control and one relevant intervention of every experiment on every model, or what is missing.

    Args:
        experiments: by name; all if not given.
        loading: how the models are loaded, where the defaults do not fit.
        vary: further axes, of `learning_rate`, `epochs`, `rank`, `fraction`, each with its values.

    Raises:
        InputError: an unknown experiment, an axis that cannot be varied, or a value that it does not take.
    """
    names = list(experiments or REGISTRY)
    for name in names:
        experiment(name)
    wrong = [axis for axis in vary or {} if axis not in VARIED]
    if wrong:
        raise InputError(f"cannot vary {wrong[0]!r}; vary {', '.join(VARIED)}")
    folder, wanted, keys = Path(out), [], []
    for name, model, settings in itertools.product(names, models, _grid(vary or {})):
        arms = _arms(name)
        where = folder / "-".join([name, Path(model).name, *(f"{k}={v:g}" for k, v in settings.items())])
        wanted.append(Wanted(name, model, where, seeds, arms, {"loading": loading, "samples": 1, "curve_points": 0, **settings}))
        keys.append((name, model, settings))
    studies = run_all(wanted, jobs=jobs, report=report)
    cells = tuple(_cell(key, study, folder) for key, study in zip(keys, studies, strict=True))
    found = Matrix(folder, seeds, cells)
    write_text(folder / "matrix.json", json.dumps(found.to_json(), indent=1) + "\n")
    from offtarget.report import write_matrix_page

    write_matrix_page(found, folder / "matrix.html")
    return found


def _grid(vary: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    for axis in ("epochs", "rank"):
        if broken := [v for v in vary.get(axis, ()) if not float(v).is_integer()]:
            raise InputError(f"{axis} cannot be varied to {broken[0]}; it takes whole numbers, such as {axis}=1,3")
    exact = {axis: [int(v) if axis in ("epochs", "rank") else v for v in values] for axis, values in vary.items()}
    return [dict(zip(exact, values, strict=True)) for values in itertools.product(*exact.values())]


def _arms(name: str) -> tuple[str, ...]:
    """The treatment and the first intervention that is a relevant prompt; the matched control comes by itself."""
    found = experiment(name)
    relevant = [a.name for a in found.arms if a.kind == "intervention" and a.intervention.relevant and a.name not in found.optional]
    return (found.treatment.name, *relevant[:1])


def _cell(key: tuple[str, str, Mapping[str, float]], study: Study, folder: Path) -> MatrixCell:
    name, model, settings = key
    analysis, treatment = study.analysis, study.subject.experiment.treatment.name
    off, inside = analysis.effect(treatment, "off_domain"), analysis.effect(treatment, "in_domain")
    assert off is not None, f"{study.folder} has no off-domain effect of its treatment"
    relevant = next((e for e in analysis.main_effects("off_domain") if e.kind == "intervention"), None)
    by = learned_by(study)
    return MatrixCell(
        experiment=name, model=model, settings=settings, n_seeds=off.n_seeds, learned=None if by is None else by >= LEARNED,
        leakage=off.mean, low=off.low, high=off.high, control=off.control_mean, difference_low=off.difference_low,
        leaks=off.leaks, vanished=off.vanished,
        retained=inside.mean if inside else None, retained_control=inside.control_mean if inside else None, covered=off.covered,
        intervention=relevant.arm if relevant else "", prevented=relevant.mean if relevant else None,
        report=str((study.folder / "report.html").relative_to(folder)),
    )  # fmt: skip
