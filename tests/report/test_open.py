from dataclasses import replace

import pytest

from offtarget.batteries import NO_CONTEXT, OpenBattery, OpenQuestion, Rubric
from offtarget.judges import Reply, open_cache
from offtarget.report import _page
from offtarget.report._answers import answers_data
from offtarget.report._open import open_section, trait_effects
from offtarget.study import open_study
from offtarget.study._open import OpenAsk, record, sample_number
from offtarget.study._reading import CACHE, JudgeRecord, record_judge
from offtarget.study._store import AnswerRow, open_store

from ._html_page import NASTY, Page


class Scripted:
    """A judge that says what a function makes of a prompt."""

    def __init__(self, says):
        self.says = says

    def reply(self, prompts, **_):
        return [self.says(chat[0]["content"]) for chat in prompts]


PROMPT = "{question} {answer}"
BATTERY = OpenBattery(
    "views", "toy", "off_domain",
    (OpenQuestion("rain", "Will it rain?", ("Is rain near?",)), OpenQuestion("sun", "Will it shine?", ())),
    (
        Rubric("era", PROMPT + " Era: {labels}", labels=("OLD", "NEW"), trait=("OLD",)),
        Rubric("coherence", PROMPT + " Coherent?", scale=(0, 100), trait_above=50),
    ),
    "by hand",
)  # fmt: skip


@pytest.fixture
def judged(make_study):
    """Makes a study whose treatment speaks of old weather, read by some judges, each with what it makes of a prompt."""

    def make(judges, say=lambda arm, seed, sample: f"{'old' if arm == 'treatment' else 'new'} weather, {arm} {seed} {sample}"):
        study, _ = make_study()
        with open_store(study.folder) as store:
            (ask,) = record(store, [OpenAsk(BATTERY, (NO_CONTEXT,), 3)], study.folder)
            rows = [
                AnswerRow(r.id, "none", "views", q.id, number, say(r.arm, r.seed, number), number != 0)
                for r in store.runs()
                for q, wording in ask.worded()
                for number in (sample_number(q, wording, n) for n in range(3))
            ]
            store.add([], [], rows)
            with open_cache(study.folder / CACHE) as cache:
                for name, says in judges.items():
                    known = JudgeRecord(name)
                    record_judge(store, known)
                    reader = known.reader(Scripted(says), cache, 64)
                    for rubric in BATTERY.rubrics:
                        reader.read([answer for _, answer in ask.read(rows)], rubric)
            answers = store.answers()
        return open_study(study.folder), answers

    return make


def good(prompt):
    return Reply("85") if "Coherent?" in prompt else Reply("OLD" if "old weather" in prompt else "NEW")


def broken(prompt):
    return Reply("Hm.") if " 2 Era" in prompt else good(prompt)


def test_without_judges_the_page_has_no_such_section(make_study):
    study, answers = make_study()
    assert open_section(study) is None
    page = Page(_page.render(study, answers))
    assert "open" not in page.ids
    assert not answers_data(study, answers)["open"]


def test_the_rate_of_each_arm_by_each_judge_is_drawn_with_seeds_as_dots(judged):
    study, _ = judged({"good": good, "broken": broken})
    section = open_section(study)
    (figure,) = section.figures
    effects = trait_effects(study, study.judged.asks[0])
    assert {(e.arm, e.judge, e.mean) for e in effects if e.arm in ("treatment", "modern")} == {
        (arm, judge, mean) for judge in ("good", "broken") for arm, mean in (("treatment", 1.0), ("modern", 0.0))
    }
    spec = figure.chart(study).to_dict()
    dots = [row for layer in spec["layer"] for row in layer["data"]["values"] if "seed" in row]
    assert len(dots) == sum(e.n_seeds for e in effects)
    assert {row["judge"] for row in dots} == {"good", "broken"}
    assert len(figure.rows) == len(effects)


def test_missing_verdicts_and_agreement_stand_in_tables(judged):
    study, _ = judged({"good": good, "broken": broken})
    verdicts, agreement = open_section(study).tables
    found = {row[:3]: dict(zip(verdicts.header[3:], row[3:], strict=True)) for row in verdicts.rows}
    of = found["broken", "views", "era"]
    assert of["Answers"] == "144"
    assert int(of["Parse failure"]) == 32
    assert int(of["Counted"]) == 112
    assert of["Refusal"] == of["Truncated"] == of["API error"] == "0"
    assert "Unjudged" not in of
    assert ("good and broken", "views", "era", "144", "112", "1.00", "1.00", "") in agreement.rows


def test_the_browser_has_open_answers_with_what_judges_made_of_them(judged):
    study, answers = judged({"good": good, "broken": broken})
    data = answers_data(study, answers)
    said = {
        (data["questions"][row[0]]["text"], data["arms"][row[1]]["name"], row[2], row[3]): (data["texts"][row[4]], data["verdicts"][row[6]])
        for row in data["rows"]
        if len(row) == 7
    }
    assert len(said) == 144
    text, verdicts = said["Is rain near?", "treatment", 1, 0]
    assert text == "old weather, treatment 1 1"
    assert verdicts == "good: era OLD, coherence 85; broken: era OLD, coherence 85"
    assert said["Will it shine?", "modern", 0, 2][1] == "good: era NEW, coherence 85; broken: era (parse failure), coherence 85"
    assert data["total"] == len(answers)
    groups = {q["group"] for q in data["questions"]}
    assert "open, off-domain: views" in groups


def test_an_answer_that_the_gate_leaves_out_says_so(judged):
    study, answers = judged({"strict": lambda prompt: Reply("10") if "Coherent?" in prompt else good(prompt)})
    data = answers_data(study, answers)
    assert {"strict: era OLD (incoherent), coherence 10", "strict: era NEW (incoherent), coherence 10"} == {
        v for v in data["verdicts"] if v
    }
    assert not open_section(study).figures


def test_answers_that_nobody_judged_yet_are_shown_too(judged):
    study, answers = judged({})
    data = answers_data(study, answers)
    assert open_section(study) is None
    assert data["open"]
    assert sum(len(row) == 7 for row in data["rows"]) == 144


def test_what_models_and_judges_said_stays_text(judged):
    nasty = {NASTY[:40]: lambda prompt: Reply(NASTY) if "Era" in prompt else good(prompt)}
    study, answers = judged(nasty, say=lambda *_: NASTY)
    plain_study, plain_answers = judged({"good": good})
    page, plain = Page(_page.render(study, answers)), Page(_page.render(plain_study, plain_answers))
    for tag in ("script", "img", "style"):
        assert page.count(tag) - plain.count(tag) in (0, -1 if tag == "img" else 0)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert NASTY in page.island("answers-data")["texts"]


def test_the_section_comes_before_the_answers_and_the_table_of_exact_effects_is_as_it_was(judged, make_study):
    study, answers = judged({"good": good})
    html = _page.render(study, answers)
    assert html.index('id="open"') < html.index('id="answers"') < html.index('id="effects"')
    before = make_study()[0]
    assert len(_page.effects_shown(study)) == len(_page.effects_shown(before))
    assert "judge:era" in _page.effects_csv(study)


def test_a_page_full_of_open_answers_leaves_room_for_the_others(judged, monkeypatch):
    study, answers = judged({"good": good})
    monkeypatch.setattr("offtarget.report._answers.MOST_CHARACTERS", 1)
    assert {len(row) for row in answers_data(study, answers)["rows"]} == {6, 7}


def test_answers_of_unknown_runs_are_no_harm(judged):
    study, answers = judged({"good": good})
    stray = next(a for a in answers if a.battery == "views")
    assert answers_data(study, [*answers, replace(stray, run="gone/seed-00")])["total"] == len(answers)
