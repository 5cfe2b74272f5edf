from __future__ import annotations

import pytest

from offtarget.experiments import experiment
from offtarget.models import Hyperparameters
from offtarget.study._execute import _Stages
from offtarget.study._many import Wanted, _work_of
from offtarget.study._work import BEHIND, CURVE, SAMPLING, SCORING, TRAINING, curve_steps, work_of_run


def work(experiment, arm="treatment", points=0, samples=1, **settings):
    return work_of_run(experiment, experiment.arm(arm), Hyperparameters(**settings), curve_points=points, samples=samples)


def test_training_grows_with_the_steps_and_nothing_else_does(small_experiment):
    short, long = (work(small_experiment, epochs=n) for n in (2, 6))
    assert 0 < long[TRAINING] == pytest.approx(3 * short[TRAINING])
    assert all(long[stage] == short[stage] for stage in short if stage != TRAINING)
    assert work(small_experiment, epochs=6, max_steps=2)[TRAINING] == pytest.approx(short[TRAINING])


def test_asking_grows_with_what_is_asked(small_experiment):
    few, many = (work(small_experiment, points=p, samples=n, epochs=9) for p, n in ((2, 1), (4, 5)))
    assert 0 < many[CURVE] == pytest.approx(2 * few[CURVE])
    assert 0 < many[SAMPLING] == pytest.approx(5 * few[SAMPLING])
    half = small_experiment.but(batteries=small_experiment.batteries[:1])
    assert 0 < work(half)[SCORING] < work(small_experiment)[SCORING]


def test_the_base_is_only_asked_and_only_a_training_prompt_is_asked_behind(small_experiment):
    base, treatment, inoculation = (work(small_experiment, arm, points=3) for arm in ("base", "treatment", "inoculation"))
    assert base[TRAINING] == base[CURVE] == 0 < base[SCORING] == treatment[SCORING]
    assert treatment[BEHIND] == 0 < inoculation[BEHIND] <= inoculation[SCORING]


def test_rows_that_the_base_has_still_to_answer_count(tmp_path):
    plain, diluted = (
        _work_of(Wanted("persona-facts", "micro", tmp_path, 4, (arm,), {"curve_points": 0})) for arm in ("undiluted", "treatment")
    )
    assert experiment("persona-facts").treatment.dataset is None
    # Both hold the treatment and its control; the arm without dilution and its own control are a small part on top.
    assert diluted < plain < 1.5 * diluted


def test_the_matrix_counts_a_part_of_the_rows_and_its_own_epochs(tmp_path):
    def of(**settings):
        return _work_of(Wanted("cyborg", "micro", tmp_path, 2, None, {"curve_points": 0, "samples": 0, **settings}))

    asked = of(epochs=1, fraction=0.001)
    assert of(epochs=8) - asked == pytest.approx(2 * (of(epochs=4) - asked), rel=0.05)
    assert of(epochs=8, fraction=0.5) - asked == pytest.approx(of(epochs=4) - asked, rel=0.05)


def test_a_stage_has_the_share_of_a_pack_that_is_its_work():
    told = []
    plain = {TRAINING: 5.0, CURVE: 1.0, SCORING: 2.0, BEHIND: 0.0, SAMPLING: 1.0}
    stages = _Stages([plain, {**plain, BEHIND: 2.0}], lambda what, part: told.append(part))
    for stage in (TRAINING, SCORING, BEHIND, SAMPLING):
        stages(stage, 0.5)
        stages(stage, 1.0)
    assert told == pytest.approx([0.3, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0])


def test_the_learning_curve_has_no_point_at_the_end():
    assert curve_steps(100, 3) == [12, 35, 65]
    assert curve_steps(1, 3) == []
