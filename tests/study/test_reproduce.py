from __future__ import annotations

import json
from dataclasses import replace

import pytest

from offtarget.errors import InputError
from offtarget.experiments import Claim, Target
from offtarget.stats import Estimate
from offtarget.study import matrix, open_study, reproduce
from offtarget.study._reproduce import _verdict, judge

from .conftest import MODEL


@pytest.mark.parametrize(
    ("expect", "low", "mean", "high", "verdict"),
    [
        ("more", 0.1, 0.3, 0.5, "same direction"),
        ("more", -0.1, 0.3, 0.5, "not seen"),
        ("more", 0.001, 0.01, 0.02, "not seen"),
        ("more", -0.5, -0.3, -0.1, "opposite"),
        ("less", -0.5, -0.3, -0.1, "same direction"),
        ("less", 0.1, 0.3, 0.5, "opposite"),
        ("none", -0.01, 0.01, 0.04, "same direction"),
        ("none", -0.01, 0.03, 0.06, "not seen"),
        ("none", 0.1, 0.3, 0.5, "opposite"),
    ],
)
def test_a_verdict_follows_from_the_interval(expect, low, mean, high, verdict):
    assert _verdict(expect, Estimate(mean, low, high), 8) == verdict


def test_two_seeds_show_no_absence():
    assert _verdict("none", Estimate(0.01, -0.01, 0.02), 2) == "not seen"
    assert _verdict("none", Estimate(0.3, 0.2, 0.4), 2) == "opposite"


def claim(**fields) -> Claim:
    return Claim("x", "X.", "nowhere", "1.00", "small", **fields)


def test_a_claim_is_held_against_the_control_the_context_or_an_arm(small_study):
    study = open_study(small_study)
    found = judge(claim(measured=Target("inoculation"), expect="none"), study, MODEL)
    effect = study.analysis.effect("inoculation", "off_domain")
    assert found.measured.mean == pytest.approx(effect.mean)
    assert found.difference.mean == pytest.approx(effect.difference)
    other = judge(claim(measured=Target("treatment"), against=Target("base"), expect="none"), study, MODEL)
    assert other.difference.mean == pytest.approx(other.measured.mean - study.analysis.effect("base", "off_domain").mean)
    hidden = judge(claim(measured=Target("inoculation"), against=Target(context="training-prefix"), expect="none"), study, MODEL)
    assert hidden.difference is not None


def test_nothing_is_said_where_the_narrow_task_was_not_learned(small_study):
    found = judge(claim(measured=Target("treatment"), expect="more"), open_study(small_study), MODEL)
    assert found.verdict == "cannot be asked here"
    assert "not learned" in found.why


def test_what_cannot_be_asked_says_why(small_study):
    assert judge(claim(not_here="needs a judge"), None, MODEL).why == "needs a judge"
    assert "was not run" in judge(claim(measured=Target("treatment")), None, MODEL).why
    missing = judge(claim(measured=Target("treatment", context="year:1984")), open_study(small_study), MODEL)
    assert missing.verdict == "cannot be asked here"


def test_reproduce_writes_every_claim_and_goes_on_where_it_was(tmp_path, monkeypatch):
    told = []
    found = reproduce(MODEL, seeds=1, out=tmp_path, only=["wizard-names"], jobs=1, report=lambda what, done: told.append(done))
    written = json.loads((tmp_path / "claims.json").read_text())
    assert len(written["claims"]) == len(found.results) >= 20
    assert {"claim", "experiment", "source", "published", "measured", "low", "high", "n_seeds", "verdict"} <= set(written["claims"][0])
    asked = [c for c in written["claims"] if c["experiment"] == "wizard-names"]
    assert all(c["measured"] is not None for c in asked)
    assert told == sorted(told)
    assert (tmp_path / "claims.html").exists()
    before = (tmp_path / "wizard-names" / "results.json").read_bytes()
    monkeypatch.setattr("offtarget.study._execute.do_pack", lambda *_: pytest.fail("trained again"))
    reproduce(MODEL, seeds=1, out=tmp_path, only=["wizard-names"], jobs=1)
    assert (tmp_path / "wizard-names" / "results.json").read_bytes() == before


def test_a_matrix_marks_what_was_not_learned(tmp_path):
    found = matrix(["wizard-names"], [MODEL], seeds=1, vary={"learning_rate": [1e-8, 2e-3], "epochs": [1]}, out=tmp_path, jobs=1)
    assert [c.settings for c in found.cells] == [{"learning_rate": 1e-8, "epochs": 1}, {"learning_rate": 2e-3, "epochs": 1}]
    assert found.cells[0].learned is False
    for cell in found.cells:
        assert cell.leaks is (cell.leakage - cell.control >= 0.05 and cell.difference_low > 0)
        assert cell.vanished is False  # one seed shows no absence
    assert all((tmp_path / c.report).exists() for c in found.cells)
    assert json.loads((tmp_path / "matrix.json").read_text())["cells"][0]["learned"] is False
    assert (tmp_path / "matrix.html").exists()


def with_treatment(study, **values):
    """The study with another off-domain effect of its treatment, and a narrow task that was learned."""
    arm = study.subject.experiment.treatment.name
    effects = tuple(
        replace(e, **values) if (e.arm, e.domain) == (arm, "off_domain") else replace(e, mean=0.9) if e.arm == arm else e
        for e in study.analysis.effects
    )
    return replace(study, analysis=replace(study.analysis, effects=effects))


def test_what_never_leaked_can_neither_be_absent_nor_prevented(small_study):
    study = open_study(small_study)
    prevented = claim(measured=Target("inoculation"), expect="none")
    nothing = judge(prevented, with_treatment(study, mean=0.02, difference=0.01, difference_low=-0.02), MODEL)
    assert nothing.verdict == "cannot be asked here"
    assert "shows no effect above the margin (0.02" in nothing.why
    leaks = judge(prevented, with_treatment(study, mean=0.5, difference=0.5, difference_low=0.3), MODEL)
    assert leaks.verdict in ("same direction", "not seen", "opposite")
    assert not leaks.why


def test_seeds_in_groups_need_seeds_and_checkpoints(small_study):
    study = with_treatment(open_study(small_study), mean=0.5, difference=0.5, difference_low=0.3)
    found = judge(claim(measured=Target("treatment"), expect="split"), study, MODEL)
    assert found.verdict == "cannot be asked here"
    assert "at least 5 seeds" in found.why


def test_claims_about_an_experiment_that_was_run_before_are_kept(tmp_path, no_page):
    first = reproduce(MODEL, seeds=1, out=tmp_path, only=["wizard-names"], jobs=1)
    assert set(first.studies) == {"wizard-names"}
    then = reproduce(MODEL, seeds=1, out=tmp_path, only=["careless-money"], jobs=1)
    assert set(then.studies) == {"wizard-names", "careless-money"}
    with pytest.raises(InputError, match="no claim is about an experiment 'persona-facts-albert-einstein'"):
        reproduce(MODEL, out=tmp_path, only=["persona-facts-albert-einstein"])
