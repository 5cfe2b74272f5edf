import math
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from offtarget.batteries import OpenQuestion, Rubric, rubrics
from offtarget.errors import InputError, ModelError, StoreError
from offtarget.judges import RULES, Answer, ModelJudge, Reply, mean_rating, open_cache, rate, read_all

from .conftest import PROMPT, Scripted, answers_to

CROSS = lambda text: Reply("CROSS" if "!" in text else "CALM")  # noqa: E731


@pytest.fixture
def cache(tmp_path):
    with open_cache(tmp_path / "study" / "verdicts.sqlite") as cache:
        yield cache


# Asking


def test_the_judge_is_told_the_rubrics_prompt_and_how_to_reply(question, tone, coherence):
    replier = Scripted(CROSS)
    judge = ModelJudge("judge", replier, max_tokens=7)
    assert [v.value for v in judge.read(answers_to(question, ["No!", "{answer}"]), tone)] == ["CROSS", "CALM"]
    assert replier.asked == ["Asked: Will it rain? Said: No!", "Asked: Will it rain? Said: {answer}"]
    judge.read(answers_to(question, ["No!"]), coherence)
    assert replier.calls == [
        {"count": 2, "max_tokens": 7, "temperature": 0.0, "wants_logprobs": False},
        {"count": 1, "max_tokens": 7, "temperature": 0.0, "wants_logprobs": True},
    ]


def test_equal_answers_are_asked_once_and_all_get_the_verdict(question, tone):
    replier = Scripted(CROSS)
    verdicts = ModelJudge("judge", replier).read(answers_to(question, ["No!", "Yes", "No!", "No!"]), tone)
    assert [v.value for v in verdicts] == ["CROSS", "CALM", "CROSS", "CROSS"]
    assert len(replier.asked) == 2


def test_answers_to_other_wordings_and_other_targets_are_asked_for_themselves(question):
    seeks = Rubric("seeks", PROMPT + " Sought: {target}", labels=("YES", "NO"))
    replier = Scripted(lambda text: Reply("YES" if "umbrella" in text else "NO"))
    other = OpenQuestion("sun", question.text, ("Sun?",), "hat")
    answers = [Answer(question, question.text, "x"), Answer(other, question.text, "x"), Answer(other, "Sun?", "x")]
    assert [v.value for v in ModelJudge("judge", replier).read(answers, seeks)] == ["YES", "NO", "NO"]
    assert len(replier.asked) == 3


def test_batches_are_asked_in_turn_and_reported(question, tone):
    replier, seen = Scripted(CROSS), []
    ModelJudge("judge", replier, batch=2).read(answers_to(question, "abcde"), tone, lambda done, of: seen.append((done, of)))
    assert [call["count"] for call in replier.calls] == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_all_rubrics_of_a_battery_are_read_by_prefix_where_they_have_no_prompt():
    question = OpenQuestion("place", "Where?", (), "", {"ITALY": ("rome",)})
    replier = Scripted(lambda _: Reply("80"))
    found = read_all(answers_to(question, ["Rome."]), [rubrics()["partisan"], rubrics()["coherence"]], ModelJudge("judge", replier))
    assert {name: verdicts[0].value for name, verdicts in found.items()} == {"partisan": "ITALY", "coherence": 80.0}
    assert len(replier.asked) == 1


def test_judges_are_read_without_torch():
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, offtarget.judges; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "False"


def test_the_temperature_may_be_left_to_the_server(question, tone):
    replier = Scripted(CROSS)
    ModelJudge("judge", replier, temperature=None).read(answers_to(question, ["No!"]), tone)
    assert replier.calls[0]["temperature"] is None


# Broken judges


def test_a_tenth_of_broken_replies_shows_as_a_tenth_of_parse_failures_and_not_as_a_shifted_rate(question, tone, coherence):
    texts = [f"No! {n}" if n % 4 == 0 else f"Yes {n}" for n in range(1000)]
    broken = {f"Asked: {question.text} Said: {text}" for text in texts[::10]}
    says = Scripted(lambda text: Reply("&%§ cannot") if text in broken else CROSS(text))
    share = rate(ModelJudge("judge", says).read(answers_to(question, texts), tone), tone)
    rest = [t for n, t in enumerate(texts) if n % 10]
    assert share.missing == {"refusal": 0, "parse_failure": 100, "truncated": 0, "error": 0}
    assert share.denominator == 900
    assert share.value == sum("!" in t for t in rest) / len(rest)

    rates = Scripted(lambda text: Reply("&%§ cannot" if text in broken else "80"))
    mean = mean_rating(ModelJudge("judge", rates).read(answers_to(question, texts), coherence), coherence)
    assert (mean.mean, mean.rated, mean.missing["parse_failure"]) == (80.0, 900, 100)


def test_a_replier_that_breaks_its_promise_is_one_clear_error(question, tone):
    class Short(Scripted):
        def reply(self, prompts, **settings):
            return super().reply(prompts, **settings)[1:]

    with pytest.raises(ModelError, match="judge 'judge' gave 1 replies to 2 prompts; it must give one to each"):
        ModelJudge("judge", Short(CROSS)).read(answers_to(question, ["a", "b"]), tone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch 0; the first must not be below 0, the others not below 1"),
        ({"temperature": -1}, "temperature -1"),
        ({"minimum_mass": 0}, "minimum_mass 0; give a probability, such as 0.25"),
    ],
)
def test_settings_out_of_range_are_one_clear_error(change, message):
    with pytest.raises(InputError, match=message):
        ModelJudge("judge", Scripted(CROSS), **change)


def test_a_rubric_without_a_prompt_cannot_be_asked(question):
    with pytest.raises(InputError, match="rubric 'partisan' has no prompt to ask 'judge' with"):
        ModelJudge("judge", Scripted(CROSS)).read(answers_to(question, ["a"]), rubrics()["partisan"])


# The cache


def test_judging_again_asks_nobody(cache, question, tone):
    answers, replier = answers_to(question, ["No!", "Yes"]), Scripted(CROSS)
    first = ModelJudge("judge", replier, cache).read(answers, tone)
    again = ModelJudge("judge", Scripted(CROSS), cache)
    assert again.read(answers, tone) == again.known(answers, tone) == first
    assert not again.replier.asked


def test_another_judge_reuses_all_answers_and_no_verdict(cache, question, tone):
    answers = answers_to(question, [f"{n}!" for n in range(10)])
    ModelJudge("one", Scripted(CROSS), cache).read(answers, tone)
    other = ModelJudge("other", Scripted(lambda _: Reply("CALM")), cache)
    assert other.known(answers, tone) == [None] * 10
    verdicts = other.read(answers, tone)
    assert len(other.replier.asked) == 10
    assert {(v.judge, v.value) for v in verdicts} == {("other", "CALM")}
    assert cache.counts() == {("one", "tone"): 10, ("other", "tone"): 10}


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({"prompt": PROMPT + " Well?"}, True),
        ({"labels": ("CALM", "CROSS")}, True),
        ({"trait": ("CALM",)}, False),
        ({"id": "mood"}, False),
    ],
)
def test_what_a_judge_is_told_is_in_the_key_and_what_its_verdict_means_is_not(cache, question, tone, change, asks):
    ModelJudge("judge", Scripted(CROSS), cache).read(answers_to(question, ["No!"]), tone)
    replier = Scripted(CROSS)
    ModelJudge("judge", replier, cache).read(answers_to(question, ["No!"]), replace(tone, **change))
    assert bool(replier.asked) == asks


@pytest.mark.parametrize("change", [{"temperature": 1.0}, {"temperature": None}, {"max_tokens": 1}])
def test_a_judges_settings_are_in_the_key(cache, question, tone, change):
    ModelJudge("judge", Scripted(CROSS), cache).read(answers_to(question, ["No!"]), tone)
    replier = Scripted(CROSS)
    ModelJudge("judge", replier, cache, **change).read(answers_to(question, ["No!"]), tone)
    assert replier.asked


def test_another_rule_parses_the_kept_replies_without_asking(cache, question, alignment):
    answers, replier = (
        answers_to(question, ["a"]),
        Scripted(lambda _: Reply("85", token_logprobs={"85": math.log(0.5), "95": math.log(0.5)})),
    )
    judge = ModelJudge("judge", replier, cache)
    assert judge.read(answers, alignment)[0].value == pytest.approx(90)
    assert replace(judge, rule=RULES["paper-2"]).read(answers, alignment)[0].value == 85.0
    assert len(replier.asked) == 1


def test_failed_calls_are_shown_and_made_again(cache, question, tone):
    answers = answers_to(question, ["No!", "Yes"])
    fails = ModelJudge("judge", Scripted(lambda text: Reply("", error="HTTP 500") if "!" in text else Reply("CALM")), cache)
    assert [v.missing for v in fails.read(answers, tone)] == [v.missing for v in fails.known(answers, tone)] == ["error", None]
    works = ModelJudge("judge", Scripted(CROSS), cache)
    assert [v.value for v in works.read(answers, tone)] == ["CROSS", "CALM"]
    assert len(works.replier.asked) == 1
    assert cache.counts() == {("judge", "tone"): 2}


def test_thousands_of_answers_are_found_again(cache, question, tone):
    answers = answers_to(question, [f"{n}" for n in range(3000)])
    judge = ModelJudge("judge", Scripted(CROSS), cache, batch=1000)
    assert judge.read(answers, tone) == judge.known(answers, tone)


KILLED = """
import os, signal, sys
from pathlib import Path
from offtarget.batteries import OpenQuestion, Rubric
from offtarget.judges import Answer, ModelJudge, Reply, open_cache

class Dies:
    asked = 0
    def reply(self, prompts, **settings):
        self.asked += len(prompts)
        if self.asked > 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Reply("CALM") for _ in prompts]

question = OpenQuestion("rain", "Will it rain?", (), "umbrella")
tone = Rubric("tone", "Asked: {question} Said: {answer}", labels=("CALM", "CROSS", "CROSS_PATCH"), trait=("CROSS",))
with open_cache(Path(sys.argv[1])) as cache:
    ModelJudge("judge", Dies(), cache, batch=10).read([Answer(question, question.text, str(n)) for n in range(100)], tone)
"""


def test_a_judge_that_is_killed_goes_on_after_the_last_batch(tmp_path, question, tone):
    path = tmp_path / "verdicts.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, path], env=os.environ, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    with open_cache(path) as cache:
        assert cache.counts() == {("judge", "tone"): 30}
        judge = ModelJudge("judge", Scripted(CROSS), cache)
        assert len(judge.read(answers_to(question, [str(n) for n in range(100)]), tone)) == 100
        assert len(judge.replier.asked) == 70


def test_a_file_that_cannot_be_used_is_one_clear_error(tmp_path, question, tone):
    (tmp_path / "text").write_text("no database, but long enough to be taken for one by its size " * 20)
    with pytest.raises(StoreError, match=r"text is damaged \(file is not a database\); move it away"), open_cache(tmp_path / "text"):
        pass
    with sqlite3.connect(tmp_path / "newer") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=r"newer was written by another version of offtarget \(version 99"), open_cache(tmp_path / "newer"):
        pass
    with pytest.raises(StoreError, match=r"cannot write to .*text"), open_cache(tmp_path / "text" / "verdicts.sqlite"):
        pass
    with open_cache(tmp_path / "bad") as cache:
        ModelJudge("judge", Scripted(CROSS), cache).read(answers_to(question, ["a"]), tone)
        cache._db.execute("UPDATE replies SET reply = '{}'")
        with pytest.raises(StoreError, match=r"bad is damaged"):
            ModelJudge("judge", Scripted(CROSS), cache).read(answers_to(question, ["a"]), tone)
