"""Success or failure: whether the seeds fall into two groups, or only differ more than chance lets them.

Three models of how many answers each seed gets right:

| model | a seed's rate | parameters |
|---|---|---|
| one rate | the same for all | 1 |
| beta | drawn from a beta distribution: the counts are beta-binomial | 2 |
| two rates | the lower or the higher of two: the counts are a mixture of two binomials | 3 |

The beta distribution may be of any shape, also of two peaks at 0 and 1, so that "two rates" has to beat the nearest thing to two groups
that a continuum of seeds allows. The models, and BIC over seeds to choose between them, are those of this project's `methods.md`, E.3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit, logit, xlog1py, xlogy

from offtarget.errors import InputError

from ._bootstrap import generator
from ._grid import FloatArray

ModelName = Literal["one rate", "beta", "two rates"]
PARAMETERS: dict[ModelName, int] = {"one rate": 1, "beta": 2, "two rates": 3}

# Differences of BIC that `methods.md` E.3 asks for; few seeds show too much.
LEAST_EVIDENCE, LEAST_EVIDENCE_FEW, FEW_SEEDS = 2.0, 6.0, 16

LEVEL = 0.05
LEAST_SEEDS = 5
EDGE = 1e-9

# The grid of log-odds of the mean, and of the correlation, that the beta-binomial is searched on before it is refined.
LOGIT_MEANS = np.linspace(-7.0, 7.0, 57)
LOGIT_CORRELATIONS = np.linspace(-9.0, 5.0, 43)
ZOOMS = 5
N_CUTS, TRIAL_STEPS, EM_STEPS = 3, 12, 100


@dataclass(frozen=True)
class CountModel:
    """One model at its largest likelihood: nats without the binomial coefficients, which all share; BIC counts seeds. Lower is better."""

    model: ModelName
    log_likelihood: float
    aic: float
    bic: float


@dataclass(frozen=True)
class Mixture:
    """How the seeds' final rates are spread.

    Attributes:
        two_groups: `p` is at most 0.05, and `evidence` above 2, or above 6 of fewer than 16 seeds.
        preferred: the model of lowest BIC.
        p: parametric bootstrap p of two rates against the beta-binomial that fits best.
        evidence: BIC of the beta-binomial minus that of two rates.
        low: the lower rate, of seeds that fail.
        high: the higher rate, of seeds that succeed.
        share: share of seeds that succeed, by the mixture.
        success: of each seed, the probability that it is one of those; None of a missing one.
        mean: mean rate of the beta-binomial.
        overdispersion: correlation of two answers of one seed in the beta-binomial: n answers have 1 + (n - 1) x that times the
            binomial variance.
        models: all three.
        n_seeds: those that the models are of.
        n_missing: those left out.
    """

    two_groups: bool
    preferred: ModelName
    p: float
    evidence: float
    low: float
    high: float
    share: float
    success: tuple[float | None, ...]
    mean: float
    overdispersion: float
    models: tuple[CountModel, ...]
    n_seeds: int
    n_missing: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Beta:
    """Beta-binomials of largest likelihood, one for each data set: all [n_sets]."""

    log_likelihood: FloatArray
    mean: FloatArray
    correlation: FloatArray


@dataclass(frozen=True)
class _TwoRates:
    """Mixtures of largest likelihood, one for each data set: [n_sets], `success` [n_sets, n_seeds]."""

    log_likelihood: FloatArray
    low: FloatArray
    high: FloatArray
    share: FloatArray
    success: FloatArray


def mixture_of_seeds(correct: npt.ArrayLike, trials: npt.ArrayLike, *, seed: int, simulations: int = 1000) -> Mixture:
    """Whether seeds succeed or fail, or only differ more than chance lets them.

    The likelihood ratio of two rates over the beta-binomial is held against its distribution where the truth is the beta-binomial that
    fits best (parametric bootstrap; the two models do not hold one another, so that no chi-squared applies: Cox, JRSS B 1962, 24:406).
    Two groups are claimed where p is at most 0.05 and BIC prefers two rates by more than 2, or by more than 6 of fewer than 16 seeds.

    How often they are claimed in simulation (400 sets of seeds each, 199 draws; 50 questions unless said;
    `python benchmarks/mixture.py`):

    | truth | two groups claimed |
    |---|---|
    | a third of 16 seeds succeed, rates 0.17 and 0.95, 20 to 50 questions | 0.998 |
    | the same with 8 seeds | 0.905 |
    | a third of 16 seeds succeed, rates 0.3 and 0.6 | 0.632 |
    | one group of 16 seeds, correlation 0 / 0.05 / 0.2 / 0.5 / 0.8 | 0.000 / 0.055 / 0.020 / 0.003 / 0.037 |

    Groups that overlap are often missed with 16 seeds: that none are claimed does not mean that there are none.

    Args:
        correct: [n_seeds], how many answers each seed got right at the end; NaN is a seed that is missing.
        trials: how many it gave, one number or [n_seeds]; 0 is missing too.
        seed: of the simulations.
        simulations: how many sets of seeds to draw from the best beta-binomial.

    Returns:
        The mixture, in probabilities.

    Raises:
        InputError: the counts are no counts, fewer than 5 seeds are left, or another argument is out of range.
    """
    if simulations < 100:
        raise InputError(f"simulations is {simulations}; give at least 100, since p can be no smaller than one in that number")
    right, given, present = _counts(correct, trials)
    rng = generator(seed)
    one, beta, two = _one_rate(right[None], given), _beta(right[None], given), _two_rates(right[None], given)
    likelihoods: dict[ModelName, float] = {
        "one rate": float(one[0]), "beta": float(beta.log_likelihood[0]), "two rates": float(two.log_likelihood[0]),
    }  # fmt: skip
    models = tuple(_model(name, likelihood, len(right)) for name, likelihood in likelihoods.items())
    ratio = likelihoods["two rates"] - likelihoods["beta"]
    mean, correlation = float(beta.mean[0]), float(beta.correlation[0])
    p = max(_p(ratio, mean, either, given, simulations, rng) for either in (correlation, 2 * correlation / (1 + correlation)))
    evidence = models[1].bic - models[2].bic
    success = iter(two.success[0].tolist())
    return Mixture(
        two_groups=p <= LEVEL and evidence > (LEAST_EVIDENCE_FEW if len(right) < FEW_SEEDS else LEAST_EVIDENCE),
        preferred=min(models, key=lambda model: model.bic).model,
        p=p,
        evidence=evidence,
        low=float(two.low[0]),
        high=float(two.high[0]),
        share=float(two.share[0]),
        success=tuple(next(success) if here else None for here in present),
        mean=mean,
        overdispersion=correlation,
        models=models,
        n_seeds=len(right),
        n_missing=len(present) - len(right),
    )


def _model(name: ModelName, likelihood: float, n_seeds: int) -> CountModel:
    k = PARAMETERS[name]
    return CountModel(name, likelihood, 2 * k - 2 * likelihood, float(k * np.log(n_seeds)) - 2 * likelihood)


def _one_rate(right: FloatArray, given: FloatArray) -> FloatArray:
    """[n_sets], log-likelihood of one rate, of counts [n_sets, n_seeds] out of [n_seeds]."""
    total, all_given = right.sum(axis=1), given.sum()
    rate = total / all_given
    likelihood: FloatArray = xlogy(total, rate) + xlog1py(all_given - total, -rate)
    return likelihood


def _beta(right: FloatArray, given: FloatArray) -> _Beta:
    """On one grid for all data sets, where only how often each count occurs matters; then around each one's best."""
    likelihood = np.zeros((len(right), len(LOGIT_MEANS) * len(LOGIT_CORRELATIONS)))
    for n in np.unique(given):
        occurs = (right[:, given == n, None] == np.arange(n + 1)).sum(axis=1).astype(np.float64)
        likelihood += occurs @ _beta_table(int(n))
    row, best = np.arange(len(right)), likelihood.argmax(axis=1)
    at = np.stack([LOGIT_MEANS[best // len(LOGIT_CORRELATIONS)], LOGIT_CORRELATIONS[best % len(LOGIT_CORRELATIONS)]], axis=-1)
    reach = np.array([LOGIT_MEANS[1] - LOGIT_MEANS[0], LOGIT_CORRELATIONS[1] - LOGIT_CORRELATIONS[0]]) / 2
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 1, 2) * reach
    for zoom in range(ZOOMS):
        near = at + around / 2**zoom
        likelihood = _beta_likelihood(right, given, near[..., :1], near[..., 1:]).sum(axis=2)
        best = likelihood.argmax(axis=0)
        at = near[best, row]
    # A correlation of 0 is the binomial, which no log-odds reach.
    binomial = _one_rate(right, given)
    is_binomial = binomial >= likelihood[best, row]
    mean = np.where(is_binomial, right.sum(axis=1) / given.sum(), expit(at[:, 0]))
    return _Beta(np.maximum(binomial, likelihood[best, row]), mean, np.where(is_binomial, 0.0, expit(at[:, 1])))


@lru_cache(maxsize=16)
def _beta_table(n: int) -> FloatArray:
    """[n + 1, n_means x n_correlations], log-likelihood of each count on the grid."""
    counts = np.arange(n + 1.0)[:, None, None]
    return _beta_likelihood(counts, np.array(float(n)), LOGIT_MEANS[:, None], LOGIT_CORRELATIONS).reshape(n + 1, -1)


def _beta_likelihood(right: FloatArray, given: FloatArray, logit_mean: FloatArray, logit_correlation: FloatArray) -> FloatArray:
    """Of each count, nats without the binomial coefficient."""
    strength = np.exp(-logit_correlation)
    a, b = expit(logit_mean) * strength, expit(-logit_mean) * strength
    likelihood: FloatArray = betaln(right + a, given - right + b) - betaln(a, b)
    return likelihood


def _p(ratio: float, mean: float, correlation: float, given: FloatArray, simulations: int, rng: np.random.Generator) -> float:
    """How often beta-binomial counts have as large a log-likelihood ratio of two rates over beta, the observed one counted with them."""
    rate = np.full((simulations, len(given)), mean)
    if 0 < mean < 1 and correlation > 0:
        strength = 1 / correlation - 1
        rate = rng.beta(mean * strength, (1 - mean) * strength, rate.shape)
    right = rng.binomial(given.astype(np.int64), rate).astype(np.float64)
    ratios = _two_rates(right, given).log_likelihood - _beta(right, given).log_likelihood
    return (1 + int(np.count_nonzero(ratios >= ratio - EDGE))) / (1 + simulations)


def _two_rates(right: FloatArray, given: FloatArray) -> _TwoRates:
    """A few steps of EM from each of the best ways to cut the seeds, in order of their rates, into two groups; many from the best."""
    starts = _cuts(right, given)
    tried = _em(np.tile(right, (len(starts), 1)), given, starts.reshape(-1, right.shape[1]), steps=TRIAL_STEPS)
    best = tried.log_likelihood.reshape(starts.shape[:2]).argmax(axis=0)
    return _em(right, given, tried.success.reshape(starts.shape)[best, np.arange(len(right))], steps=EM_STEPS)


def _em(right: FloatArray, given: FloatArray, success: FloatArray, *, steps: int) -> _TwoRates:
    """Expectation-maximisation of the mixture (Dempster, Laird & Rubin, JRSS B 1977, 39:1), from each seed's probability of success."""
    for _ in range(steps):
        share = np.clip(success.mean(axis=1, keepdims=True), EDGE, 1 - EDGE)
        high, low = (
            np.clip((of * right).sum(axis=1, keepdims=True) / np.maximum((of * given).sum(axis=1, keepdims=True), EDGE), EDGE, 1 - EDGE)
            for of in (success, 1 - success)
        )
        of_high, of_low = (xlogy(right, rate) + xlog1py(given - right, -rate) for rate in (high, low))
        odds = logit(share) + of_high - of_low
        success = expit(odds)
    likelihood = (of_low + np.log1p(-share) + np.logaddexp(0, odds)).sum(axis=1)
    return _TwoRates(likelihood, low[:, 0], high[:, 0], share[:, 0], success)


def _cuts(right: FloatArray, given: FloatArray) -> FloatArray:
    """[n_cuts, n_sets, n_seeds], 1 of the higher group and 0 of the lower: the cuts of largest likelihood, rates and share included."""
    order = np.argsort(right / given, axis=1)
    below, of = np.cumsum(np.take_along_axis(right, order, axis=1), axis=1), np.cumsum(given[order], axis=1)
    n = right.shape[1]
    size = np.arange(1, n)

    def likelihood(hits: FloatArray, trials: FloatArray, seeds: npt.NDArray[np.int64]) -> FloatArray:
        found: FloatArray = xlogy(hits, hits / trials) + xlogy(trials - hits, 1 - hits / trials) + seeds * np.log(seeds / n)
        return found

    total = likelihood(below[:, :-1], of[:, :-1], size)
    total += likelihood(below[:, -1:] - below[:, :-1], of[:, -1:] - of[:, :-1], n - size)
    cuts = np.argsort(-total, axis=1)[:, :N_CUTS]
    rank = np.argsort(order, axis=1)
    return (rank > cuts.T[:, :, None]).astype(np.float64)


def _counts(correct: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Counts and trials of the seeds that are there, and which those are."""
    try:
        right = np.asarray(correct, dtype=np.float64)
        given = np.broadcast_to(np.asarray(trials, dtype=np.float64), right.shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"correct and trials must be numbers in arrays that fit together ({error})") from error
    if right.ndim != 1:
        raise InputError(f"correct has shape {list(right.shape)}; give [n_seeds], the final count of each seed")
    present = ~(np.isnan(right) | np.isnan(given) | ((given == 0) & (right == 0)))
    wrong = present & ~((right >= 0) & (right <= given) & (given < np.inf) & (right == np.round(right)) & (given == np.round(given)))
    if wrong.any():
        seed = int(wrong.argmax())
        raise InputError(f"seed {seed} has {right[seed]:g} right of {given[seed]:g}; give whole counts from 0 to the trials, or nan")
    if present.sum() < LEAST_SEEDS:
        raise InputError(f"there are counts of {int(present.sum())} seeds; give at least {LEAST_SEEDS}, better 16")
    return right[present], given[present], present
