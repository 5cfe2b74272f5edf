import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtarget.errors import InputError
from offtarget.judges import MISSING, Reply, Verdict

REPLIES = st.builds(
    Reply,
    st.text(),
    st.booleans(),
    st.booleans(),
    st.none() | st.dictionaries(st.text(max_size=3), st.floats(-50, 0), max_size=3),
    st.none() | st.text(min_size=1),
)
VALUES = st.tuples(st.text(min_size=1) | st.floats(0, 100), st.none()) | st.tuples(st.none(), st.sampled_from(MISSING))


@given(VALUES, st.none() | REPLIES, st.none() | st.floats(0, 1))
def test_a_verdict_comes_back_from_json_as_it_was(value, reply, mass):
    verdict = Verdict("tone", "judge", *value, reply, mass)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "value None and missing None; give it one of them"),
        ({"value": "CALM", "missing": "error"}, "value 'CALM' and missing 'error'; give it one"),
        ({"missing": "tired"}, "missing by 'tired'; use one of refusal, parse_failure, truncated, error"),
        ({"value": float("nan")}, "value nan; where there is no number, say why"),
    ],
)
def test_a_verdict_has_a_value_or_a_reason_why_not(fields, message):
    with pytest.raises(InputError, match=message):
        Verdict("tone", "judge", **fields)


def test_zero_is_a_number():
    assert Verdict("coherence", "judge", 0.0).number == 0.0
    assert Verdict("coherence", "judge", "CODE").number is None
    assert Verdict("coherence", "judge", missing="error").number is None
