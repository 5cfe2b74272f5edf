from __future__ import annotations

import pytest

from offtarget._clock import clock


@pytest.mark.parametrize(("seconds", "said"), [(4.2, "4 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")])
def test_time_is_said_as_a_person_would(seconds, said):
    assert clock(seconds) == said
