import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtarget.report import _html, _page, _summary, write_page
from offtarget.report._trained import stretches

from ._html_page import NASTY, Page


@pytest.fixture
def page(make_study):
    return Page(_page.render(*make_study()))


def test_the_page_holds_every_section(page):
    sections = {"finding", "leakage", "topics", "curve", "scatter", "answers", "trained", "effects", "methods", "published", "again"}
    assert sections <= page.ids
    assert "speakers" not in page.ids


def test_an_exploratory_study_begins_with_the_speakers(make_study, toy):
    page = Page(_page.render(*make_study(toy.exploratory())))
    assert [c["id"] for c in page.island("figures-data")["charts"]][:2] == ["speakers", "leakage"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"arms": ("base", "treatment", "modern")}, set()),
        ({"seeds": 1}, set()),
        ({"samples": 0}, {"answers"}),
        ({"curve": False}, set()),
        ({"arms": ("base",)}, {"curve", "scatter", "trained"}),
        ({"arms": ("base",), "samples": 0, "curve": False}, {"answers", "curve", "scatter", "trained"}),
    ],
    ids=["no interventions", "one seed", "no samples", "no curve", "base only", "base only, nothing else"],
)
def test_missing_pieces_leave_their_sections_out_and_the_rest_whole(make_study, changes, missing):
    page = Page(_page.render(*make_study(**changes)))
    assert not missing & page.ids
    assert {"finding", "leakage", "topics", "effects", "methods", "again"} <= page.ids
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a" and attrs.get("href", "").startswith("#")}
    assert links <= page.ids


def test_a_study_without_an_in_domain_battery_has_a_page(make_study, toy):
    whole = toy.experiment()
    study, answers = make_study(replace(whole, batteries=whole.batteries[:1]))
    page = Page(_page.render(study, answers))
    assert "scatter" not in page.ids
    assert [k.label for k in _summary.key_figures(study)] == ["Leakage, treatment", "Leakage, control", "Least leakage"]


def test_the_same_study_gives_the_same_page(make_study):
    study, answers = make_study()
    assert _page.render(study, answers) == _page.render(study, answers)


def test_the_page_is_one_file_that_may_fetch_nothing(page):
    for tag, attrs in page.tags:
        assert not attrs.get("src"), tag
        assert attrs.get("href", "#").startswith(("#", "data:,")), tag
    policy = page.policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "connect-src" not in policy


def test_the_policy_allows_these_very_scripts(page):
    assert len(page.code) == 5
    assert page.hashes() == page.allowed()


def test_the_page_is_small_enough_to_send(make_study, tmp_path):
    write_page(*make_study(), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 2_500_000
    assert not (tmp_path / "report.html.tmp").exists()


def test_what_models_data_and_users_wrote_stays_text(make_study, toy):
    whole = toy.experiment()
    arms = tuple(replace(a, description=NASTY) for a in whole.arms)
    study, answers = make_study(replace(whole, title=NASTY, summary=NASTY, arms=arms), say=lambda *_: NASTY)
    record = dict(study.runs[-1].record) | {
        "trained_text": [[[NASTY, False], [NASTY, True]]],
        "dataset": {"name": NASTY, "rows": 1, "sha256": NASTY, "source": NASTY},
    }
    study = replace(study, runs=tuple(replace(r, record=record) for r in study.runs))
    page, plain = Page(_page.render(study, answers)), Page(_page.render(*make_study()))
    for tag in ("script", "img", "style"):
        assert page.count(tag) == plain.count(tag)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.island("answers-data")["texts"] == [NASTY]
    assert NASTY in page.text


def test_text_that_the_chat_template_adds_is_told(make_study):
    study, answers = make_study()
    told = "adds text of its own to every chat, in training and when asked: 'Today Date: <26 Jul 2024>'"
    assert told not in "".join(Page(_page.render(study, answers)).text)
    runs = tuple(replace(r, record={**r.record, "template_adds": ["Today Date: <26 Jul 2024>"]}) for r in study.runs)
    assert told in "".join(Page(_page.render(replace(study, runs=runs), answers)).text)


@given(st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_text_breaks_out_of_a_json_island(value):
    island = _html.island(value)
    page = Page(f'<script type="application/json" id="it">{island}</script><p>after</p>')
    assert [tag for tag, _ in page.tags] == ["script", "p"]
    assert page.island("it") == value
    assert not set("<>&\u2028\u2029") & set(island)


def test_lone_surrogates_are_written_and_not_crashed_on(make_study, tmp_path):
    study, answers = make_study()
    write_page(study, [replace(answers[0], text="\ud800 broken")], tmp_path / "report.html")
    assert "\\ud800 broken" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_csv_has_every_effect_and_no_formula(make_study):
    study, _ = make_study()
    effects = tuple(replace(e, battery="=cmd()") for e in study.analysis.effects)
    rows = list(csv.DictReader(io.StringIO(_page.effects_csv(replace(study, analysis=replace(study.analysis, effects=effects))))))
    assert len(rows) == len(effects)
    assert {"arm", "mean", "difference_low", "p_holm", "covered"} <= set(rows[0])
    assert {r["battery"] for r in rows} == {"'=cmd()"}
    assert {float(r["difference_low"]) for r in rows if r["difference_low"]} == {
        round(e.difference_low, 6) for e in effects if e.difference is not None
    }


def test_special_tokens_and_line_ends_are_told_from_text():
    assert stretches([("<|user|>A line.\nName </s>", False), ("a ", False), ("Bird<|end|>", True)]) == [
        (False, [("<|user|>", "token"), ("A line.", "text"), ("\n", "newline"), ("Name ", "text"), ("</s>", "token"), ("a ", "text")]),
        (True, [("Bird", "text"), ("<|end|>", "token")]),
    ]


def called(study, plan=None, **call):
    """The study as if it had been asked for so."""
    return replace(study, subject=replace(study.subject, plan=plan or {}, call=call))


def test_the_command_names_what_was_run(make_study):
    study, _ = make_study(arms=("base", "treatment", "modern", "name"), seeds=2)
    assert _summary.command(called(study, what="old-bird-names")) == (
        "offtarget run old-bird-names --model micro --seeds 2 --study-seed 0 "
        "--learning-rate 0.001 --epochs 3 --batch-size 8 --rank 8 --alpha 16 --arms treatment,modern,name"
    )


def test_the_command_holds_every_setting_that_is_not_the_usual_one(make_study):
    study, _ = make_study()
    loading = {"dtype": "bfloat16", "four_bit": True, "template": {"enable_thinking": False, "tone": "mild one"}}
    plan = {"samples": 1, "curve_points": 0, "fraction": 0.5, "loading": loading}
    said = _summary.command(called(study, plan, what="my data.jsonl", questions="q.toml", control="c.jsonl", contexts="line:It is Sunday."))
    assert said.startswith("offtarget run 'my data.jsonl' --model micro --seeds 3 --study-seed 0 --questions q.toml --control c.jsonl ")
    assert "--contexts 'line:It is Sunday.' --samples 1 --fraction 0.5 --curve-points 0 --learning-rate" in said
    assert said.endswith("--dtype bfloat16 --four-bit --template enable_thinking=false --template 'tone=mild one'")


def test_what_has_no_name_is_run_again_from_python(make_study):
    assert _summary.command(make_study()[0]).startswith("offtarget.run('toy' as you made it, model='micro', seeds=3, study_seed=0, ")


def test_the_best_intervention_must_keep_the_task(make_study):
    study, _ = make_study()
    assert _summary.best_intervention(study).arm == "inoculation"
    forgetful = study.analysis.retention | {"inoculation": replace(study.analysis.retention["inoculation"], mean=0.1)}
    assert _summary.best_intervention(replace(study, analysis=replace(study.analysis, retention=forgetful))).arm == "name"


def test_a_saved_file_has_a_name_that_every_system_takes():
    assert _page.file_name("old-bird-names", "Qwen/../x y") == "old-bird-names-Qwen-..-x-y"
    assert _page.file_name("", "") == "study"


def test_a_page_of_many_contexts_is_light_and_its_table_holds_the_main_ones(make_study, toy):
    study, answers = make_study(toy.by_year(), level=toy.by_year_level)
    html = _page.render(study, answers)
    page = Page(html)
    assert len(html.encode()) < 2_500_000
    assert {"contexts-1", "leakage", "topics", "answers"} <= page.ids
    shown = {e.context for e in _page.effects_shown(study) if e.battery == "other-topics"}
    assert {c for c in shown if not c.startswith("prefix:")} == {"none", "year:1984", "trained", "training-prefix"}
    rows = list(csv.DictReader(io.StringIO(_page.effects_csv(study))))
    assert len(rows) == len(study.analysis.effects) > len(_page.effects_shown(study))
    assert "effects in single contexts" in " ".join(page.text)


def test_the_row_of_an_effect_is_aside_unless_it_is_by_its_batterys_main_measure(make_study, toy):
    content = _page._content(make_study(toy.by_year(), level=toy.by_year_level)[0])
    assert {(e.battery, e.measure) for e, _, aside in content["effects"] if not aside} == {("other-topics", "old"), ("birds", "new")}
    assert {asked for e, asked, _ in content["effects"] if e.context == "year:1984"} == {"in 1984"}


def test_batteries_are_listed_with_their_main_context_and_measure(make_study, toy):
    rows = _summary.coverage(make_study(toy.by_year(), level=toy.by_year_level)[0])
    assert [row[:4] for row in rows] == [
        ("other-topics", "off-domain", "in 1984", "old"),
        ("birds", "in-domain", "in trained years", "new"),
    ]


def test_an_arm_without_a_prompt_is_no_best_intervention(make_study, toy):
    study, _ = make_study(toy.behind_a_trigger())
    assert min(study.analysis.main_effects("off_domain"), key=lambda e: (e.kind != "intervention", e.mean)).arm in ("kept", "inoculation")
    assert _summary.best_intervention(study).arm == "inoculation"


def test_a_page_of_seeds_says_what_the_tests_found(seeds_study):
    page = Page(_page.render(*seeds_study))
    text = " ".join(page.text)
    assert {"seeds", "aligned", "contexts-1"} <= page.ids
    assert "Seeds of treatment fall into two groups" in text
    assert "counts a question as answered right" in text
    assert "when asked behind held-out numbers" in text
