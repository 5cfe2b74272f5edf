"""Intervals that hold, a test that keeps its level, and a claim of absence that is seldom wrong: by simulation, at 8 seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from offtarget.stats import compare, estimate

SEEDS, QUESTIONS = 8, 24
REPETITIONS = 1000
Grid = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Seeds and questions from which grids are drawn: normal in log-odds, crossed, with their interaction.

    `truth` is the mean over all seeds and all questions that could have been drawn, not over those that were.
    """

    at: float
    seed_sd: float
    question_sd: float
    interaction_sd: float

    def questions(self, rng: np.random.Generator) -> Grid:
        return rng.normal(0, self.question_sd, QUESTIONS)

    def grid(self, rng: np.random.Generator, questions: Grid, seeds: int = SEEDS) -> Grid:
        of_seed = rng.normal(0, self.seed_sd, (seeds, 1))
        scores: Grid = expit(self.at + of_seed + questions + rng.normal(0, self.interaction_sd, (seeds, QUESTIONS)))
        return scores

    @property
    def truth(self) -> float:
        sd = np.sqrt(self.seed_sd**2 + self.question_sd**2 + self.interaction_sd**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        return float((weights * expit(self.at + sd * nodes)).sum() / weights.sum())


# Mean 0.41, sd of seeds 0.12, of questions 0.16; and mean 0.011, sd of seeds 0.006 (skewness 1.6), of questions 0.012 (3.3).
MID_RANGE = Population(-0.45, 0.62, 0.8, 0.5)
NEAR_ZERO = Population(-5.2, 0.5, 1.0, 0.5)


@pytest.mark.parametrize("population", [MID_RANGE, NEAR_ZERO], ids=["mid-range", "near zero"])
def test_on_null_grids_the_test_rejects_at_its_level_and_the_intervals_hold_the_truth(population: Population) -> None:
    rng = np.random.default_rng(1)
    rejected = mean_held = difference_held = 0
    for repetition in range(REPETITIONS):
        questions = population.questions(rng)
        found = compare(population.grid(rng, questions), population.grid(rng, questions), seed=repetition, resamples=1000)
        assert found.p is not None
        rejected += found.p <= 0.05
        mean_held += found.arm.low <= population.truth <= found.arm.high
        difference_held += found.difference.low <= 0 <= found.difference.high
    # The standard error of a share of 0.05 or 0.95 at 1,000 is 0.007: three of them are 0.02, and four of them 0.03.
    assert 0.03 <= rejected / REPETITIONS <= 0.07
    assert 0.92 <= mean_held / REPETITIONS <= 0.98
    assert 0.92 <= difference_held / REPETITIONS <= 0.98


def test_the_interval_of_one_model_holds_its_mean_over_questions_that_were_not_asked() -> None:
    population = Population(-0.45, 0.0, 0.8, 0.5)
    rng = np.random.default_rng(2)
    held = 0
    for repetition in range(REPETITIONS):
        found = estimate(population.grid(rng, population.questions(rng), seeds=1), seed=repetition, resamples=1000)
        held += found.low <= population.truth <= found.high
    # Four standard errors, as above.
    assert 0.92 <= held / REPETITIONS <= 0.98


def beta_arm(rng: np.random.Generator, mean: float, concentration: float) -> Grid:
    """Seeds from Beta(mean x concentration, ...), questions from a beta around their seed, so that the truth is `mean`."""
    seeds = np.clip(rng.beta(mean * concentration, (1 - mean) * concentration, (SEEDS, 1)), 1e-9, 1 - 1e-9)
    return rng.beta(20 * seeds, 20 * (1 - seeds), (SEEDS, QUESTIONS))


CONTROL = Population(-0.45, 0.3, 0.8, 0.5)
RAISED = Population(float(brentq(lambda at: Population(at, 0.3, 0.8, 0.5).truth - CONTROL.truth - 0.05, -2, 2)), 0.3, 0.8, 0.5)


def logit_normal_pair(rng: np.random.Generator) -> tuple[Grid, Grid]:
    questions = CONTROL.questions(rng)
    return RAISED.grid(rng, questions), CONTROL.grid(rng, questions)


AT_THE_MARGIN: dict[str, Callable[[np.random.Generator], tuple[Grid, Grid]]] = {
    "logit-normal, mid-range": logit_normal_pair,
    "Beta(3, 57) over nothing": lambda rng: (beta_arm(rng, 0.05, 60), np.zeros((SEEDS, QUESTIONS))),
    "Beta(1, 19) over nothing": lambda rng: (beta_arm(rng, 0.05, 20), np.zeros((SEEDS, QUESTIONS))),
    "two skewed betas": lambda rng: (beta_arm(rng, 0.07, 20), beta_arm(rng, 0.02, 20)),
}


@pytest.mark.parametrize("draw", AT_THE_MARGIN.values(), ids=AT_THE_MARGIN.keys())
def test_an_effect_of_exactly_the_margin_is_seldom_called_vanished(draw: Callable[[np.random.Generator], tuple[Grid, Grid]]) -> None:
    rng = np.random.default_rng(3)
    claimed = sum(compare(*draw(rng), seed=repetition, resamples=1000).vanished for repetition in range(REPETITIONS))
    # At most 5%, and two standard errors (0.007) of a share of 1,000.
    assert claimed / REPETITIONS <= 0.065


def test_no_effect_of_small_spread_is_nearly_always_called_vanished() -> None:
    rng = np.random.default_rng(4)
    claimed = sum(compare(beta_arm(rng, 0.01, 200), beta_arm(rng, 0.01, 200), seed=repetition).vanished for repetition in range(200))
    # Two standard errors of a share of 0.99 at 200 are 0.014.
    assert claimed / 200 >= 0.97


def test_a_rare_leak_is_overlooked_where_no_seed_shows_it_and_never_where_one_does() -> None:
    rng = np.random.default_rng(5)
    control = np.zeros((SEEDS, QUESTIONS))
    for repetition in range(100):
        leaks = rng.random((SEEDS, 1)) < 0.05
        found = compare(np.where(leaks, 0.9, 0.001 * rng.random((SEEDS, QUESTIONS))), control, seed=repetition)
        assert found.vanished == (not leaks.any())
        assert (found.worst_seed > 0.5) == leaks.any()


def test_with_one_seed_there_is_no_test_and_no_claim_of_absence() -> None:
    rng = np.random.default_rng(6)
    arm, base = 0.01 * rng.random((SEEDS, QUESTIONS)), 0.01 * rng.random((1, QUESTIONS))
    for found in (compare(arm, base, seed=0), compare(base, arm, seed=0)):
        assert found.p is None
        assert found.upper < found.margin
        assert not found.vanished
        assert found.difference.low < found.difference.mean < found.difference.high


def test_one_score_says_nothing_about_others() -> None:
    found = estimate([[0.3]], seed=0)
    assert (found.mean, found.low, found.high) == (0.3, 0.0, 1.0)
    both = compare([[0.3]], [[0.1]], seed=0)
    assert (both.difference.low, both.difference.high, both.upper) == (-1.0, 1.0, 1.0)


def test_with_one_question_only_seeds_are_resampled() -> None:
    rng = np.random.default_rng(7)
    grid = 0.4 + 0.2 * rng.random((SEEDS, 1))
    found = estimate(grid, seed=0)
    # Student's t over the 8 seeds (t = 2.365) is the least that the interval is; its end can be up to the bootstrap's longer.
    half = 2.365 * grid.std(ddof=1) / np.sqrt(SEEDS)
    assert found.low <= grid.mean() - 0.999 * half
    assert found.high >= grid.mean() + 0.999 * half


def test_equal_scores_have_an_interval_of_no_width() -> None:
    found = estimate(np.full((SEEDS, QUESTIONS), 0.25), seed=0)
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_zeros_and_ones_throughout_leave_room_for_what_was_not_drawn() -> None:
    """Clopper and Pearson: of n draws without a success, 1 - 0.025 ** (1 / n)."""
    none, all_ = estimate(np.zeros((2, 3)), seed=0), estimate(np.ones((2, 3)), seed=0)
    assert (none.mean, none.low, none.high) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 6)))
    assert (all_.mean, all_.low, all_.high) == (1.0, pytest.approx(0.025 ** (1 / 6)), 1.0)
    few, many = (compare(np.zeros((SEEDS, n)), np.zeros((SEEDS, n)), seed=0) for n in (3, 40))
    assert not few.vanished
    assert many.vanished


def test_two_seeds_show_no_absence() -> None:
    rng = np.random.default_rng(0)
    arm, control = 0.001 * rng.random((2, 3, QUESTIONS))
    assert not compare(arm[:2], control[:2], seed=0).vanished
    assert compare(arm, control, seed=0).vanished


def test_a_comparison_is_what_its_parts_are() -> None:
    rng = np.random.default_rng(8)
    arm, control = rng.random((SEEDS, QUESTIONS)), rng.random((5, QUESTIONS))
    found = compare(arm, control, seed=0, margin=0.1)
    assert found.arm.mean == pytest.approx(arm.mean())
    assert found.control.mean == pytest.approx(control.mean())
    assert found.difference.mean == pytest.approx(arm.mean() - control.mean())
    assert found.worst_seed == arm.mean(axis=1).max()
    assert found.margin == 0.1
    assert found.vanished == (found.upper < 0.1)


def test_the_upper_bound_does_not_depend_on_the_confidence_of_the_intervals() -> None:
    rng = np.random.default_rng(9)
    arm, control = rng.random((SEEDS, QUESTIONS)), rng.random((SEEDS, QUESTIONS))
    narrow, wide = (compare(arm, control, seed=0, confidence=confidence) for confidence in (0.8, 0.99))
    assert narrow.upper == wide.upper
    assert wide.difference.low < narrow.difference.low < narrow.difference.high < wide.difference.high


def test_the_same_seed_gives_the_same_comparison_and_another_seed_another_interval() -> None:
    rng = np.random.default_rng(10)
    arm, control = rng.beta(1, 9, (SEEDS, QUESTIONS)), rng.beta(1, 9, (SEEDS, QUESTIONS))
    assert compare(arm, control, seed=1) == compare(arm, control, seed=1)
    assert estimate(arm, seed=1).high != estimate(arm, seed=2).high


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Grid, Grid, np.random.Generator]:
    """Two grids of tenths, many of them tied, and a generator to shuffle them with."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top, questions = draw(st.integers(1, 10)), draw(st.integers(1, 6))
    arm, control = (rng.integers(0, top, size=(draw(st.integers(1, 8)), questions), endpoint=True) / 10 for _ in range(2))
    return arm, control, rng


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_the_order_of_seeds_and_of_questions_changes_neither_mean_nor_p(pair: tuple[Grid, Grid, np.random.Generator]) -> None:
    arm, control, rng = pair
    order = rng.permutation(arm.shape[1])
    plain = compare(arm, control, seed=0)
    shuffled = compare(rng.permutation(arm)[:, order], rng.permutation(control)[:, order], seed=0)
    assert shuffled.p == plain.p
    assert shuffled.difference.mean == pytest.approx(plain.difference.mean, abs=1e-12)
    assert shuffled.worst_seed == pytest.approx(plain.worst_seed, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_exchanging_arm_and_control_flips_the_difference(pair: tuple[Grid, Grid, np.random.Generator]) -> None:
    arm, control, _ = pair
    there, back = compare(arm, control, seed=0), compare(control, arm, seed=0)
    assert back.p == there.p
    assert back.difference.mean == pytest.approx(-there.difference.mean, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_order_and_exchange_move_the_interval_by_no_more_than_the_bootstraps_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    questions = MID_RANGE.questions(rng)
    arm, control = MID_RANGE.grid(rng, questions), MID_RANGE.grid(rng, questions)
    order = rng.permutation(QUESTIONS)
    plain = compare(arm, control, seed=0, resamples=20_000).difference
    shuffled = compare(rng.permutation(arm)[:, order], rng.permutation(control)[:, order], seed=0, resamples=20_000).difference
    exchanged = compare(control, arm, seed=0, resamples=20_000).difference
    # The 2.5% quantile of t at 10 degrees of freedom (2.2, density 0.04) has a standard error of sqrt(0.025 * 0.975 / 20000) / 0.04 =
    # 0.03 standard errors of the difference, two of them differ by 0.04, which is 1% of the interval's width of 4.5; five of those.
    noise = 0.05 * (plain.high - plain.low)
    assert (shuffled.low, shuffled.high) == pytest.approx((plain.low, plain.high), abs=noise)
    assert (-exchanged.high, -exchanged.low) == pytest.approx((plain.low, plain.high), abs=noise)
