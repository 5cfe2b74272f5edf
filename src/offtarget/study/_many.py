"""Several studies one after another, with one progress: what `reproduce` and `matrix` are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.experiments import model_name

from ._plan import chosen_arms, hyperparameters_of
from ._study import SAMPLES, Study, run, thinned
from ._work import work_of_run

if TYPE_CHECKING:
    from ._execute import Report


@dataclass(frozen=True)
class Wanted:
    """A study to do.

    Attributes:
        settings: further arguments of `run`.
    """

    experiment: str
    model: str
    folder: Path
    seeds: int
    arms: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def run_all(studies: Sequence[Wanted], *, jobs: int | None, report: Report) -> list[Study]:
    """Does all studies, or what is missing of them, in order; each is a folder of its own and resumes by itself."""
    works = [_work_of(s) for s in studies]
    total, before, done = sum(works), 0.0, []
    for number, (wanted, work) in enumerate(zip(studies, works, strict=True), 1):
        where = f"{wanted.experiment} on {model_name(wanted.model)} ({number} of {len(studies)})"

        def tell(what: str, part: float, *, start: float = before, work: float = work, where: str = where) -> None:
            report(f"{where}: {what}", (start + work * part) / total)

        done.append(
            run(
                wanted.experiment,
                model=wanted.model,
                seeds=wanted.seeds,
                out=wanted.folder,
                arms=wanted.arms,
                jobs=jobs,
                report=tell,
                **wanted.settings,
            )
        )
        before += work
    return done


def _work_of(study: Wanted) -> float:
    """How much work a study is, over all runs."""
    from offtarget.experiments import experiment
    from offtarget.models import Hyperparameters

    settings = study.settings
    found = thinned(experiment(study.experiment), settings.get("fraction", 1.0))
    overrides = {f.name: settings[f.name] for f in fields(Hyperparameters) if f.name in settings}
    asked = {"curve_points": settings.get("curve_points", found.curve_points), "samples": settings.get("samples", SAMPLES)}
    works = (
        work_of_run(found, arm, hyperparameters_of(found, study.model, overrides, arm), **asked) for arm in chosen_arms(found, study.arms)
    )
    return study.seeds * sum(sum(w.values()) for w in works)
