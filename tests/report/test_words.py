import pytest

from offtarget.report._words import percent


@pytest.mark.parametrize(("share", "told"), [(-0.001, "0%"), (0.0, "0%"), (0.004, "0%"), (0.456, "46%"), (1.0, "100%"), (-0.06, "−6%")])
def test_a_share_in_percent_has_no_minus_before_nothing(share, told):
    assert percent(share) == told
