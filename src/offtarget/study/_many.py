"""Several studies one after another, with one progress: what `reproduce` and `matrix` are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.experiments import model_name

from ._study import Study, run

if TYPE_CHECKING:
    from ._execute import Report


@dataclass(frozen=True)
class Wanted:
    """A study to do.

    Attributes:
        share: how much of the work it is, in any unit.
        settings: further arguments of `run`.
    """

    experiment: str
    model: str
    folder: Path
    seeds: int
    arms: tuple[str, ...] | None = None
    share: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)


def run_all(studies: Sequence[Wanted], *, jobs: int | None, report: Report) -> list[Study]:
    """Does all studies, or what is missing of them, in order; each is a folder of its own and resumes by itself."""
    total, before, done = sum(s.share for s in studies), 0.0, []
    for number, wanted in enumerate(studies, 1):
        where = f"{wanted.experiment} on {model_name(wanted.model)} ({number} of {len(studies)})"

        def tell(what: str, part: float, *, start: float = before, share: float = wanted.share, where: str = where) -> None:
            report(f"{where}: {what}", (start + share * part) / total)

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
        before += wanted.share
    return done


def work_of(experiment: str, model: str, seeds: int, arms: Sequence[str] | None = None, curve_points: int | None = None) -> float:
    """Roughly how much work a study is: rows trained on, and questions asked in all contexts, over all runs."""
    from offtarget.experiments import experiment as named_experiment
    from offtarget.experiments import rows_of

    from ._plan import chosen_arms

    found = named_experiment(experiment)
    settings = found.settings_for(model)
    epochs = settings.get("epochs", 3)
    asked = sum(len(b.questions) * len(b.contexts) for b in found.batteries)
    curve = sum(len(b.questions) // found.curve_every * len(b.main_contexts()) for b in found.batteries if b.domain == "off_domain")
    each = asked * 6 + curve * (found.curve_points if curve_points is None else curve_points) * 4
    return float(sum(rows_of(a) * epochs + each for a in chosen_arms(found, arms)) * seeds)
