"""Curves of learning at their largest likelihood, for all seeds at once.

Five curves are fitted to each seed. Each is a level before, a level after, and a shape that goes from 0 to 1 between them:

| curve | shape at x, the share of training that is over | parameters |
|---|---|---|
| constant | none | 1 |
| line | x | 2 |
| saturating | 1 - exp(-x / tau): growth from the first checkpoint on, which slows down | 3 |
| step | 0 up to some checkpoint, 1 from the next one | 3 |
| sigmoid | 1 / (1 + exp(-(x - at) / w)) | 4 |

Counts have a binomial likelihood, margins a normal one with its variance as one more parameter. For a given shape the two levels are a
convex problem, solved by reweighted least squares; the place and the width are searched on a grid and then around its best point. The
curves, but for the saturating one, are those of this project's `methods.md`, E.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, xlog1py, xlogy

from offtarget.errors import InputError

from ._grid import FloatArray

CurveName = Literal["constant", "line", "saturating", "step", "sigmoid"]

LEAST_CHECKPOINTS = 5
NORMAL_95 = 1.96

PARAMETERS: dict[CurveName, int] = {"constant": 1, "line": 2, "saturating": 3, "step": 3, "sigmoid": 4}

# 10-90% widths of the shapes, in units of their own scale.
SIGMOID_WIDTH = 2 * np.log(9.0)
SATURATING_WIDTH = np.log(9.0)
LINE_WIDTH = 0.8

# Of the search: 8 reweightings come within 0.06 of the largest log-likelihood on the worst of 300 random curves, 0.003 on the others.
REWEIGHTINGS = 8
ZOOMS = 5
EDGE = 1e-9

CURVES: dict[str, CurveName] = {
    "constant": "constant", "line": "line", "saturating": "saturating", "step": "step", "steep": "sigmoid", "slow": "sigmoid",
}  # fmt: skip
SMOOTH, SHARP = ("line", "saturating", "slow"), ("step", "steep")


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
class CurveData:
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
class BestCurves:
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
class Family:
    """Shapes by place [n_places] and log scale [n_scales], in shares of training, and how often to halve the grid around the best."""

    shape: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    places: FloatArray
    log_scales: FloatArray
    zooms: int = ZOOMS


def saturating_shape(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    shape: FloatArray = -np.expm1(-(x - place) / scale)
    return shape


def sigmoid_shape(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    shape: FloatArray = expit((x - place) / scale)
    return shape


def step_shape(x: FloatArray, place: FloatArray, scale: FloatArray) -> FloatArray:
    return np.where(x > place, 1.0, 0.0) + 0 * scale


def sigmoids(x: FloatArray, log_scales: FloatArray) -> Family:
    return Family(sigmoid_shape, np.sort(np.concatenate([x, (x[1:] + x[:-1]) / 2])), log_scales)


def families(x: FloatArray, sharp_share: float) -> dict[str, Family]:
    nearest, limit = float(np.diff(x).min()), np.log(sharp_share / SIGMOID_WIDTH)
    zero = np.zeros(1)
    return {
        "constant": Family(lambda x, place, scale: 0 * (x + place + scale), zero, zero, zooms=0),
        "line": Family(lambda x, place, scale: x + 0 * (place + scale), zero, zero, zooms=0),
        "saturating": Family(saturating_shape, zero, np.linspace(np.log(nearest / 10), np.log(3.0), 25)),
        "step": Family(step_shape, (x[1:] + x[:-1]) / 2, zero, zooms=0),
        "steep": sigmoids(x, np.linspace(limit - 2.4, limit, 5)),
        "slow": sigmoids(x, np.linspace(limit, limit + 2.8, 8)),
    }


def best_curves(data: CurveData, family: Family) -> BestCurves:
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


def fit_of(data: CurveData, name: str, found: BestCurves, row: int, dispersion: float) -> Fit:
    """One seed's fit of one family, in the units of the steps."""
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


def place_interval(data: CurveData, found: BestCurves, fit: Fit, row: int, dispersion: float) -> tuple[float | None, float | None]:
    """The places that a chi-squared likelihood ratio does not refute at 5%, at about the fit's width; a step's are whole checkpoints."""
    x, best = data.x, float(found.place[row])
    one = CurveData(data.steps, data.value[row : row + 1], data.weight[row : row + 1], data.counts)
    step = fit.curve == "step"
    places = (x[1:] + x[:-1]) / 2 if step else sigmoids(x, np.zeros(1)).places
    scales = found.scale[row] * (np.ones(1) if step else np.array([0.6, 1.0, 1.6]))
    shapes = (step_shape if step else sigmoid_shape)(x, places[:, None], scales[:, None, None])
    likelihood = levels(one, shapes.reshape(1, -1, len(x)))[2].reshape(len(scales), -1).max(axis=0) / dispersion
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


def _choose(data: CurveData, family: Family, at: FloatArray) -> BestCurves:
    """The best of each seed's candidates [n_seeds, n_candidates, (place, log scale)]."""
    place, scale = at[..., 0], np.exp(at[..., 1])
    shapes = family.shape(data.x, place[..., None], scale[..., None])
    before, after, likelihood = levels(data, shapes)
    row, best = np.arange(len(at)), likelihood.argmax(axis=1)
    return BestCurves(*(found[row, best] for found in (likelihood, before, after, place, scale, shapes)))


def _squares(data: CurveData, shapes: FloatArray) -> FloatArray:
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


def levels(data: CurveData, shapes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
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


def _normal_likelihood(residual: FloatArray, data: CurveData) -> FloatArray:
    """[n_seeds, n_shapes], at the variance of largest likelihood."""
    n = data.n_present[:, None]
    variance = np.maximum(residual / n, data.least_variance[:, None])
    likelihood: FloatArray = -n / 2 * (np.log(2 * np.pi * variance) + 1)
    return likelihood


def curve_data(name: str, values: npt.ArrayLike | Sequence[npt.ArrayLike], trials: npt.ArrayLike | None, steps: npt.ArrayLike) -> CurveData:
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
    return CurveData(step, value / np.where(missing, 1.0, weight), weight, trials is not None)
