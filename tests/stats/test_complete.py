import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from offtarget.stats import complete

GAP = np.nan
HOLED = st.sampled_from([0.5, GAP])


def kept(*grids):
    seeds, questions = complete(*grids)
    return [s.tolist() for s in seeds], questions.tolist()


def test_nothing_is_left_out_where_nothing_is_missing():
    assert kept(np.ones((3, 2)), np.ones((2, 2))) == ([[True] * 3, [True] * 2], [True, True])


def test_a_seed_without_any_score_costs_no_question():
    scores = np.ones((3, 4))
    scores[1] = GAP
    assert kept(scores, np.ones((3, 4))) == ([[True, False, True], [True] * 3], [True] * 4)


def test_a_question_that_is_missing_in_one_seed_of_either_grid_is_left_out_of_both():
    scores = np.ones((3, 12))
    scores[2, 5] = GAP
    for grids in ((scores, np.ones((4, 12))), (np.ones((4, 12)), scores)):
        seeds, questions = kept(*grids)
        assert questions == [n != 5 for n in range(12)]
        assert all(all(s) for s in seeds)


def test_the_only_seed_of_a_grid_stays_while_it_has_a_score():
    assert kept([[1.0, GAP]], np.ones((8, 2))) == ([[True], [True] * 8], [True, False])
    assert kept([[GAP, GAP]], np.ones((8, 2))) == ([[False], [True] * 8], [True, True])


@pytest.mark.filterwarnings("error")
@given(
    arrays.arrays(float, (4, 5), elements=st.sampled_from([0.5, GAP])), arrays.arrays(float, (1, 5), elements=st.sampled_from([1.0, GAP]))
)
def test_what_is_left_has_no_holes(one, other):
    seeds, questions = complete(one, other)
    for grid, rows in zip((one, other), seeds, strict=True):
        assert not np.isnan(grid[rows][:, questions]).any()
