"""Sharp or smooth: whether what a run learns comes with a jump at some step of training or grows all along, over seeds.

Five curves are fitted to each seed. Each is a level before, a level after, and a shape that goes from 0 to 1 between them:

| curve | shape at x, the share of training that is over | parameters |
|---|---|---|
| constant | none | 1 |
| line | x | 2 |
| saturating | 1 - exp(-x / tau): growth from the first checkpoint on, which slows down | 3 |
| step | 0 up to some checkpoint, 1 from the next one | 3 |
| sigmoid | 1 / (1 + exp(-(x - at) / w)) | 4 |

Counts have a binomial likelihood, margins a normal one with its variance as one more parameter. For a given shape the two levels are a
convex problem, solved by reweighted least squares; the place and the width are searched on a grid and then around its best point, for
all seeds at once.

**Sharp** means a plateau and then a rise whose 10-90% width is under a share of training, 15% if nothing else is said: a step, or a narrow
sigmoid. A line, a wider sigmoid, and growth from the first checkpoint on (no plateau was seen) are smooth. `transitions` tests it over all
seeds. The definition and the curves, but for the saturating one, are those of this project's `methods.md`, E.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, xlog1py, xlogy

from offtarget.errors import InputError

from ._effects import Estimate, estimate
from ._grid import FloatArray

CurveName = Literal["constant", "line", "saturating", "step", "sigmoid"]
Growth = Literal["sharp", "smooth", "undecided", "none"]

# A rise whose 10-90% width is under this share of training is sharp.
SHARP_SHARE = 0.15

# A seed whose accuracy rises by less than this has not grown, whatever its likelihoods say: checkpoints wander.
LEAST_RISE = 0.1

# A difference of BIC that is "very strong" evidence (Kass & Raftery, JASA 1995, doi:10.1080/01621459.1995.10476572).
LEAST_EVIDENCE = 10.0

LEVEL = 0.05
NORMAL_95 = 1.96
LEAST_CHECKPOINTS = 5

PARAMETERS: dict[CurveName, int] = {"constant": 1, "line": 2, "saturating": 3, "step": 3, "sigmoid": 4}

# 10-90% widths of the shapes, in units of their own scale.
SIGMOID_WIDTH = 2 * np.log(9.0)
SATURATING_WIDTH = np.log(9.0)
LINE_WIDTH = 0.8

# Of the search: 8 reweightings come within 0.06 of the largest log-likelihood on the worst of 300 random curves, 0.003 on the others.
REWEIGHTINGS = 8
ZOOMS = 5
EDGE = 1e-9


@dataclass(frozen=True)
class Fit:
    """One curve at its largest likelihood.

    Attributes:
        curve: which.
        log_likelihood: nats, divided by the dispersion; of counts without the binomial coefficients, which all curves share.
        bic: parameters x log(n) - 2 x log-likelihood; n counts trials (divided by the dispersion) or margins. Lower is better.
        before: the level that the rise starts from: probability of a right answer, or margin.
        after: the level that it goes to; that of a sigmoid or a saturating curve may lie past the last step.
        at: step at which half of the way from `before` to `after` is done; None of a constant.
        width: steps between 10% and 90% of that way; 0 of a step, None of a constant.
    """

    curve: CurveName
    log_likelihood: float
    bic: float
    before: float
    after: float
    at: float | None
    width: float | None


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
    return _fitted(_data("values", [values], trials, steps), share)[0]


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
    counts = _data("correct", correct, trials, steps)
    found = _fitted(counts, share)
    grew = [one.best.curve != "constant" and one.rise >= LEAST_RISE for one in found]
    of_margin = None
    if margins is not None:
        log_odds = _data("margins", margins, None, steps)
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


def _aligned(counts: _Data, found: list[Transition], grew: list[bool], seed: int, resamples: int) -> Aligned | None:
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


# --- one seed ---


def _fitted(data: _Data, sharp_share: float) -> list[Transition]:
    best = {name: _best(data, family) for name, family in _families(data.x, sharp_share).items()}
    residual, freedom = _residual(data, best)
    dispersion = max(1.0, float(residual.sum() / freedom.sum())) if data.counts else 1.0
    noise = np.full(len(data.value), dispersion) if data.counts else np.maximum(residual / freedom, data.least_variance)
    scores = _width_scores(data, noise, sharp_share)
    return [_transition(data, best, row, sharp_share, dispersion, scores[row]) for row in range(len(data.value))]


def _residual(data: _Data, best: dict[str, _Best]) -> tuple[FloatArray, FloatArray]:
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
    data: _Data, best: dict[str, _Best], row: int, sharp_share: float, dispersion: float, score: tuple[float, float]
) -> Transition:
    fits = {name: _fit(data, name, found, row, dispersion) for name, found in best.items()}
    evidence = min(fits[name].bic for name in SMOOTH) - min(fits[name].bic for name in SHARP)
    name = min(fits, key=lambda name: fits[name].bic)
    fit, shape, span = fits[name], best[name].shape[row], data.steps[-1] - data.steps[0]
    low, high = _interval(data, best[name], fit, row, dispersion) if fit.curve in ("step", "sigmoid") else (None, None)
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


def _fit(data: _Data, name: str, found: _Best, row: int, dispersion: float) -> Fit:
    curve = CURVES[name]
    place, scale, span = float(found.place[row]), float(found.scale[row]), float(data.steps[-1] - data.steps[0])
    halfway = {"line": 0.5, "saturating": scale * np.log(2)}.get(curve, place)
    width = {"line": LINE_WIDTH, "saturating": scale * SATURATING_WIDTH, "sigmoid": scale * SIGMOID_WIDTH}.get(curve, 0.0)
    likelihood = float(found.log_likelihood[row]) / dispersion
    parameters = PARAMETERS[curve] + (not data.counts)
    return Fit(
        curve=curve,
        log_likelihood=likelihood,
        bic=float(parameters * np.log(data.weight[row].sum() / dispersion) - 2 * likelihood),
        before=float(found.before[row]),
        after=float(found.after[row]),
        at=None if curve == "constant" else float(data.steps[0] + halfway * span),
        width=None if curve == "constant" else float(width * span),
    )


def _interval(data: _Data, found: _Best, fit: Fit, row: int, dispersion: float) -> tuple[float | None, float | None]:
    """The places that a chi-squared likelihood ratio does not refute at 5%, at about the fit's width; a step's are whole checkpoints."""
    x, one, best = data.x, _Data(data.steps, data.value[row : row + 1], data.weight[row : row + 1], data.counts), float(found.place[row])
    step = fit.curve == "step"
    places = (x[1:] + x[:-1]) / 2 if step else _sigmoids(x, np.zeros(1)).places
    scales = found.scale[row] * (np.ones(1) if step else np.array([0.6, 1.0, 1.6]))
    shapes = (_step if step else _sigmoid)(x, places[:, None], scales[:, None, None])
    likelihood = _levels(one, shapes.reshape(1, -1, len(x)))[2].reshape(len(scales), -1).max(axis=0) / dispersion
    root = np.sqrt(np.maximum(2 * (fit.log_likelihood - likelihood), 0.0))
    if step:
        within = np.flatnonzero(root <= NORMAL_95)
        ends = [x[within[0]], x[within[-1] + 1]]
    else:
        ends = []
        for side in (np.flatnonzero(places < best)[::-1], np.flatnonzero(places > best)):
            away = np.maximum.accumulate(np.append(0.0, root[side]))
            ends.append(np.interp(NORMAL_95, away, np.append(best, places[side])))
    low, high = (float(data.steps[0] + end * (data.steps[-1] - data.steps[0])) for end in ends)
    return low, high


def _width_scores(data: _Data, noise: FloatArray, sharp_share: float) -> list[tuple[float, float]]:
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
    found = _best(data, _sigmoids(data.x, np.array([np.log(scale)])))
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


# --- the curves ---

CURVES: dict[str, CurveName] = {
    "constant": "constant", "line": "line", "saturating": "saturating", "step": "step", "steep": "sigmoid", "slow": "sigmoid",
}  # fmt: skip
SMOOTH, SHARP = ("line", "saturating", "slow"), ("step", "steep")


@dataclass(frozen=True)
class _Data:
    """Curves of all seeds. `value` and `weight` are [n_seeds, n_checkpoints]; a missing checkpoint has weight 0 and value 0.

    Counts: the value is the share of right answers, the weight the number of trials. Margins: the weight is 1.
    """

    steps: FloatArray
    value: FloatArray
    weight: FloatArray
    counts: bool

    @property
    def x(self) -> FloatArray:
        x: FloatArray = (self.steps - self.steps[0]) / (self.steps[-1] - self.steps[0])
        return x

    @property
    def n_present(self) -> FloatArray:
        n: FloatArray = (self.weight > 0).sum(axis=1).astype(np.float64)
        return n

    @property
    def least_variance(self) -> FloatArray:
        """Of margins: a perfect fit counts as one to a millionth of the largest value."""
        least: FloatArray = (1e-6 * np.maximum(np.abs(self.value).max(axis=1), 1e-6)) ** 2
        return least


@dataclass(frozen=True)
class _Best:
    """The largest likelihood of a family of curves. All are [n_seeds], `shape` is [n_seeds, n_checkpoints]."""

    log_likelihood: FloatArray
    before: FloatArray
    after: FloatArray
    place: FloatArray
    scale: FloatArray
    shape: FloatArray

    @property
    def curve(self) -> FloatArray:
        return self.before[:, None] + (self.after - self.before)[:, None] * self.shape


@dataclass(frozen=True)
class _Family:
    """Shapes by place [n_places] and log scale [n_scales], in shares of training, and how often to halve the grid around the best."""

    shape: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    places: FloatArray
    log_scales: FloatArray
    zooms: int = ZOOMS


def _saturating(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    shape: FloatArray = -np.expm1(-(x - place) / scale)
    return shape


def _sigmoid(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    shape: FloatArray = expit((x - place) / scale)
    return shape


def _step(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    return np.where(x > place, 1.0, 0.0) + 0 * scale


def _sigmoids(x: FloatArray, log_scales: FloatArray) -> _Family:
    return _Family(_sigmoid, np.sort(np.concatenate([x, (x[1:] + x[:-1]) / 2])), log_scales)


def _families(x: FloatArray, sharp_share: float) -> dict[str, _Family]:
    nearest, limit = float(np.diff(x).min()), np.log(sharp_share / SIGMOID_WIDTH)
    zero = np.zeros(1)
    return {
        "constant": _Family(lambda x, place, scale: 0 * (x + place + scale), zero, zero, zooms=0),
        "line": _Family(lambda x, place, scale: x + 0 * (place + scale), zero, zero, zooms=0),
        "saturating": _Family(_saturating, zero, np.linspace(np.log(nearest / 10), np.log(3.0), 25)),
        "step": _Family(_step, (x[1:] + x[:-1]) / 2, zero, zooms=0),
        "steep": _sigmoids(x, np.linspace(limit - 2.4, limit, 5)),
        "slow": _sigmoids(x, np.linspace(limit, limit + 2.8, 8)),
    }


def _best(data: _Data, family: _Family) -> _Best:
    """The curve of largest likelihood: the best place at each scale by least squares on the grid, then by likelihood around the best."""
    # [n_scales, n_places, n_checkpoints]
    grid = family.shape(data.x, family.places[:, None], np.exp(family.log_scales)[:, None, None])
    squares = _squares(data, grid.reshape(-1, len(data.x))).reshape(-1, *grid.shape[:2])
    places = family.places[squares.argmin(axis=2)]
    found = _choose(data, family, np.stack([places, np.broadcast_to(family.log_scales, places.shape)], axis=-1))
    axes = (family.places, family.log_scales)
    low, high = (np.array([edge(axis) for axis in axes]) for edge in (np.min, np.max))
    reach = np.array([np.diff(axis).max(initial=0.0) for axis in axes]) / 2
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2) * reach
    for zoom in range(family.zooms):
        at = np.stack([found.place, np.log(found.scale)], axis=-1)[:, None] + around / 2**zoom
        found = _choose(data, family, np.clip(at, low, high))
    return found


def _choose(data: _Data, family: _Family, at: FloatArray) -> _Best:
    """The best of each seed's candidates [n_seeds, n_candidates, (place, log scale)]."""
    place, scale = at[..., 0], np.exp(at[..., 1])
    shapes = family.shape(data.x, place[..., None], scale[..., None])
    before, after, likelihood = _levels(data, shapes)
    row, best = np.arange(len(at)), likelihood.argmax(axis=1)
    return _Best(*(found[row, best] for found in (likelihood, before, after, place, scale, shapes)))


def _squares(data: _Data, shapes: FloatArray) -> FloatArray:
    """[n_seeds, n_shapes], residual sum of squares of any two levels; counts are weighted as if their smoothed share were the truth."""
    weight = data.weight
    if data.counts:
        share = (weight * data.value + 1) / (weight + 2)
        weight = weight / (share * (1 - share))
    total = weight.sum(axis=1, keepdims=True)
    centred = data.value - (weight * data.value).sum(axis=1, keepdims=True) / total
    of_shape = weight @ shapes.T
    variance = weight @ (shapes**2).T - of_shape**2 / total
    covariance = (weight * centred) @ shapes.T
    explained = np.where(variance > EDGE * total, covariance**2 / np.maximum(variance, EDGE * total), 0.0)
    residual: FloatArray = (weight * centred**2).sum(axis=1, keepdims=True) - explained
    return residual


def _levels(data: _Data, shapes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Levels before and after, and log-likelihood, each [n_seeds, n_shapes], of shapes [n_seeds, n_shapes, n_checkpoints]."""
    value, weight = data.value[:, None], data.weight[:, None]
    if not data.counts:
        before, after = _two_levels(shapes, value, np.broadcast_to(weight, shapes.shape))
        residual = (weight * (value - before[..., None] - (after - before)[..., None] * shapes) ** 2).sum(axis=2)
        return before, after, _normal_likelihood(residual, data)
    mean = (weight * value).sum(axis=2) / weight.sum(axis=2)
    p = np.broadcast_to(np.clip(mean, EDGE, 1 - EDGE)[..., None], shapes.shape)
    for _ in range(REWEIGHTINGS):
        before, after = _two_levels(shapes, value, weight / (p * (1 - p)), bounded=True)
        p = np.clip(before[..., None] + (after - before)[..., None] * shapes, EDGE, 1 - EDGE)
    right = weight * value
    return before, after, (xlogy(right, p) + xlog1py(weight - right, -p)).sum(axis=2)


def _two_levels(shapes: FloatArray, value: FloatArray, weight: FloatArray, *, bounded: bool = False) -> tuple[FloatArray, FloatArray]:
    """Weighted least squares of value on (1 - shape, shape); where `bounded`, both levels in [0, 1]."""
    low, high = weight * (1 - shapes), weight * shapes
    low_low, low_high, high_high = (low * (1 - shapes)).sum(axis=2), (low * shapes).sum(axis=2), (high * shapes).sum(axis=2)
    low_value, high_value = (low * value).sum(axis=2), (high * value).sum(axis=2)
    determinant = low_low * high_high - low_high**2
    flat = determinant <= EDGE * low_low * high_high
    mean = (low_value + high_value) / (low_low + 2 * low_high + high_high)
    safe = np.where(flat, 1.0, determinant)
    before = np.where(flat, mean, (low_value * high_high - high_value * low_high) / safe)
    after = np.where(flat, mean, (high_value * low_low - low_value * low_high) / safe)
    if bounded:
        # Where one level leaves [0, 1], it stays at the end and the other is solved for anew.
        inside = np.clip(before, EDGE, 1 - EDGE)
        after = np.where((inside != before) & ~flat, (high_value - inside * low_high) / np.where(flat, 1.0, high_high), after)
        ended = np.clip(after, EDGE, 1 - EDGE)
        before = np.where((ended != after) & ~flat, (low_value - ended * low_high) / np.where(flat, 1.0, low_low), inside)
        before, after = np.clip(before, EDGE, 1 - EDGE), ended
    return before, after


def _normal_likelihood(residual: FloatArray, data: _Data) -> FloatArray:
    """[n_seeds, n_shapes], at the variance of largest likelihood."""
    n = data.n_present[:, None]
    variance = np.maximum(residual / n, data.least_variance[:, None])
    likelihood: FloatArray = -n / 2 * (np.log(2 * np.pi * variance) + 1)
    return likelihood


# --- what is given ---


def _checked_share(sharp_share: float) -> float:
    if not 0 < sharp_share < 1:
        raise InputError(f"sharp_share is {sharp_share}; give a share of training between 0 and 1, such as {SHARP_SHARE}")
    return sharp_share


def _data(name: str, values: npt.ArrayLike | Sequence[npt.ArrayLike], trials: npt.ArrayLike | None, steps: npt.ArrayLike) -> _Data:
    try:
        value, step = np.asarray(values, dtype=np.float64), np.asarray(steps, dtype=np.float64)
        weight = np.ones(value.shape) if trials is None else np.broadcast_to(np.asarray(trials, dtype=np.float64), value.shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}, trials and steps must be numbers in arrays that fit together ({error})") from error
    if value.ndim != 2 or step.shape != value.shape[1:] or not len(value):
        shapes = f"{name} have shape {list(value.shape)}, steps {list(step.shape)}"
        raise InputError(f"{shapes}; give one row of checkpoints for each seed, and the step of each checkpoint")
    if not (np.isfinite(step).all() and (np.diff(step) > 0).all()):
        raise InputError(f"steps are {step.tolist()}; give training steps, each larger than the one before")
    missing = np.isnan(value) | np.isnan(weight) | ((weight == 0) & (value == 0))
    value, weight = np.where(missing, 0.0, value), np.where(missing, 0.0, weight)
    right = np.isfinite(value)
    if trials is not None:
        right &= (value >= 0) & (value <= weight) & (weight < np.inf) & (value == np.round(value)) & (weight == np.round(weight))
    if not right.all():
        row, column = np.argwhere(~right)[0]
        found = f"{name}: seed {row}, checkpoint {column} is {value[row, column]:g}"
        if trials is None:
            raise InputError(f"{found}; give finite log-odds, or nan where there is none")
        raise InputError(f"{found} of {weight[row, column]:g} trials; give whole numbers of right answers, or nan where there is none")
    n_present = (weight > 0).sum(axis=1)
    if n_present.min() < LEAST_CHECKPOINTS:
        row = int(n_present.argmin())
        raise InputError(f"{name}: seed {row} has {n_present[row]} checkpoints; give at least {LEAST_CHECKPOINTS}, better 30")
    return _Data(step, value / np.where(missing, 1.0, weight), weight, trials is not None)
