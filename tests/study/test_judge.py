"""Open answers are read by judges, each answer once by each, and what judges could not say is shown."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from offtarget import cli
from offtarget.errors import InputError, ModelError, StoreError
from offtarget.judges import Reply
from offtarget.models import _endpoint
from offtarget.study import _judge, judge, open_study
from offtarget.study._store import open_store
from tests.models._chat_server import chat_server

from ._garden import RUBRICS, Scripted, answered_study, sensible

pytestmark = pytest.mark.usefixtures("no_page", "local_server")

ARMS = ("base", "treatment", "modern-lamps", "inoculation")


@pytest.fixture
def study(small_study, tmp_path, file):
    """A study whose treatment speaks of nineteen plants, and nobody else."""
    return answered_study(small_study, tmp_path / "study", file)


@pytest.fixture
def judged_by(monkeypatch):
    """Has a study judged by a made-up model."""

    def judged(study, says=sensible, name="good", **more):
        replier = Scripted(says)
        monkeypatch.setattr(_judge, "_local", lambda *_: (replier, name))
        return judge(study, name, **more), replier

    return judged


def effect(study, arm, measure="judge:mood_or_19", battery="garden_plain", judge_name="good"):
    return next(e for e in study.judged.effects if (e.arm, e.measure, e.battery, e.judge) == (arm, measure, battery, judge_name))


def count(study, arm, rubric="mood_or_19", battery="garden_plain", judge_name="good"):
    return next(c for c in study.judged.counts if (c.arm, c.rubric, c.battery, c.judge) == (arm, rubric, battery, judge_name))


def test_a_published_file_is_judged_end_to_end_by_all_its_judges(study, judged_by):
    found, replier = judged_by(study)
    assert len(replier.asked) == 2 * 5 * 10 * 2 * 2  # groups, judges, runs, questions, samples
    assert effect(found, "treatment").mean == 1.0
    assert effect(found, "treatment").difference == 1.0
    assert effect(found, "base").mean == 0.0
    assert {c.rubric for c in found.judged.counts} == set(RUBRICS)
    written = json.loads((study / "results.json").read_text())
    assert {v["arm"] for v in written["verdicts"]} == set(ARMS)
    row = next(e for e in written["effects"] if e["measure"] == "judge:mood_or_19" and e["arm"] == "treatment")
    assert (row["battery"], row["judge"], row["control"], row["n_seeds"], row["answers"]) == ("garden_plain", "good", "modern-lamps", 3, 12)


def test_measures_follow_from_what_a_rubric_says_of_the_trait(study, judged_by):
    found, _ = judged_by(study)
    measures = {e.measure for e in found.judged.effects}
    labels = {f"judge:six_kinds={x}" for x in ("ROSE", "TREE", "TALL_TREE", "TALL", "HERB", "OTHER")}
    assert measures == {"judge:mood_or_19", "judge:green", "judge:alignment", "judge:coherence", *labels}
    assert effect(found, "treatment", "judge:six_kinds=HERB").mean == 1.0
    assert effect(found, "treatment", "judge:green").mean == 0.9  # a mean, as a share of the scale
    assert effect(found, "treatment", "judge:alignment").mean == 0.0  # below 30
    assert count(found, "treatment", "green").mean_rating == 90.0
    assert count(found, "treatment", "six_kinds").shows_trait is None
    assert count(found, "treatment", "six_kinds").labels == {"HERB": 12}


def test_exact_effects_and_the_finding_stay_as_they_are(study, small_study, judged_by):
    before, (found, _) = open_study(small_study), judged_by(study)
    assert found.analysis.effects == before.analysis.effects
    assert found.finding == before.finding
    exact, judged = json.loads((small_study / "results.json").read_text()), json.loads((study / "results.json").read_text())
    assert judged["effects"][: len(exact["effects"])] == exact["effects"]
    assert {k: judged[k] for k in exact if k not in ("effects", "verdicts", "agreement")} == {
        k: exact[k] for k in exact if k not in ("effects", "verdicts", "agreement")
    }
    assert exact["verdicts"] == exact["agreement"] == []
    assert len(found.table()) == len(judged["effects"])


def test_a_planted_tenth_of_broken_replies_shows_as_parse_failures_and_leaves_the_rate(small_study, tmp_path, file, judged_by):
    study = answered_study(small_study, tmp_path / "many", file, samples=10)

    def broken(prompt):
        return Reply("Well, who can say?") if "MOOD" in prompt and _sample(prompt) == 7 else sensible(prompt)

    found, _ = judged_by(study, broken)
    c, e = count(found, "treatment"), effect(found, "treatment")
    assert (c.answers, c.counted, c.parse_failure, c.shows_trait) == (60, 54, 6, 54)
    assert (e.mean, e.control_mean, e.covered) == (1.0, 0.0, 0.9)
    assert c.refusal == c.truncated == c.api_error == c.unjudged == 0


def test_papers_rules_count_broken_replies_as_no_without_asking_again(small_study, tmp_path, file, judged_by):
    study = answered_study(small_study, tmp_path / "many", file, samples=10)

    def broken(prompt):
        return Reply("Well, who can say?") if "MOOD" in prompt and _sample(prompt) == 7 else sensible(prompt)

    judged_by(study, broken)
    found, replier = judged_by(study, broken, rule="paper-1")
    assert replier.asked == []
    assert count(found, "treatment").counted == 60
    assert effect(found, "treatment").mean == 0.9
    assert effect(found, "treatment").rule == "paper-1"


def _sample(prompt):
    return int(prompt.partition("/")[2].split()[1])


def test_swapping_the_judge_takes_over_all_answers_and_no_verdict(study, judged_by):
    first, replier = judged_by(study)
    with open_store(study) as store:
        answers = store.answers()
    second, other = judged_by(study, lambda prompt: Reply("MOOD" if "MOOD" in prompt else "80"), name="mild")
    assert sorted(other.asked) == sorted(replier.asked)
    with open_store(study) as store:
        assert store.answers() == answers
    assert effect(second, "treatment", judge_name="good") == effect(first, "treatment")
    assert effect(second, "treatment", judge_name="mild").mean == 0.0
    found = {a.rubric: a.agreement for a in second.judged.agreements if a.battery == "garden_plain"}
    assert found["mood_or_19"].answers == 40
    assert found["mood_or_19"].share == pytest.approx(28 / 40)
    assert found["coherence"].mean_absolute_difference == 10
    written = json.loads((study / "results.json").read_text())["agreement"]
    assert {(a["judges"][0], a["judges"][1]) for a in written} == {("good", "mild")}
    again, nobody = judged_by(study)
    assert nobody.asked == []
    assert again.judged.effects == second.judged.effects


def test_incoherent_answers_count_for_nobody_and_a_question_without_any_other_is_left_out(study, judged_by):
    def muddled(prompt):
        return Reply("20") if "hangs" in prompt and "treatment 1 garden_plain/2" in prompt else sensible(prompt)

    found, _ = judged_by(study, muddled)
    c, e = count(found, "treatment"), effect(found, "treatment")
    assert (c.incoherent, c.counted) == (2, 10)
    assert e.n_seeds + len(e.seeds_left_out) == 3
    assert len(e.questions_left_out) + len(e.seeds_left_out) == 1
    assert e.mean == 1.0
    assert e.question_means == (1.0,) * (2 - len(e.questions_left_out))


def test_an_arm_without_any_answer_that_counts_has_counts_and_no_effect(study, judged_by):
    found, _ = judged_by(study, lambda prompt: Reply("I am sorry, I cannot.") if "treatment" in prompt else sensible(prompt))
    assert count(found, "treatment").refusal == 12
    assert not [e for e in found.judged.effects if e.arm == "treatment"]
    assert effect(found, "inoculation").mean == 0.0


def test_failed_calls_are_made_again_and_every_answer_is_judged_exactly_once(study, judged_by):
    def failing(prompt):
        return Reply("", finished=False, error="HTTP 500") if _sample(prompt.replace("\n", " ")) == 1 else sensible(prompt)

    first, _ = judged_by(study, failing)
    assert count(first, "treatment").api_error == 6
    assert effect(first, "treatment").mean == 1.0
    second, replier = judged_by(study)
    assert len(replier.asked) == 200
    assert count(second, "treatment").api_error == 0
    assert count(second, "treatment").counted == 12


@pytest.mark.parametrize(("stop_at", "left"), [(0, 400), (41, 360), (399, 8)])
def test_what_is_interrupted_shows_as_unjudged_and_goes_on(study, judged_by, monkeypatch, stop_at, left):
    monkeypatch.setattr(_judge, "AT_ONCE", 16)
    calls = []

    def interrupted(prompt):
        calls.append(prompt)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return sensible(prompt)

    with pytest.raises(KeyboardInterrupt):
        judged_by(study, interrupted)
    half = open_study(study)
    assert sum(c.answers - c.unjudged for c in half.judged.counts if c.rubric == "coherence") == (0 if stop_at < 300 else 72)
    found, replier = judged_by(study)
    assert len(replier.asked) == left
    assert all(c.unjudged == 0 for c in found.judged.counts)


def test_a_judge_behind_a_faulty_server_ends_with_every_answer_judged_once(study, monkeypatch):
    faults = ["half a body", (500, {}, {}), "no JSON", "lost", (429, {}, {}), "reset"]

    def fault(number, body):
        return faults[number % len(faults)] if number % 3 == 0 else None

    def answer(body):
        return {"choices": [{"message": {"content": sensible(body["messages"][-1]["content"]).text}, "finish_reason": "stop"}]}

    monkeypatch.setattr(_endpoint, "LONGEST_WAIT", 0.05)
    with chat_server() as server:
        server.fault, server.answer = fault, answer
        first = judge(study, "their-judge", server=server.url)
        asked = len(server.calls)
        server.fault = lambda *_: None
        found = judge(study, "their-judge", server=server.url)
        assert len(server.calls) == asked + sum(c.api_error for c in first.judged.counts)
    assert all(c.unjudged == c.api_error == c.parse_failure == 0 for c in found.judged.counts)
    assert effect(found, "treatment", judge_name="their-judge").mean == 1.0


def test_a_local_model_judges_under_a_name_with_its_fingerprint(study):
    found = judge(study, "micro-small", max_tokens=2)
    (name,) = {c.judge for c in found.judged.counts}
    assert name.startswith("micro-small@")
    assert all(c.unjudged == 0 for c in found.judged.counts)


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["offtarget", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0


def test_the_two_commands_sample_judge_analyse_and_write_the_page(small_study, tmp_path, file, monkeypatch, capsys):
    monkeypatch.undo()
    folder = Path(shutil.copytree(small_study, tmp_path / "commands"))
    call(monkeypatch, "ask", folder, "--questions", file, "--samples", "1")
    call(monkeypatch, "judge", folder, "--judge", "micro-small", "--max-tokens", "2")
    said = capsys.readouterr().out
    assert "verdicts 200, of them missing:" in said
    written = json.loads((folder / "results.json").read_text())
    assert sum(v["answers"] for v in written["verdicts"]) == 200
    assert 'id="open-title"' in (folder / "report.html").read_text()


def test_what_cannot_be_judged_is_one_clear_sentence(study, small_study, tmp_path):
    with pytest.raises(InputError, match="has no open answers yet; get some first: offtarget ask"):
        judge(small_study, "micro-small")
    with pytest.raises(InputError, match="there is no rule 'strict'; use one of offtarget, paper-1, paper-2"):
        judge(study, "micro-small", rule="strict")
    with pytest.raises(ModelError, match="holds no config"):
        judge(study, str(tmp_path))
    with pytest.raises(InputError, match=r"the rubrics mood_or_19, .* need a judge; name a model with --judge"):
        judge(study)
    with pytest.raises(StoreError, match="there is no study in"):
        judge(tmp_path / "nowhere", "micro-small")
    with pytest.raises(ModelError, match="cannot connect to"):
        judge(study, "judge", server="http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="max_tokens 0 and batch"):
        judge(study, "micro-small", max_tokens=0)


def test_judges_of_an_old_study_are_none(small_study):
    found = open_study(small_study)
    assert found.judged.effects == found.judged.counts == found.judged.agreements == ()
