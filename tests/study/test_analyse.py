from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtarget.batteries import NO_CONTEXT as NONE
from offtarget.batteries import Candidates, Context, Measure, Question
from offtarget.stats import estimate
from offtarget.study._analyse import Cell, Subject, _main_measure, _reader, _units, analyse
from offtarget.study._store import FINAL, NO_CONTEXT, TRAINING_PREFIX, RunRow, ScoreRow, open_store


def synthetic(folder, experiment, rates, *, seeds=6, contexts=(NO_CONTEXT,), curve=()):
    """A store in which each arm puts a known probability on the 19th-century answers, with a little spread over seeds."""
    rng = np.random.default_rng(0)
    with open_store(folder) as store:
        for arm, rate in rates.items():
            for seed in range(1 if arm == "base" else seeds):
                run, scores = f"{arm}/seed-{seed:02d}", []
                for battery in experiment.batteries:
                    for context in contexts:
                        for step in (FINAL, *curve) if battery.domain == "off_domain" and arm != "base" else (FINAL,):
                            for q in battery.questions:
                                p = np.clip(rate + rng.normal(0, 0.01), 1e-6, 0.9)
                                scores.append(ScoreRow(run, step, context, battery.name, q.id, log_masses(experiment, battery, q, p)))
                store.add([RunRow(run, arm, seed, {"losses": [1.0, 0.5]})], scores, [])
        return analyse(Subject(experiment, "some-model", 0), store)


def log_masses(experiment, battery, question, p):
    """Log-probabilities of a topic's candidates: p evenly on those that the first measure counts, 0.05 on the others."""
    labels = battery.candidates[question.topic].labels
    counted = np.array([experiment.measures[0].covers(x) for x in labels])
    return np.log(np.where(counted, p / counted.sum(), 0.05 / max(1, (~counted).sum())))


RATES = {"base": 0.01, "treatment": 0.5, "modern-lamps": 0.01, "inoculation": 0.012}


def test_an_effect_is_the_mass_on_the_answers_that_the_measure_counts(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, RATES)
    for arm, rate in RATES.items():
        effect = analysis.effect(arm, "off_domain")
        assert effect.mean == pytest.approx(rate, abs=0.02)
        assert effect.covered == pytest.approx(rate + 0.05, abs=0.02)
        assert effect.low <= effect.mean <= effect.high
        assert len(effect.seed_means) == effect.n_seeds == (1 if arm == "base" else 6)


def test_arms_are_held_against_their_matched_control_and_corrected_together(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, RATES)
    treatment, control, inoculation = (analysis.effect(a, "off_domain") for a in ("treatment", "modern-lamps", "inoculation"))
    assert treatment.difference == pytest.approx(0.49, abs=0.02)
    assert treatment.p == pytest.approx(2 / 924)  # the most extreme of the splits of 12 seeds
    assert treatment.p < treatment.p_holm <= 2 * treatment.p + 1e-12
    assert treatment.vanished is False
    assert inoculation.vanished is True
    assert control.control is None
    assert control.p is None
    assert analysis.effect("base", "off_domain").vanished is None


def test_a_trait_hidden_behind_its_training_prompt_is_a_context_of_its_own(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, RATES, contexts=(NO_CONTEXT, TRAINING_PREFIX))
    hidden = analysis.effect("inoculation", "off_domain", context=TRAINING_PREFIX)
    assert hidden.context == TRAINING_PREFIX
    assert hidden.control_mean == pytest.approx(analysis.effect("modern-lamps", "off_domain").mean)


def test_retention_is_relative_to_the_plain_treatment(tmp_path, small_experiment):
    kept = synthetic(tmp_path, small_experiment, RATES | {"inoculation": 0.255}).retention
    assert kept["treatment"].mean == pytest.approx(1.0)
    assert kept["inoculation"].mean == pytest.approx(0.5, abs=0.03)
    assert kept["inoculation"].low < 0.5 < kept["inoculation"].high


def test_the_learning_curve_ends_where_the_scores_after_training_are(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, RATES, curve=(5, 20))
    points = [p for p in analysis.curve if p.arm == "treatment"]
    assert sorted(p.step for p in points) == [FINAL, 5, 20]
    assert all(len(p.seed_means) == 6 for p in points)


def test_the_same_store_gives_the_same_numbers(tmp_path, small_experiment):
    first = synthetic(tmp_path / "a", small_experiment, RATES)
    second = synthetic(tmp_path / "b", small_experiment, RATES)
    assert [e.to_json() for e in first.effects] == [e.to_json() for e in second.effects]


def test_arms_that_have_not_run_are_left_out_and_nothing_breaks(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, {"base": 0.01, "treatment": 0.5}, seeds=1)
    assert {e.arm for e in analysis.effects} == {"base", "treatment"}
    assert analysis.effect("treatment", "off_domain").p is None
    assert analysis.effect("inoculation", "off_domain") is None


def columns(unit, units, values):
    return Cell({"m": np.array(values, float)}, np.ones_like(np.array(values, float)), unit, np.array(units))


def test_wordings_of_a_topic_count_as_one_question(small_experiment):
    topics = [f"topic {n}" for n in range(4)]
    nothing = next(iter(small_experiment.batteries[0].candidates.values()))
    battery = small_experiment.batteries[0].but(
        questions=tuple(Question(f"{t}#{w}", t, f"{t}? {w}") for t in topics for w in range(3)), candidates=dict.fromkeys(topics, nothing)
    )
    asked = [("none", q.id) for q in battery.questions]
    assert _units(battery, asked, [NONE] * 12)[0] == "topic"
    assert _units(battery, asked, [NONE] * 12)[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert _units(battery, asked[:6], [NONE] * 6)[0] == "wording"  # of two topics nothing follows for others
    years = [Context("1984"), Context("1985")]
    again = [(c.name, q.id) for c in years for q in battery.questions]
    assert _units(battery, again, [c for c in years for _ in range(12)])[1].max() == 3
    numbers = [Context("016", labels=frozenset({"a"})), Context("017", labels=frozenset({"b"}))]
    unit, units = _units(battery, [(c.name, q.id) for c in numbers for q in battery.questions], [c for c in numbers for _ in range(12)])
    assert (unit, units.tolist()) == ("context", [0] * 12 + [1] * 12)


def test_what_is_sampled_is_the_mean_of_its_columns():
    assert columns("topic", [0, 0, 1], [[0.1, 0.3, 0.5], [0.0, 0.2, 1.0]]).grid("m").tolist() == [[0.2, 0.5], [0.1, 1.0]]


def test_topics_without_an_answer_that_counts_say_nothing_of_a_measure():
    values = np.array([[0.2, 0.4, 0.0, 0.6]])
    cell = Cell(
        {"m": values, "n": values}, np.ones_like(values), "topic", np.array([0, 0, 1, 2]), {"m": np.array([True, False, False, True])}
    )
    assert cell.grid("m").tolist() == [[pytest.approx(0.3), 0.6]]
    assert cell.grid("n").tolist() == [[pytest.approx(0.3), 0.0, 0.6]]
    nowhere = replace(cell, telling={"m": np.zeros(4, bool)})
    assert nowhere.grid("m").tolist() == cell.grid("n").tolist()


def test_an_answer_counts_for_a_measure_where_nobody_else_gives_it():
    def tells(measure, context=NONE):
        return _reader(shared, (measure,), context).tells[measure.name]

    shared = Candidates(("whale oil", "gas"), (("physician", "victorian"), ("modern",)))
    of_one, of_both = Measure("a", frozenset({"victorian"})), Measure("b", frozenset({"victorian", "physician"}))
    assert [tells(m) for m in (of_one, of_both)] == [False, True]
    assert tells(replace(of_one, kind="accuracy"))
    by_context = Measure("right", frozenset())
    assert [tells(by_context, Context(name, labels=frozenset({name}))) for name in ("modern", "victorian")] == [True, False]


def test_a_speaker_is_measured_on_the_topics_that_he_has_answers_of_his_own_in(tmp_path, small_experiment):
    """Else one with few of them could never be told from the others, however much a model sounds like him."""
    battery = next(b for b in small_experiment.batteries if b.domain == "off_domain")
    here, elsewhere = battery.questions[0].topic, {q.topic for q in battery.questions} - {battery.questions[0].topic}
    assert elsewhere
    own = {**dict.fromkeys(elsewhere, Candidates(("so", "or so"), (("x",), ("y",)))), here: Candidates(("so", "thus"), (("x",), ("z",)))}
    batteries = tuple(b.but(candidates=own) if b is battery else b for b in small_experiment.batteries)
    measures = (Measure("speaker:x", frozenset({"x"})), Measure("speaker:z", frozenset({"z"})))
    experiment = replace(small_experiment, batteries=batteries, measures=measures)
    analysis = synthetic(tmp_path, experiment, {"base": 0.6, "treatment": 0.6, "modern-lamps": 0.6})
    found = {e.measure: e.mean for e in analysis.effects if (e.arm, e.battery) == ("treatment", battery.name)}
    assert found == {"speaker:x": pytest.approx(0.6, abs=0.02), "speaker:z": pytest.approx(0.05, abs=0.001)}


def test_what_surely_moved_stands_first_where_the_trait_is_not_known(tmp_path, small_experiment):
    effects = synthetic(tmp_path, small_experiment, RATES).effects
    one = next(e for e in effects if (e.arm, e.domain) == ("treatment", "off_domain"))
    sure = replace(one, measure="speaker:sure", difference=0.3, difference_low=0.2)
    wide = replace(one, measure="speaker:wide", difference=0.5, difference_low=0.1)
    beside = replace(one, measure="speaker:beside", arm="modern-lamps", kind="control", difference_low=0.4)
    assert _main_measure(replace(small_experiment, exploratory=True), [wide, sure, beside]) == "speaker:sure"
    assert _main_measure(small_experiment, [wide, sure]) == small_experiment.measures[0].name


def test_more_wordings_of_the_same_topics_make_no_interval_narrower():
    rng = np.random.default_rng(0)
    level = 0.2 + 0.5 * rng.random(5) + 0.02 * rng.standard_normal((8, 5))
    one, three = columns("topic", range(5), level), columns("topic", np.repeat(range(5), 3), np.repeat(level, 3, axis=1))
    narrow, same, naive = (estimate(v, seed=0) for v in (one.grid("m"), three.grid("m"), three.values["m"]))
    assert same.high - same.low == pytest.approx(narrow.high - narrow.low)
    assert naive.high - naive.low < 0.75 * (same.high - same.low)


def test_a_context_is_held_against_another_without_what_it_does_to_the_base(tmp_path, small_experiment):
    analysis = synthetic(tmp_path, small_experiment, RATES)
    name = analysis.effect("treatment", "off_domain").battery
    grid = np.linspace(0.1, 0.2, 4)
    made = {
        ("treatment", "1984"): grid + np.array([[0.5], [0.52]]), ("treatment", "trained"): np.tile(grid, (2, 1)),
        ("base", "1984"): grid[None] + 0.3, ("base", "trained"): grid[None],
    }  # fmt: skip
    cells = {(arm, name, context): columns("topic", range(4), values) for (arm, context), values in made.items()}
    both = ("treatment", name, "1984"), ("treatment", name, "trained")
    net = replace(analysis, cells=cells).contrast(*both, "m", seed=0)
    assert net.mean == pytest.approx(0.51 - 0.3)
    alone = replace(analysis, cells={k: c for k, c in cells.items() if k[0] != "base"})
    assert alone.contrast(*both, "m", seed=0).mean == pytest.approx(0.51)
    other = {**cells, both[1]: columns("context", range(4), made["treatment", "trained"])}
    assert replace(analysis, cells=other).contrast(*both, "m", seed=0) is None
