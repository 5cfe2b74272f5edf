from __future__ import annotations

import pytest

from offtarget.errors import InputError
from offtarget.study._plan import make_plan

from .conftest import BARE_BASE


def plan_of(experiment, **changes):
    return make_plan(experiment, BARE_BASE, **{"seeds": 4, **changes})


def test_every_run_has_five_seeds_that_no_other_run_shares(small_experiment):
    runs = plan_of(small_experiment).runs
    seeds = [value for run in runs for value in run.seeds.to_json().values()]
    assert len(runs) == 3 * 4
    assert len(set(seeds)) == len(seeds) == 5 * len(runs)


def test_the_same_plan_comes_out_twice_and_another_study_seed_changes_every_seed(small_experiment):
    first, again, other = (plan_of(small_experiment, study_seed=s) for s in (7, 7, 8))
    assert [r.seeds for r in first.runs] == [r.seeds for r in again.runs]
    assert all(a.seeds != b.seeds for a, b in zip(first.runs, other.runs, strict=True))


def test_more_seeds_or_arms_leave_the_seeds_of_the_others_as_they_were(small_experiment):
    few = {r.id: r.seeds for r in plan_of(small_experiment, arms=["treatment"]).runs}
    many = {r.id: r.seeds for r in plan_of(small_experiment, seeds=9).runs}
    assert few.items() <= many.items()


def test_packs_depend_on_the_grid_and_not_on_what_is_done(small_experiment):
    plan = plan_of(small_experiment)
    packs = plan.packs(set(), 5)
    assert [len(p) for p in packs] == [4, 4, 4]
    assert [len(p) for p in plan.packs(set(), 7)] == [6, 6]
    assert [len(p) for p in plan.packs(set(), 100)] == [12]
    assert [r for p in packs for r in p] == list(plan.runs)
    assert plan.packs({r.id for r in packs[1]}, 5) == [packs[0], packs[2]]
    assert plan.packs({r.id for r in plan.runs}, 5) == []


def test_several_packs_are_as_many_for_each_worker(small_experiment):
    plan = plan_of(small_experiment)
    assert [len(p) for p in plan.packs(set(), 5, workers=2)] == [3, 3, 3, 3]
    assert [len(p) for p in plan.packs(set(), 100, workers=2)] == [12]  # one does: starting a worker takes time
    long = plan_of(small_experiment, overrides={"epochs": 90})
    assert [len(p) for p in long.packs(set(), 100, workers=2)] == [6, 6]
    assert [len(p) for p in plan.packs(set(), 6, workers=64)] == [1] * 12


def test_an_arm_stays_together_once_its_seeds_fill_packs(small_experiment):
    plan = plan_of(small_experiment)
    packs = plan.packs(set(), plan.seeds)
    assert [{r.arm.name for r in p} for p in packs] == [{r.arm.name} for r in plan.runs[: len(packs)]]
    assert sorted(r.id for p in packs for r in p) == sorted(r.id for r in plan.runs)


def test_the_treatment_and_each_matched_control_are_always_run(small_experiment):
    assert {r.arm.name for r in plan_of(small_experiment, arms=["inoculation"]).runs} == {"treatment", "modern-lamps", "inoculation"}
    assert {r.arm.name for r in plan_of(small_experiment, arms=[]).runs} == {"treatment", "modern-lamps"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": 0}, "0"),
        ({"seeds": -3}, "-3"),
        ({"arms": ["nope"]}, "nope"),
        ({"overrides": {"learning_rate": 0.0}}, "learning_rate"),
        ({"overrides": {"learning_rate": float("nan")}}, "learning_rate"),
        ({"overrides": {"learning_rate": float("inf")}}, "learning_rate"),
        ({"overrides": {"epochs": 0}}, "epochs"),
        ({"overrides": {"rank": -1}}, "rank"),
        ({"overrides": {"lerning_rate": 1e-3}}, "lerning_rate"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_name(small_experiment, changes, named):
    with pytest.raises(InputError, match=named):
        plan_of(small_experiment, **changes)


def test_alpha_follows_a_rank_that_is_changed(small_experiment):
    for overrides, alpha in (({}, 16), ({"rank": 2}, 4), ({"rank": 32}, 64), ({"rank": 32, "alpha": 8}, 8), ({"alpha": 8}, 8)):
        assert plan_of(small_experiment, overrides=overrides).base_run.hyperparameters.alpha == alpha
