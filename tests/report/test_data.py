import numpy as np
import pytest

from offtarget.report import _data


@pytest.fixture
def study(make_study):
    return make_study()[0]


def test_every_seed_of_every_arm_is_drawn_and_the_hidden_ones_only_where_there_is_a_prompt(study):
    seeds, means = _data.leakage(study)
    drawn = {(r["arm"], r["hidden"], r["seed"]) for r in seeds}
    prompted = {"inoculation", "name"}
    trained = {"treatment", "modern", "kept", *prompted}
    expected = {("base", False, "0")} | {(a, False, str(s)) for a in trained for s in range(3)}
    expected |= {(a, True, str(s)) for a in prompted for s in range(3)} | {(a, True, "base") for a in prompted}
    assert drawn == expected
    assert {m["arm"] for m in means if m["hidden"]} == prompted


def test_the_untrained_base_behind_a_prompt_stands_beside_the_arm_trained_with_it(study, toy):
    seeds, _ = _data.leakage(study)
    found = {r["arm"]: r["value"] for r in seeds if r["what"] == _data.BASE_PREFIXED}
    share = np.mean([toy.leaning[t] for t in toy.topics])
    assert found == pytest.approx({arm: share * level for arm, level in toy.alone.items()}, rel=1e-5)


def test_jitter_depends_on_the_seed_alone_and_spreads():
    drawn = [_data.jitter(seed) for seed in range(32)]
    assert drawn == [_data.jitter(seed) for seed in range(32)]
    assert all(-1 <= x <= 1 for x in drawn)
    assert np.diff(sorted(drawn)).max() < 0.15


def test_topics_are_means_over_wordings_in_falling_order_of_the_difference(study, toy):
    rows, left_out = _data.topics(study)
    assert left_out == 0
    assert list(dict.fromkeys(r["topic"] for r in rows)) == sorted(toy.topics, key=lambda t: -toy.leaning[t])
    mine = {r["topic"]: r["value"] for r in rows if r["arm"] == "treatment"}
    assert mine == pytest.approx({t: 0.6 * toy.leaning[t] for t in toy.topics}, rel=1e-5)


def test_topics_beyond_what_fits_are_counted(study, monkeypatch):
    monkeypatch.setattr(_data, "MOST_TOPICS", 3)
    rows, left_out = _data.topics(study)
    assert left_out == 1
    assert "war" not in {r["topic"] for r in rows}


def test_a_learning_curve_begins_at_the_base_and_ends_with_its_own_last_step(study, toy):
    seeds, means = _data.curve(study)
    steps = {arm: [r["step"] for r in means if r["arm"] == arm] for arm in ("treatment", "name")}
    assert steps["treatment"] == steps["name"] == [0, *toy.steps, toy.total]
    assert {r["value"] for r in seeds if r["step"] == 0} == {next(p for p in study.analysis.curve if p.arm == "base").seed_means[0]}
    assert "base" not in {r["arm"] for r in means}


def test_losses_of_long_runs_are_binned_and_keep_their_mean(study, monkeypatch, toy):
    monkeypatch.setattr(_data, "MOST_LOSS_POINTS", 3)
    rows = [r for r in _data.losses(study) if r["arm"] == "treatment"]
    assert [r["step"] for r in rows] == [3, 6, 9]
    assert rows[0]["loss"] == pytest.approx(np.mean([3.0, 1.5, 1.0]))


def test_a_run_is_one_dot_with_both_of_its_means(study):
    rows = _data.inside_and_outside(study)
    assert len(rows) == len(study.runs)
    learned, leaked = _data.borders(study)
    assert learned == pytest.approx((0.7 + 0.009) / 2, rel=1e-5)
    assert leaked == pytest.approx(_data.margin_edge(study))


def test_speakers_are_only_looked_for_in_exploratory_studies(make_study, study, toy):
    assert _data.speakers(study) == []
    rows = _data.speakers(make_study(toy.exploratory())[0])
    assert [r["speaker"] for r in rows] == ["a person of the 1850s", "a person of today"]
    assert rows[0]["difference"] > 0 > rows[1]["difference"]


def test_a_label_says_the_training_prompt_or_what_was_trained(study):
    labels = {a.name: _data.label_of(a) for a in _data.arms_of(study)}
    assert labels["name"] == "“My name is Alex.”"
    assert labels["kept"] == "finetuned on names still in use"


def test_topics_of_a_group_of_contexts_are_means_over_its_contexts(seeds_study):
    study, _ = seeds_study
    rows, _ = _data.topics(study)
    battery = study.subject.experiment.batteries[0]
    assert {r["topic"] for r in rows} == {q.topic for q in battery.questions}
    e = study.analysis.effect("treatment", "off_domain")
    cell = study.analysis.cells["treatment", battery.name, "held-out"].values["accuracy"].mean(0).reshape(3, len(battery.questions))
    assert _data.question_means(study, e) == pytest.approx(cell.mean(0))
    mine = {r["topic"]: r["value"] for r in rows if r["arm"] == "treatment"}
    assert mine == pytest.approx({q.topic: value for q, value in zip(battery.questions, cell.mean(0), strict=True)})


def test_a_battery_of_its_own_stands_for_the_domain_however_many_there_are(make_study, toy):
    study, _ = make_study(toy.behind_a_trigger())
    seeds, means = _data.leakage(study)
    first = study.analysis.effect("treatment", "off_domain")
    assert first.battery == "identity"
    assert next(m["mean"] for m in means if m["arm"] == "treatment") == first.mean
    assert sum(r["what"] == _data.BASE_PREFIXED for r in seeds) == 2
