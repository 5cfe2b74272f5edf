"""Effects over seeds: a rate with its interval, and an arm held against its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offtarget.errors import InputError

from ._bootstrap import Resamples, bounds, generator, resample, spread, tail_of
from ._grid import FloatArray, as_grids
from ._permutation import permutation_p

# The nominal tail of `Comparison.upper`; see `compare`.
UPPER_TAIL = 0.025

SEEDS_FOR_ABSENCE = 3
"""With fewer seeds no effect is called vanished."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds it: `mean` is the value, `low` and `high` are the interval's ends."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """An arm against its control.

    Attributes:
        arm: the arm's mean score.
        control: the control's mean score.
        difference: arm minus control.
        p: two-sided permutation p over seeds; None where either side has one seed.
        upper: one-sided 95% upper bound of the difference (`compare` says for which populations it holds that).
        margin: the declared margin of equivalence.
        vanished: whether `upper` lies under `margin`; False where either side has fewer than `SEEDS_FOR_ABSENCE` seeds.
        worst_seed: the largest mean of any one seed of the arm.
    """

    arm: Estimate
    control: Estimate
    difference: Estimate
    p: float | None
    upper: float
    margin: float
    vanished: bool
    worst_seed: float


def estimate(scores: npt.ArrayLike, *, seed: int, confidence: float = 0.95, resamples: int = 2000) -> Estimate:
    """The mean over seeds and questions, with an interval for training again *and* asking other questions of the same kind.

    What the interval should hold is the mean over the population that the seeds came from and the population that the questions came
    from. It is wider than one over seeds alone, which would speak of these very questions only. With one seed (the untrained base) only
    questions are resampled, and the interval is for that one model; with one question it is for that one question; with one of each
    nothing is known beyond the score, and the interval is [0, 1].

    Method: bootstrap-t over both crossed samples, on each side at least as wide as Student's t (sources in `_bootstrap`). Chosen by
    simulation; share of 95% intervals that hold the truth, 8 seeds x 24 questions, 4,000 grids each:

    | scores, logit-normal | percentile | Student's t | bootstrap-t | this |
    |---|---|---|---|---|
    | mean 0.41, sd of seeds 0.12, of questions 0.16 | 0.93 | 0.95 | 0.96 | 0.96 |
    | its difference between two such arms | 0.92 | 0.95 | 0.95 | 0.95 |
    | mean 0.011, sd of seeds 0.006 (skewness 1.6), of questions 0.012 (3.3) | 0.89 | 0.89 | 0.94 | 0.95 |
    | its difference between two such arms | 0.93 | 0.97 | 0.89 | 0.97 |
    | mean 0.011, sd of seeds 0.013 (skewness 3.9), of questions 0.007 (1.9) | 0.81 | 0.83 | 0.91 | 0.92 |
    | its difference between two such arms | 0.89 | 0.97 | 0.90 | 0.97 |

    Skew is the limit: where most seeds do nothing and a few do much, 8 seeds often do not show how much, and the interval ends too low
    (for one model of mean 0.010 over 24 skewed questions it holds in 0.92). Where all scores are equal the interval has no width, unless
    they are all 0 or all 1, as shares of answers are: then it is Clopper and Pearson's (1934) for as many draws as there are scores.

    Args:
        scores: [n_seeds, n_questions], probabilities in [0, 1]; a row is one independently seeded run, a column one question.
        seed: of the bootstrap; the same scores and seed give the same interval.
        confidence: the probability with which the interval is to hold the truth.
        resamples: how many the bootstrap draws.

    Returns:
        Probabilities; the interval is clipped to [0, 1].

    Raises:
        InputError: `scores` is no such array, or another argument is out of range.
    """
    tail = tail_of(confidence)
    grids = as_grids(scores=scores)
    return _weighted(grids, resample(grids, seed=seed, resamples=resamples), (1.0,), tail)


def compare(
    arm: npt.ArrayLike, control: npt.ArrayLike, *, seed: int, margin: float = 0.05, confidence: float = 0.95, resamples: int = 2000
) -> Comparison:
    """An arm against its matched control, both asked the same questions: is there an effect, and can one be ruled out?

    The intervals are those of `estimate`; for the difference each resample takes the same questions for both, so that what makes a
    question easy for both cancels. `p` is of the permutation test over seeds (`_permutation`): it speaks of these questions only, and
    its null is that the two arms' seeds come from one distribution. With one seed on either side (the untrained base) there is no such
    test, and the intervals take that one model as given.

    `vanished` is a claim of equivalence, not the absence of significance: the difference's upper bound lies under the margin, so that
    there is no increase that matters (a decrease may be there, and the interval tells). With fewer than `SEEDS_FOR_ABSENCE` seeds nothing
    is called vanished: an effect of exactly the margin, Beta(1, 19) over seeds, would be in 12% of comparisons of 2 seeds, in 7% of 3.
    The bound has a nominal tail of 2.5%, the end of a 95% interval, and not of 5%, because leakage is skewed over seeds, and 8 seeds of a
    skewed population tend to show too little of it. How often an effect of exactly the margin is called vanished (8 seeds x 24 questions,
    margin 0.05, 4,000 comparisons each; it should be 5% at most):

    | effect of a seed | percentile, 5% tail | Student's t, 5% tail | this, 5% tail | this |
    |---|---|---|---|---|
    | logit-normal, control at 0.41 | 5.2% | 4.6% | 4.4% | 2.4% |
    | Beta(3, 57), control at 0 | 8.0% | 8.2% | 5.8% | 3.1% |
    | Beta(1, 19), like an exponential | 13.8% | 12.3% | 7.1% | 4.8% |
    | Beta(0.5, 9.5) | 19.8% | 18.3% | 9.5% | 6.3% |
    | Beta(0.25, 4.75) | 26.0% | 24.1% | 11.0% | 7.9% |
    | 1 seed in 4 leaks 0.2 | 9.7% | 9.7% | 9.7% | 9.7% |
    | 1 seed in 20 leaks 1.0 | 67% | 67% | 67% | 67% |

    So what cannot be ruled out is the rare seed that leaks. If one run in 20 leaks, 8 seeds show none of it two times out of three,
    and no method could tell; the claim is about what runs usually do. `worst_seed` stands beside it for that reason, and more seeds
    are the only cure.

    Args:
        arm: [n_seeds, n_questions], probabilities in [0, 1].
        control: [n_seeds of the control, n_questions], the same questions in the same order.
        seed: of the bootstrap, and of the permutations where they are drawn.
        margin: the difference, above 0, that is too small to matter.
        confidence: of the three intervals; `upper` does not depend on it.
        resamples: how many the bootstrap draws.

    Returns:
        Probabilities and differences of probabilities; intervals are clipped to where the value can lie.

    Raises:
        InputError: the scores are no such arrays or differ in their questions, or another argument is out of range.
    """
    tail = tail_of(confidence)
    if not margin > 0:
        raise InputError(f"margin is {margin}; give the difference, above 0, that is too small to matter, such as 0.05")
    grids = as_grids(arm=arm, control=control)
    sample = resample(grids, seed=seed, resamples=resamples)
    arm_seeds, control_seeds = (grid.mean(axis=1) for grid in grids)
    seeds_vary = min(len(arm_seeds), len(control_seeds)) > 1
    upper = _weighted(grids, sample, (1.0, -1.0), UPPER_TAIL).high
    return Comparison(
        arm=_weighted(grids, sample, (1.0, 0.0), tail),
        control=_weighted(grids, sample, (0.0, 1.0), tail),
        difference=_weighted(grids, sample, (1.0, -1.0), tail),
        p=permutation_p(arm_seeds, control_seeds, generator(seed)) if seeds_vary else None,
        upper=upper,
        margin=margin,
        vanished=min(len(arm_seeds), len(control_seeds)) >= SEEDS_FOR_ABSENCE and upper < margin,
        worst_seed=float(arm_seeds.max()),
    )


def _weighted(grids: Sequence[FloatArray], sample: Resamples, weights: tuple[float, ...], tail: float) -> Estimate:
    """The weighted sum of the grids' means; its interval is clipped to where it can lie."""
    values = sum((weight * grid.mean for weight, grid in zip(weights, sample.grids, strict=True)), np.zeros(1))
    mean = float(values[0])
    low, high = bounds(values, spread(sample, weights), tail=tail)
    below, above = _unseen(grids, weights, tail)
    low, high = mean - math.hypot(mean - low, below), mean + math.hypot(high - mean, above)
    lowest, highest = sum(min(weight, 0.0) for weight in weights), sum(max(weight, 0.0) for weight in weights)
    return Estimate(mean, max(low, lowest), min(high, highest))


def _unseen(grids: Sequence[FloatArray], weights: tuple[float, ...], tail: float) -> tuple[float, float]:
    """How far below and above the weighted sum may lie because a grid of zeros, or of ones, has no spread to tell: of n draws without a
    success the rate may still be `1 - tail ** (1 / n)`.
    """
    below = above = 0.0
    for grid, weight in zip(grids, weights, strict=True):
        room = (weight * (1 - tail ** (1 / grid.size))) ** 2
        none, all_ = bool((grid == 0).all()), bool((grid == 1).all())
        above += room if (none and weight > 0) or (all_ and weight < 0) else 0.0
        below += room if (all_ and weight > 0) or (none and weight < 0) else 0.0
    return math.sqrt(below), math.sqrt(above)
