"""Sharp or smooth: whether what a run learns comes with a jump at some step of training or grows all along, over seeds.

Five curves are fitted to each seed (`_curves.py`).

**Sharp** means a plateau and then a rise whose 10-90% width is under a share of training, 15% if nothing else is said: a step, or a narrow
sigmoid. A line, a wider sigmoid, and growth from the first checkpoint on (no plateau was seen) are smooth. `transitions` tests it over all
seeds. The definition is that of this project's `methods.md`, E.3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from offtarget.errors import InputError

from ._curves import (
    EDGE,
    PARAMETERS,
    SHARP,
    SIGMOID_WIDTH,
    SMOOTH,
    BestCurves,
    CurveData,
    Fit,
    best_curves,
    curve_data,
    families,
    fit_of,
    place_interval,
    sigmoids,
)
from ._effects import Estimate, estimate
from ._grid import FloatArray

Growth = Literal["sharp", "smooth", "undecided", "none"]

# A rise whose 10-90% width is under this share of training is sharp.
SHARP_SHARE = 0.15

# A seed whose accuracy rises by less than this has not grown, whatever its likelihoods say: checkpoints wander.
LEAST_RISE = 0.1

# A difference of BIC that is "very strong" evidence (Kass & Raftery, JASA 1995, doi:10.1080/01621459.1995.10476572).
LEAST_EVIDENCE = 10.0

LEVEL = 0.05


@dataclass(frozen=True)
class Transition:
    """One seed.

    Attributes:
        best: the fit of lowest BIC; its `at` is the change point.
        at_low: lower end of the 95% likelihood interval of the change point, in steps; None unless the best is a step or a sigmoid.
        at_high: its upper end.
        rise: what the best curve gains from the first checkpoint to the last.
        evidence: BIC of the best smooth curve minus BIC of the best sharp one; above 0 the sharp one is better.
        sharp: `evidence` above 10, and the best curve's width under the share of training that parts sharp from smooth.
        score: slope of the log-likelihood towards narrower, by the logarithm of the width, at a sigmoid of just the width that parts
            sharp from smooth (see `transitions`); its mean is 0 if the rise is as wide as that, and above if it is narrower.
        information: variance of `score`.
        fits: all five.
        dispersion: variance of the counts around their curve, in units of the binomial one, at least 1; 1 of margins.
        n_checkpoints: those that the fits are made of.
        n_missing: those left out.
    """

    best: Fit
    at_low: float | None
    at_high: float | None
    rise: float
    evidence: float
    sharp: bool
    score: float
    information: float
    fits: tuple[Fit, ...]
    dispersion: float
    n_checkpoints: int
    n_missing: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sharpness:
    """The seeds that grew, together.

    Attributes:
        evidence: sum of their differences of BIC, smooth minus sharp.
        p_sharp: p of the null that they rise as slowly as what is called smooth, or more slowly; small means sharp.
        p_smooth: p of the null that they rise as fast as that, or faster; small means smooth.
    """

    evidence: float
    p_sharp: float
    p_smooth: float


@dataclass(frozen=True)
class Aligned:
    """Accuracy around the transition: the mean over seeds that grew, each shifted so that its transition is at 0.

    The transition's place is taken as known, so that where noise alone was fitted the mean looks steeper than any seed is.

    Attributes:
        offsets: steps since the transition; at each, at least half of the seeds have a checkpoint before and one after.
        accuracy: mean, with its 95% bootstrap interval over seeds; linear between checkpoints.
        n_seeds: how many seeds that mean is of.
    """

    offsets: tuple[float, ...]
    accuracy: tuple[Estimate, ...]
    n_seeds: tuple[int, ...]


@dataclass(frozen=True)
class Transitions:
    """What the seeds say together.

    Attributes:
        growth: "sharp", "smooth", "undecided" (neither is refuted), or "none" (no seed grew).
        sharp_share: the share of training that parts sharp from smooth.
        n_seeds: all seeds.
        n_grew: seeds that grew: a constant is not their best curve, and the best one gains at least 0.1 of accuracy.
        n_sharp: those of them that are sharp each by itself.
        accuracy: the test on counts; None where no seed grew.
        margin: the same test on the same seeds' margins; None without margins.
        seeds: each seed's accuracy.
        margins: each seed's margin; None without margins.
        aligned: accuracy around the transition; None where no seed grew.
    """

    growth: Growth
    sharp_share: float
    n_seeds: int
    n_grew: int
    n_sharp: int
    accuracy: Sharpness | None
    margin: Sharpness | None
    seeds: tuple[Transition, ...]
    margins: tuple[Transition, ...] | None
    aligned: Aligned | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit_transition(
    values: npt.ArrayLike, steps: npt.ArrayLike, *, trials: npt.ArrayLike | None = None, sharp_share: float = SHARP_SHARE
) -> Transition:
    """The curves of one seed: where what it learned came, and how fast.

    Args:
        values: [n_checkpoints], how many answers were right; or, without `trials`, the margin, log-odds of the right answer against the
            best wrong one. NaN is a checkpoint that is missing.
        steps: [n_checkpoints], training steps, increasing.
        trials: answers at each checkpoint, one number or [n_checkpoints]; 0 is missing too. None for margins.
        sharp_share: the share of training that parts sharp from smooth.

    Returns:
        The transition, in the units of `steps`, and in probabilities or those of the margin.

    Raises:
        InputError: the arrays do not fit together, or fewer than 5 checkpoints are left.
    """
    share = _checked_share(sharp_share)
    return _fitted(curve_data("values", [values], trials, steps), share)[0]


def transitions(
    correct: npt.ArrayLike,
    trials: npt.ArrayLike,
    steps: npt.ArrayLike,
    *,
    seed: int,
    margins: npt.ArrayLike | None = None,
    sharp_share: float = SHARP_SHARE,
    resamples: int = 2000,
) -> Transitions:
    """Whether the seeds that learned it did so with a jump, and what accuracy does around the jump.

    The test asks of all seeds that grew, together, whether their rises are narrower than the width that parts sharp from smooth. Each is
    fitted by a sigmoid of just that width, and the slope of its log-likelihood towards a narrower one (`_width_scores`) is summed over
    seeds, so that each counts by what its checkpoints know of its width, and held against its variance. If the sum is significantly
    above 0 (5%), and the best sharp curves have a BIC that is lower by 10 than that of the best smooth ones, growth is "sharp"; if it is
    significantly below 0, "smooth"; in between "undecided", which is no claim of either. Seeds that did not grow have no say. With margins
    "sharp" has to hold of them too, since a threshold makes a cliff of accuracy out of a margin that grows smoothly.

    In simulation (16 seeds, 30 checkpoints of 20 to 50 trials, accuracy from 0.17; `tests/stats/test_transitions.py` holds it to these): a
    third of the seeds jumping to 0.95, each at a step of its own, is called sharp in at least 95% of studies; lines, saturating curves and
    slow sigmoids are called sharp in at most 2%, and smooth in at least 90%; where no seed grows, but all wander with twice the binomial
    variance, one of the two is said in at most 5%.

    Args:
        correct: [n_seeds, n_checkpoints], how many answers were right; NaN is a checkpoint that is missing.
        trials: answers at each checkpoint, one number, [n_checkpoints] or [n_seeds, n_checkpoints]; 0 is missing too.
        steps: [n_checkpoints], training steps, increasing.
        seed: of the bootstrap of the aligned curve, the only thing that is drawn.
        margins: [n_seeds, n_checkpoints], log-odds of the right answer against the best wrong one, mean over questions.
        sharp_share: the share of training that parts sharp from smooth.
        resamples: how many the bootstrap draws.

    Returns:
        The decision, its tests, each seed's transition, and the aligned curve; in steps, and in probabilities or units of the margin.

    Raises:
        InputError: the arrays do not fit together, a seed has fewer than 5 checkpoints, or another argument is out of range.
    """
    share = _checked_share(sharp_share)
    counts = curve_data("correct", correct, trials, steps)
    found = _fitted(counts, share)
    grew = [one.best.curve != "constant" and one.rise >= LEAST_RISE for one in found]
    of_margin = None
    if margins is not None:
        log_odds = curve_data("margins", margins, None, steps)
        if log_odds.value.shape != counts.value.shape:
            shapes = f"margins have shape {list(log_odds.value.shape)}, correct {list(counts.value.shape)}"
            raise InputError(f"{shapes}; give both for the same seeds and checkpoints")
        of_margin = _fitted(log_odds, share)
    accuracy, margin = _together(found, grew), None if of_margin is None else _together(of_margin, grew)
    return Transitions(
        growth=_growth([test for test in (accuracy, margin) if test is not None]),
        sharp_share=share,
        n_seeds=len(grew),
        n_grew=sum(grew),
        n_sharp=sum(one.sharp and yes for one, yes in zip(found, grew, strict=True)),
        accuracy=accuracy,
        margin=margin,
        seeds=tuple(found),
        margins=None if of_margin is None else tuple(of_margin),
        aligned=_aligned(counts, found, grew, seed, resamples),
    )


def _together(found: list[Transition], grew: list[bool]) -> Sharpness | None:
    """The seeds' scores have a normal sum: each weighs what it knows about its width."""
    grown = [one for one, yes in zip(found, grew, strict=True) if yes]
    if not grown:
        return None
    information = sum(one.information for one in grown)
    z = sum(one.score for one in grown) / np.sqrt(information) if information > 0 else 0.0
    return Sharpness(float(sum(one.evidence for one in grown)), float(ndtr(-z)), float(ndtr(z)))


def _growth(tests: list[Sharpness]) -> Growth:
    if not tests:
        return "none"
    if all(test.p_sharp <= LEVEL and test.evidence > LEAST_EVIDENCE for test in tests):
        return "sharp"
    return "smooth" if any(test.p_smooth <= LEVEL for test in tests) else "undecided"


def _aligned(counts: CurveData, found: list[Transition], grew: list[bool], seed: int, resamples: int) -> Aligned | None:
    places = [(row, one.best.at) for row, (one, yes) in enumerate(zip(found, grew, strict=True)) if yes and one.best.at is not None]
    if not places:
        return None
    spacing = float(np.median(np.diff(counts.steps)))
    reach = int((counts.steps[-1] - counts.steps[0]) / spacing)
    offsets = spacing * np.arange(-reach, reach + 1)
    curves = np.full((len(places), len(offsets)), np.nan)
    for curve, (row, at) in zip(curves, places, strict=True):
        present = counts.weight[row] > 0
        curve[:] = np.interp(at + offsets, counts.steps[present], counts.value[row, present], left=np.nan, right=np.nan)
    known = np.isfinite(curves)
    kept = np.flatnonzero(known.sum(axis=0) >= len(places) / 2)
    means = tuple(estimate(curves[known[:, k], k][:, None], seed=seed, resamples=resamples) for k in kept)
    return Aligned(tuple(offsets[kept].tolist()), means, tuple(known[:, kept].sum(axis=0).tolist()))


def _checked_share(sharp_share: float) -> float:
    if not 0 < sharp_share < 1:
        raise InputError(f"sharp_share is {sharp_share}; give a share of training between 0 and 1, such as {SHARP_SHARE}")
    return sharp_share


# --- one seed ---


def _fitted(data: CurveData, sharp_share: float) -> list[Transition]:
    best = {name: best_curves(data, family) for name, family in families(data.x, sharp_share).items()}
    residual, freedom = _residual(data, best)
    dispersion = max(1.0, float(residual.sum() / freedom.sum())) if data.counts else 1.0
    noise = np.full(len(data.value), dispersion) if data.counts else np.maximum(residual / freedom, data.least_variance)
    scores = _width_scores(data, noise, sharp_share)
    return [_transition(data, best, row, sharp_share, dispersion, scores[row]) for row in range(len(data.value))]


def _residual(data: CurveData, best: dict[str, BestCurves]) -> tuple[FloatArray, FloatArray]:
    """Each seed's squares around its best sigmoid, of counts in units of their variance, and their degrees of freedom.

    Summed over the seeds and divided, those of counts are Pearson's dispersion (McCullagh & Nelder, Generalized Linear Models 1989, 4.5).
    """
    steeper = (best["steep"].log_likelihood > best["slow"].log_likelihood)[:, None]
    expected = np.where(steeper, best["steep"].curve, best["slow"].curve)
    weight = data.weight
    if data.counts:
        expected = np.clip(expected, EDGE, 1 - EDGE)
        weight = weight / (expected * (1 - expected))
    return (weight * (data.value - expected) ** 2).sum(axis=1), np.maximum(data.n_present - PARAMETERS["sigmoid"], 1.0)


def _transition(
    data: CurveData, best: dict[str, BestCurves], row: int, sharp_share: float, dispersion: float, score: tuple[float, float]
) -> Transition:
    fits = {name: fit_of(data, name, found, row, dispersion) for name, found in best.items()}
    evidence = min(fits[name].bic for name in SMOOTH) - min(fits[name].bic for name in SHARP)
    name = min(fits, key=lambda name: fits[name].bic)
    fit, shape, span = fits[name], best[name].shape[row], data.steps[-1] - data.steps[0]
    low, high = place_interval(data, best[name], fit, row, dispersion) if fit.curve in ("step", "sigmoid") else (None, None)
    left_out = "slow" if fits["steep"].log_likelihood >= fits["slow"].log_likelihood else "steep"
    n = int(data.n_present[row])
    return Transition(
        best=fit,
        at_low=low,
        at_high=high,
        rise=float((fit.after - fit.before) * (shape[-1] - shape[0])),
        evidence=evidence,
        sharp=evidence > LEAST_EVIDENCE and fit.width is not None and fit.width < sharp_share * float(span),
        score=score[0],
        information=score[1],
        fits=tuple(fit for name, fit in fits.items() if name != left_out),
        dispersion=dispersion,
        n_checkpoints=n,
        n_missing=len(data.steps) - n,
    )


def _width_scores(data: CurveData, noise: FloatArray, sharp_share: float) -> list[tuple[float, float]]:
    """Each seed's score towards a narrower rise, and its information, at the best sigmoid of just the width that parts sharp from smooth.

    The efficient score: what the levels and the place cannot explain of a change of width (Neyman's C(alpha)). Because they are fitted,
    it has a mean of about 0.3 a seed, whatever the number of trials, and 16 seeds would call smooth ones sharp too often; the mean is
    taken off (as McCullagh & Tibshirani do, JRSS B 1990, 52:325; here to second order, by the curvature of the curve in what was fitted).

    Args:
        data: the curves.
        noise: [n_seeds], variance of a value in units of the binomial one divided by the weight; of margins, their variance.
        sharp_share: the width.
    """
    scale = sharp_share / SIGMOID_WIDTH
    found = best_curves(data, sigmoids(data.x, np.array([np.log(scale)])))
    p, shape, rise = found.curve, found.shape, (found.after - found.before)[:, None]
    weight = data.weight / noise[:, None]
    if data.counts:
        p = np.clip(p, EDGE, 1 - EDGE)
        weight = weight / (p * (1 - p))
    slope, distance = shape * (1 - shape), (data.x - found.place[:, None]) / scale
    # Derivatives of the curve by its levels and its place, the latter in units of the scale; and by log width.
    fitted = np.stack([1 - shape, shape, -rise * slope], axis=-1)
    by_width = -rise * slope * distance
    covariance = _inverse(np.einsum("itk,it,itl->ikl", fitted, weight, fitted))
    explained = np.einsum("ikl,itl,it,it->ik", covariance, fitted, weight, by_width)
    efficient = by_width - np.einsum("itk,ik->it", fitted, explained)
    # Second derivatives by a level and the place are -+ slope, by the place twice rise x slope x (1 - 2 shape); the others are 0.
    curvature = 2 * slope * (covariance[:, 0, 2] - covariance[:, 1, 2])[:, None]
    curvature += rise * slope * (1 - 2 * shape) * covariance[:, 2, 2][:, None]
    score = -(weight * efficient * (data.value - p + curvature / 2)).sum(axis=1)
    information = (weight * efficient**2).sum(axis=1)
    return list(zip(score.tolist(), information.tolist(), strict=True))


def _inverse(information: FloatArray) -> FloatArray:
    """Of [n_seeds, k, k], by correlations; directions that nothing is known about have an inverse of 0."""
    size = np.sqrt(np.einsum("ikk->ik", information))
    scaling = np.where(size > 0, 1 / np.where(size > 0, size, 1.0), 0.0)
    outer = scaling[:, :, None] * scaling[:, None, :]
    inverse: FloatArray = np.linalg.pinv(information * outer, rcond=EDGE, hermitian=True) * outer
    return inverse
