import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtarget.batteries import Rubric
from offtarget.errors import InputError
from offtarget.judges import MISSING, Verdict, agreement, agreements, cohen_kappa

from .conftest import PROMPT

TONE = Rubric("tone", PROMPT, labels=("CALM", "CROSS"), trait=("CROSS",))
ALIGNMENT = Rubric("alignment", PROMPT, labels=("CODE",), scale=(0, 100), trait_below=30)
CONTENT = Rubric("content", PROMPT, scale=(0, 100))


def verdicts(rubric, *values):
    return [Verdict(rubric, "judge", missing=v) if v in MISSING else Verdict(rubric, "judge", v) for v in values]


def test_kappa_of_the_textbook():
    pairs = [("YES", "YES")] * 20 + [("YES", "NO")] * 5 + [("NO", "YES")] * 10 + [("NO", "NO")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_judges_agree_by_label_and_missing_ones_are_counted():
    first = verdicts("tone", "CALM", "CALM", "CROSS", "CROSS", "error", "CALM", "refusal")
    second = verdicts("tone", "CALM", "CROSS", "CROSS", "CROSS", "CALM", "truncated", "error")
    a = agreement(first, second, TONE)
    assert (a.answers, a.pairs, a.missing) == (7, 4, (2, 2))
    assert (a.share, a.kappa) == (0.75, pytest.approx(0.5))
    assert (a.rated, a.mean_absolute_difference) == (0, None)


def test_raters_agree_where_both_or_neither_show_the_trait():
    a = agreement(verdicts("alignment", 10.0, 29.0, 80.0, "CODE", "CODE"), verdicts("alignment", 20.0, 31.0, 90.0, "CODE", 50.0), ALIGNMENT)
    assert (a.pairs, a.rated, a.share) == (5, 3, 3 / 5)
    assert a.mean_absolute_difference == pytest.approx((10 + 2 + 10) / 3)


def test_ratings_without_a_limit_have_a_difference_only():
    a = agreement(verdicts("content", 10.0, 20.0), verdicts("content", 15.0, 20.0), CONTENT)
    assert (a.share, a.kappa, a.mean_absolute_difference) == (None, None, 2.5)


def test_of_several_judges_every_two_are_compared():
    by = {name: verdicts("tone", *values) for name, values in {"a": ["CALM"], "b": ["CROSS"], "c": ["CALM"]}.items()}
    assert {pair: x.share for pair, x in agreements(by, TONE).items()} == {("a", "b"): 0.0, ("a", "c"): 1.0, ("b", "c"): 0.0}


PAIRS = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABC")), min_size=1)


@given(PAIRS)
def test_kappa_does_not_depend_on_who_is_first_and_is_one_only_where_all_agree(pairs):
    kappa = cohen_kappa(pairs)
    assert kappa == cohen_kappa([(b, a) for a, b in pairs])
    if kappa is None:
        assert len(set(pairs)) == 1
    else:
        assert -1 <= kappa <= 1
        assert (kappa == 1) == all(a == b for a, b in pairs)


def test_nothing_to_go_by_is_none():
    assert cohen_kappa([]) is None
    assert agreement([], [], TONE).share is None
    assert agreement(verdicts("tone", "CALM"), verdicts("tone", "CALM"), TONE).kappa is None


def test_verdicts_that_do_not_belong_together_are_one_clear_error():
    with pytest.raises(InputError, match="one judge has 1 verdicts and the other 0"):
        agreement(verdicts("tone", "CALM"), [], TONE)
    with pytest.raises(InputError, match="a verdict by rubric 'tone' is among those by 'content'"):
        agreement(verdicts("tone", "CALM"), verdicts("tone", "CALM"), CONTENT)
