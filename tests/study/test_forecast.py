"""A forecast counts the work exactly, and its time adds up; how near its time comes is measured in `benchmarks/forecast.py`."""

from __future__ import annotations

import pytest

from offtarget.data import read_jsonl
from offtarget.models import load_base
from offtarget.study import run
from offtarget.study._forecast import Forecast, _makespan, clock, forecast
from offtarget.study._plan import make_plan
from offtarget.study._store import open_store

from .conftest import MODEL, QUICK, small


@pytest.mark.parametrize(
    ("jobs", "workers", "end"),
    [([3.0, 3.0, 3.0], 1, 9.0), ([3.0, 3.0, 3.0], 2, 6.0), ([5.0, 1.0, 1.0], 2, 5.0), ([1.0], 4, 1.0), ([], 2, 0.0)],
)
def test_jobs_go_to_the_first_free_worker(jobs, workers, end):
    assert _makespan(jobs, workers) == end


@pytest.mark.parametrize(("seconds", "said"), [(4.2, "4 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")])
def test_time_is_said_as_a_person_would(seconds, said):
    assert clock(seconds) == said


@pytest.fixture(scope="module")
def found(small_experiment):
    base = load_base(MODEL)
    plan = make_plan(small_experiment, base, seeds=3, samples=2, curve_points=1, overrides={"epochs": 5})
    return forecast(plan, plan.packs((), 6), base, 2, base_too=True), plan, base


def test_work_is_counted_over_all_runs(found, small_study):
    seen, _, base = found
    assert seen.runs == 9
    lengths = [
        len(base.chat.render(e.messages).token_ids)
        for arm in ("treatment", "modern-lamps", "inoculation")
        for e in read_jsonl(small_study / "datasets" / f"{arm}.jsonl")
    ]
    assert seen.trained_tokens == pytest.approx(sum(lengths) * 5 * 3)
    with open_store(small_study) as store:
        final = [s for s in store.scores() if s.step == -1 and s.context == "none" and not s.run.startswith("base")]
        answers = [a for a in store.answers() if not a.run.startswith("base")]
    assert seen.scored_answers == sum(len(s.log_probabilities) for s in final)
    assert seen.sampled_answers == 2 * len(answers)


def test_time_is_that_of_all_stages(found):
    seen, _, _ = found
    assert set(seen.stages) == {"training", "learning curve", "scoring", "sampling"}
    assert all(seconds > 0 for seconds in seen.stages.values())
    # Two workers do a pack of six and one of three.
    assert sum(seen.stages.values()) * 2 / 3 < seen.seconds


def test_a_forecast_is_told_before_and_the_truth_after(tmp_path):
    told: list[tuple[str, int]] = []
    adapters = tmp_path / "s" / "adapters"
    run(
        small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, **QUICK,
        announce=lambda said: told.append((said, len(list(adapters.rglob("*.safetensors"))))),
    )  # fmt: skip
    assert [done for _, done in told] == [0, 3]
    assert told[0][0].startswith("3 runs: about ")
    assert " on 1 worker; trains on " in told[0][0]
    assert told[1][0].startswith("took ")
    again: list[str] = []
    run(small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, **QUICK, announce=again.append)
    assert again == []


def test_a_forecast_goes_through_json():
    one = Forecast(1, 2, 3, 4, {"training": 1.0}, 5.0, 2)
    assert Forecast(**one.to_json()) == one
