"""A forecast counts the work exactly, and its time adds up; how near its time comes is measured in `benchmarks/forecast.py`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from offtarget.data import read_jsonl
from offtarget.models import load_base
from offtarget.study import _execute, _workers, run
from offtarget.study._forecast import PROBE_STEPS, Forecast, _gpus, _makespan, _work, forecast
from offtarget.study._plan import make_plan
from offtarget.study._store import open_store
from offtarget.study._workers import _measured

from .conftest import BARE_BASE, MODEL, QUICK, small


@pytest.mark.parametrize(
    ("jobs", "workers", "end"),
    [([3.0, 3.0, 3.0], 1, 9.0), ([3.0, 3.0, 3.0], 2, 6.0), ([5.0, 1.0, 1.0], 2, 5.0), ([1.0], 4, 1.0), ([], 2, 0.0)],
)
def test_jobs_go_to_the_first_free_worker(jobs, workers, end):
    assert _makespan(jobs, workers) == end


@pytest.fixture(scope="module")
def found(small_experiment):
    base = load_base(MODEL)
    plan = make_plan(small_experiment, base, seeds=3, samples=2, curve_points=1, overrides={"epochs": 5})
    return forecast(plan, plan.packs((), 6), base, partial(_measured, base=base), workers=2, base_too=True), plan, base


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
    assert set(seen.stages) == {"preparing", "training", "saving", "learning curve", "scoring", "sampling"}
    assert all(seconds > 0 for seconds in seen.stages.values())
    # Two workers do a pack of four and one of five.
    assert sum(seen.stages.values()) * 5 / 9 < seen.seconds


def test_what_is_done_once_is_not_foreseen_for_every_step(small_experiment, monkeypatch):
    """On a clock that only rendering (100 s an arm), the first step (50 s more) and each step (1 s) move, no time is foreseen twice."""
    now = [0.0]
    monkeypatch.setattr(_execute, "time", SimpleNamespace(monotonic=lambda: now[0]))
    render, train = _execute._rendered, _execute.train

    def slow_to_render(*args):
        now[0] += 100
        return render(*args)

    def slow_to_train(base, runs, *, report, **more):
        def reported(step):
            now[0] += 51 if step.step == 1 else 1
            report(step)

        return train(base, runs, report=reported, **more)

    monkeypatch.setattr(_execute, "_rendered", slow_to_render)
    monkeypatch.setattr(_execute, "train", slow_to_train)
    base = load_base(MODEL)
    plan = make_plan(small_experiment, base, seeds=2, samples=1, curve_points=2, overrides={"epochs": 30})
    steps = plan.runs[0].hyperparameters.steps(6)
    assert steps > PROBE_STEPS
    seen = forecast(plan, plan.packs((), 3), base, partial(_measured, base=base), workers=1, base_too=False)
    assert seen.stages == pytest.approx(
        {"preparing": 2 * (3 * 100 + 51), "training": 2 * (steps - 1), "saving": 0, "learning curve": 0, "scoring": 0, "sampling": 0},
        abs=0.1,
    )
    assert seen.seconds == pytest.approx(sum(seen.stages.values()), abs=0.1)


def test_a_slot_whose_run_is_over_is_not_foreseen(small_experiment):
    """Packs may hold runs of unlike length, as those of persona-facts do: the short ones train no more while the long ones go on."""
    plan = make_plan(small_experiment, BARE_BASE, seeds=2, samples=1, curve_points=0, overrides={"epochs": 4})
    short = plan.runs[0]
    long = replace(short, hyperparameters=replace(short.hyperparameters, epochs=40))
    each = {name: _work(plan, [run])["training"] for name, run in (("short", short), ("long", long))}
    assert each == {"short": 3, "long": 39}
    assert _work(plan, [short, short, short, long])["training"] == (3 * each["short"] + each["long"]) / 4


def test_nothing_but_what_was_measured_enters_a_forecast(small_experiment):
    """Whatever this process has done before, and however many workers there are."""
    base = load_base(MODEL)
    plan = make_plan(small_experiment, base, seeds=3, samples=1, curve_points=0, overrides={"epochs": 30})
    planted = {"preparing": 2.0, "training": 5.0, "saving": 1.0, "scoring": 0.0, "sampling": 0.0}
    asked = []

    def measure(small, runs):
        asked.append([run.hyperparameters.max_steps for run in runs])
        return planted

    packs = plan.packs((), 3)
    seen = forecast(plan, packs, base, measure, workers=2, base_too=False)
    assert asked == [[PROBE_STEPS] * 3]
    training = 5.0 / (PROBE_STEPS - 1) * (plan.runs[0].hyperparameters.steps(6) - 1)
    assert seen.stages == {"preparing": 18, "training": 9 * training, "saving": 9, "learning curve": 0, "scoring": 0, "sampling": 0}
    assert seen.seconds == pytest.approx(2 * 3 * (3 + training))  # three packs on two workers


def test_all_workers_measure_at_once_and_then_do_the_study(tmp_path, monkeypatch):
    """Alone a process is faster than beside others; a forecast must know it as it will be."""
    measured = []
    original = _workers._Workers.measure

    def measure(self, plan, runs):
        futures, submit = [], self._pool.submit
        with monkeypatch.context() as patch:
            patch.setattr(self._pool, "submit", lambda *args: futures.append(args[0]) or submit(*args))
            measured.append(original(self, plan, runs))
        assert futures == [_workers._measure_together] * 2
        return measured[-1]

    monkeypatch.setattr(_workers._Workers, "measure", measure)
    monkeypatch.setattr(_workers, "slots_for", lambda *_: 2)
    told: list[str] = []
    study = run(small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=2, **QUICK, announce=told.append)
    assert [set(seconds) for seconds in measured] == [{"preparing", "saving", "scoring", "sampling"}]  # one step only
    assert " on 2 workers; trains on " in told[0]
    assert len(study.runs) == 4


def test_hours_are_counted_for_every_gpu_that_holds_a_part_of_the_base():
    def base(*devices):
        parameters = [SimpleNamespace(device=torch.device(d)) for d in devices]
        return SimpleNamespace(model=SimpleNamespace(parameters=lambda: parameters))

    assert [_gpus(base("cpu", "cpu")), _gpus(base("cuda:0", "cuda:0", "cpu")), _gpus(base("cuda:0", "cuda:1"))] == [0, 1, 2]
    assert "about 2.0 h (4 GPU hours) on 1 worker;" in Forecast(1, 2, 3, 4, {}, 7200, 1, 4.0).sentence


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
