"""Scores are checked once, and what is wrong with them is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from offtarget.errors import InputError
from offtarget.stats import compare, estimate, leakage_ratio, retention

GOOD = [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]]

BAD = {
    "not two-dimensional": ([0.1, 0.2], r"shape \[2\]"),
    "three-dimensional": ([[[0.1]]], r"shape \[1, 1, 1\]"),
    "no seeds": (np.empty((0, 3)), "empty"),
    "no questions": (np.empty((2, 0)), "empty"),
    "ragged": ([[0.1, 0.2], [0.3]], "must be numbers"),
    "text": ([["yes", "no"]], "must be numbers"),
    "nan": ([[0.1, 0.2], [0.3, np.nan]], "seed 1, question 1 is nan"),
    "infinite": ([[np.inf, 0.2]], "seed 0, question 0 is inf"),
    "above one": ([[0.1, 1.01]], "question 1 is 1.01; give probabilities"),
    "percentages": ([[10.0, 20.0]], "question 0 is 10; give probabilities"),
    "below zero": ([[-0.01, 0.2]], "question 0 is -0.01"),
}


@pytest.mark.parametrize(("scores", "message"), BAD.values(), ids=BAD.keys())
def test_scores_that_are_no_grid_of_probabilities_are_refused_with_the_place_named(scores: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(scores, seed=0)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda bad: compare(bad, GOOD, seed=0), "arm"),
        (lambda bad: compare(GOOD, bad, seed=0), "control"),
        (lambda bad: retention(GOOD, bad, GOOD, seed=0), "treatment_in"),
        (lambda bad: leakage_ratio(GOOD, GOOD, bad, seed=0), "base_off"),
    ],
)
def test_the_message_names_the_argument(call: Callable[[Any], object], name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        call([[0.1, np.nan, 0.3]])


def test_arms_that_were_asked_different_questions_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(arm 3, control 2\)"):
        compare(GOOD, [[0.1, 0.2]], seed=0)
    with pytest.raises(InputError, match=r"\(arm_in 3, treatment_in 3, base_in 1\)"):
        retention(GOOD, GOOD, [[0.1]], seed=0)


def test_a_probability_that_rounding_pushed_out_of_range_is_put_back() -> None:
    found = estimate(np.full((2, 3), 1 + 1e-7), seed=0)
    assert (found.mean, found.high) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "confidence": 95}, "confidence is 95"),
        ({"seed": 0, "confidence": 1.0}, "confidence is 1.0"),
        ({"seed": 0, "resamples": 10}, "resamples is 10"),
        ({"seed": 0, "margin": 0.0}, "margin is 0.0"),
        ({"seed": 0, "margin": float("nan")}, "margin is nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(GOOD, GOOD, **arguments)
