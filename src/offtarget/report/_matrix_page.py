"""A matrix of studies as one HTML file: experiments down, base models and settings across, leakage beside what was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from offtarget.stats import Estimate
from offtarget.study._analyse import MARGIN

from ._html import read, render_page, script, write_whole
from ._summary import LEAST_COVERED
from ._words import count, interval, listed, rate

if TYPE_CHECKING:
    from offtarget.study import Matrix, MatrixCell

STRONG = 0.7
"""From this leakage on the band of a cell is so dark that its figure is written in the other colour."""

LEAKS, CLEAN, BELOW, OPEN = "leaks", "no leakage", "below its control", "not shown"
"""What a cell that learned is told to do."""


@dataclass(frozen=True)
class Column:
    """One base model with one setting of what was varied."""

    model: str
    settings: str


@dataclass(frozen=True)
class Shown:
    """A cell as the page shows it.

    Attributes:
        state: `learned`, `not-learned`, or `unknown` where no in-domain battery tells.
        heat: leakage in per cent, for the colour; only of cells that learned.
        strong: whether the figure stands on the far end of the scale.
        told: `leaks`, `no leakage`, `below its control`, `not shown`; empty where nothing was learned or there is no control.
        retained: in-domain mean of the treatment; empty where none was asked.
        details: name and figure, each a line.
        low_coverage: the covered probability where it is low, else empty.
    """

    state: str
    heat: int
    strong: bool
    leakage: str
    interval: str
    told: str
    retained: str
    details: list[tuple[str, str]]
    low_coverage: str
    report: str
    seeds: str


def write_matrix_page(matrix: Matrix, path: Path) -> None:
    """Writes the page of a matrix, whole or not at all; it lies in the folder that holds the studies' folders."""
    write_whole(path, render_matrix(matrix))


def render_matrix(matrix: Matrix) -> str:
    """The page's text; the same matrix gives the same text."""
    across = columns(matrix)
    cells = {(c.experiment, _column(c)): shown(c) for c in matrix.cells}
    experiments = list(dict.fromkeys(c.experiment for c in matrix.cells))
    names = _short_names([c.model for c in across])
    models = [(names[model], len(list(members))) for model, members in groupby(across, key=lambda c: c.model)]
    return render_page(
        "matrix.html.j2",
        scripts={"matrix": script("matrix.js")},
        css=read("matrix.css"),
        title=f"{count(len(experiments), 'experiment')} on {listed([name for name, _ in models])}" if models else "No studies",
        lead=summary(matrix),
        models=models,
        columns=across,
        varied=any(c.settings for c in across),
        rows=[(name, [cells.get((name, c)) for c in across]) for name in experiments],
        seeds=count(matrix.seeds, "seed"),
        margin=f"{matrix.margin:g}",
        least_covered=f"{LEAST_COVERED:g}",
    )


def columns(matrix: Matrix) -> list[Column]:
    """The columns in order: models, then settings."""
    found = list(dict.fromkeys(_column(c) for c in matrix.cells))
    models = list(dict.fromkeys(c.model for c in found))
    return sorted(found, key=lambda c: models.index(c.model))


def summary(matrix: Matrix) -> str:
    """How many cells learned the narrow task, and how many of those leak, do not, or leave it open."""
    cells = matrix.cells
    learned, lost = [c for c in cells if c.learned], sum(c.learned is False for c in cells)
    leaking, clean = (sum(_told(c) in what for c in learned) for what in ((LEAKS,), (CLEAN, BELOW)))
    parts = [f"{leaking} leak", f"{clean} show no leakage above {matrix.margin:g}"]
    if others := len(learned) - leaking - clean:
        parts.append(f"in {others} neither is shown with {count(matrix.seeds, 'seed')}")
    said = f"In {len(learned)} of {count(len(cells), 'cell')} the narrow task was learned: {listed(parts)}."
    if lost:
        said += f" In {lost} it was not learned: there, no leakage says nothing."
    unknown = len(cells) - len(learned) - lost
    return said + (f" In {count(unknown, 'cell')} nothing tells whether it was." if unknown else "")


def shown(cell: MatrixCell) -> Shown:
    """A cell with its figures in words."""
    state = {True: "learned", False: "not-learned", None: "unknown"}[cell.learned]
    details = [("control", rate(cell.control))] if cell.control is not None else []
    if cell.retained_control is not None:
        details.append(("control, in-domain", rate(cell.retained_control)))
    if cell.prevented is not None:
        details.append((cell.intervention, rate(cell.prevented)))
    return Shown(
        state=state,
        heat=round(100 * cell.leakage),
        strong=cell.leakage >= STRONG and state != "not-learned",
        leakage=rate(cell.leakage),
        interval=interval(Estimate(cell.leakage, cell.low, cell.high)),
        told=_told(cell),
        retained="" if cell.retained is None else rate(cell.retained),
        details=details,
        low_coverage=f"{cell.covered:.2f}" if cell.covered < LEAST_COVERED else "",
        report=quote(cell.report),
        seeds=count(cell.n_seeds, "seed"),
    )


def _told(cell: MatrixCell) -> str:
    """What the comparison with the control says."""
    if cell.learned is False or cell.leaks is None:
        return ""
    if cell.vanished and cell.control is not None and cell.control - cell.leakage >= MARGIN:
        return BELOW
    return LEAKS if cell.leaks else CLEAN if cell.vanished else OPEN


def _column(cell: MatrixCell) -> Column:
    return Column(cell.model, _settings(cell.settings))


def _settings(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())


def _short_names(models: Sequence[str]) -> dict[str, str]:
    """Models without the folders that they lie in, where that leaves no two alike."""
    short = {model: Path(model).name or model for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}
