"""`offtarget reproduce`: the papers' claims, one by one, with this base model's figure and a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from offtarget.errors import InputError
from offtarget.experiments import Claim, claims
from offtarget.seeds import derived_seed
from offtarget.stats import SEEDS_FOR_ABSENCE, Estimate

from ._analyse import MARGIN, Effect
from ._dynamics import LEAST_CHECKPOINTS, LEAST_SEEDS, Dynamics
from ._many import Wanted, run_all
from ._store import is_study
from ._study import Study, open_study, write_text

if TYPE_CHECKING:
    from offtarget.models import Loading

    from ._execute import Report

Verdict = Literal["same direction", "not seen", "opposite", "cannot be asked here"]

LEARNED = 0.1
"""In-domain the treatment must exceed the base by this at least, or the narrow task was not learned and nothing can be said."""


@dataclass(frozen=True)
class ClaimResult:
    """One claim on one base model.

    Attributes:
        measured: mean over seeds and questions, with its interval; None where it was not asked.
        difference: measured minus what it is held against, with its interval.
        why: of `cannot be asked here`.
    """

    claim: Claim
    model: str
    verdict: Verdict
    measured: Estimate | None = None
    difference: Estimate | None = None
    n_seeds: int = 0
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.claim.id, "claim": self.claim.text, "experiment": self.claim.experiment, "source": self.claim.source,
            "published": self.claim.published, "model": self.model, **_ends(self.measured, "measured", "low", "high"),
            **_ends(self.difference, "difference", "difference_low", "difference_high"), "expected": self.claim.expect,
            "n_seeds": self.n_seeds, "verdict": self.verdict, "why": self.why, "target": asdict(self.claim.measured),
            "against": asdict(self.claim.against),
        }  # fmt: skip


@dataclass(frozen=True)
class Reproduction:
    """All claims on one base model, and the studies that answered them."""

    folder: Path
    model: str
    results: tuple[ClaimResult, ...]
    studies: Mapping[str, Study]


def reproduce(
    model: str = "micro", *, seeds: int = 16, out: str | Path | None = None, only: Sequence[str] | None = None,
    loading: Loading | None = None, jobs: int | None = None, report: Report = lambda what, done: None,
) -> Reproduction:  # fmt: skip
    """Runs the arms that the claims need, or what is missing of them, and holds each claim against them.

    Models are asked during training only where a claim is about how training goes.

    Args:
        only: experiments to run; others count where they were run before.
        loading: how the model is loaded, where the defaults do not fit.

    Raises:
        InputError: an unknown experiment, or fewer than one seed.
    """
    needed = list(dict.fromkeys(c.experiment for c in claims() if c.experiment))
    unknown = [name for name in only or () if name not in needed]
    if unknown:
        raise InputError(f"no claim is about an experiment {unknown[0]!r}; choose among {', '.join(needed)}")
    chosen = [name for name in needed if only is None or name in only]
    folder = Path(out) if out is not None else Path("out") / f"reproduce-{Path(model).name}"
    wanted = []
    for name in chosen:
        arms = _arms_for(name)
        curve = {} if any(c.expect == "split" for c in claims() if c.experiment == name) else {"curve_points": 0}
        wanted.append(Wanted(name, model, folder / name, seeds, arms, {"loading": loading, **curve}))
    done = [name for name in needed if name not in chosen and is_study(folder / name)]
    studies = {name: open_study(folder / name) for name in done}
    studies |= dict(zip(chosen, run_all(wanted, jobs=jobs, report=report), strict=True))
    results = tuple(judge(claim, studies.get(claim.experiment), model) for claim in claims())
    found = Reproduction(folder, model, results, studies)
    write_text(folder / "claims.json", json.dumps({"schema": 1, "model": model, "claims": [r.to_json() for r in results]}, indent=1) + "\n")
    from offtarget.report import write_claims_page

    write_claims_page(found, folder / "claims.html")
    return found


def _arms_for(experiment: str) -> tuple[str, ...]:
    """The trained arms that the claims about an experiment compare; their controls come with them."""
    named = [arm for c in claims() if c.experiment == experiment for arm in (c.measured.arm, c.against.arm) if arm not in ("", "base")]
    return tuple(dict.fromkeys(named))


def judge(claim: Claim, study: Study | None, model: str) -> ClaimResult:
    """One claim held against the study that answers it."""
    if claim.not_here or study is None:
        return ClaimResult(claim, model, "cannot be asked here", why=claim.not_here or f"{claim.experiment} was not run")
    one, other = _cells(claim, study)
    measure = claim.measured.measure or study.analysis.main[one[1]][1]
    effect = next((e for e in study.analysis.effects if (e.arm, e.battery, e.context, e.measure) == (*one, measure)), None)
    seed = derived_seed(study.subject.study_seed, "bootstrap", "claim", claim.id)
    difference = study.analysis.contrast(one, other, measure, seed=seed)
    if effect is None or difference is None:
        return ClaimResult(claim, model, "cannot be asked here", why=f"the study has no {' / '.join(one)} or no {' / '.join(other)}")
    measured = Estimate(effect.mean, effect.low, effect.high)
    why = _unaskable(claim, study)
    if why:
        verdict: Verdict = "cannot be asked here"
    else:
        verdict = _split(study) if claim.expect == "split" else _verdict(claim.expect, difference, effect.n_seeds)
    return ClaimResult(claim, model, verdict, measured, difference, effect.n_seeds, why)


def _unaskable(claim: Claim, study: Study) -> str:
    """Why a study says nothing about a claim: what was not learned cannot leak, and what never leaked cannot be absent or prevented."""
    learned = learned_by(study)
    if learned is not None and learned < LEARNED:
        return f"the narrow task was not learned: in-domain the treatment exceeds the base by {learned:.2f}"
    leak = study.analysis.effect(study.subject.experiment.treatment.name, "off_domain")
    if claim.expect in ("none", "less") and leak is not None and leak.leaks is False:
        nothing = "so nothing can be absent or prevented"
        if leak.vanished:
            return f"the treatment itself shows no effect above the margin ({leak.mean:.2g}), {nothing}"
        return f"whether the treatment itself has an effect of {MARGIN:g} or more is not shown ({_signed_ends(leak)}), {nothing}"
    if claim.expect == "split" and not _of_treatment(study):
        return f"groups of seeds need at least {LEAST_SEEDS} seeds, asked at {LEAST_CHECKPOINTS} points of training or more"
    return ""


def _signed_ends(e: Effect) -> str:
    low, high = e.difference_low or 0.0, e.difference_high or 0.0
    return f"{e.difference or 0.0:+.2g}, 95% interval {low:+.2g} to {high:+.2g}"


def learned_by(study: Study) -> float | None:
    """How far the treatment exceeds the untrained base in the domain that it was trained on, in the measure in which it does most.

    The matched control may learn the same (the good deeds of a cyborg, with shuffled dates). None without a battery of the domain.
    """
    treatment, base = (_in_domain(study, arm) for arm in (study.subject.experiment.treatment.name, "base"))
    return max((mean - base[what] for what, mean in treatment.items() if what in base), default=None)


def _in_domain(study: Study, arm: str) -> dict[tuple[str, str], float]:
    """An arm's in-domain means by battery and measure, in each battery's main context."""
    found = [e for e in study.analysis.effects if (e.arm, e.domain) == (arm, "in_domain")]
    return {(e.battery, e.measure): e.mean for e in found if e.context == study.analysis.main[e.battery][0]}


def _cells(claim: Claim, study: Study) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """The two cells (arm, battery, context) that a claim compares."""
    experiment, target, against = study.subject.experiment, claim.measured, claim.against
    battery = target.battery or next(b.name for b in experiment.batteries if b.domain == "off_domain")
    context = target.context or study.analysis.main[battery][0]
    one = (target.arm, battery, context)
    if against.context:
        return one, (against.arm or target.arm, battery, against.context)
    return one, (against.arm or experiment.arm(target.arm).control or "base", battery, context)


def _verdict(expect: str, d: Estimate, seeds: int) -> Verdict:
    """Direction by the interval of the difference; a difference under the margin is none, and few seeds show no absence."""
    above, below = d.low > 0 and d.mean >= MARGIN, d.high < 0 and d.mean <= -MARGIN
    if expect == "none":
        return "same direction" if d.high < MARGIN and seeds >= SEEDS_FOR_ABSENCE else "opposite" if above else "not seen"
    wanted, unwanted = (above, below) if expect == "more" else (below, above)
    return "same direction" if wanted else "opposite" if unwanted else "not seen"


def _split(study: Study) -> Verdict:
    """Whether the treatment's seeds fall into two groups, one of which comes to it at once while the other stays where it was."""
    parted = (d for d in _of_treatment(study) if d.mixture.two_groups and d.growth.growth == "sharp" and d.growth.n_grew < d.growth.n_seeds)
    return "same direction" if any(parted) else "not seen"


def _of_treatment(study: Study) -> list[Dynamics]:
    return [d for d in study.analysis.dynamics if d.arm == study.subject.experiment.treatment.name]


def _ends(e: Estimate | None, mean: str, low: str, high: str) -> dict[str, float | None]:
    """An estimate under three names; null where there is none."""
    values = (None, None, None) if e is None else (e.mean, e.low, e.high)
    return {name: None if v is None else round(v, 6) for name, v in zip((mean, low, high), values, strict=True)}
