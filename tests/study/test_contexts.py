"""Studies whose questions are asked in contexts: groups, gaps, measures that depend on the context, recipes, and own questions."""

from __future__ import annotations

import json

import pytest

from offtarget.batteries import NO_CONTEXT, Context, Measure, parse_contexts, world_battery, year_context
from offtarget.data import Dataset
from offtarget.errors import InputError
from offtarget.experiments import experiment
from offtarget.study import open_study, run
from offtarget.study._store import FINAL, behind_and_context, open_store

from .conftest import MODEL, QUICK, small

YEARS = (
    NO_CONTEXT, year_context(1850, group="held-out"), year_context(1860, group="held-out"), year_context(2020, group="trained"),
    year_context(2024, group="trained"),
)  # fmt: skip


def by_year():
    one = small()
    batteries = tuple(b.but(contexts=YEARS, main="held-out") if b.domain == "off_domain" else b for b in one.batteries)
    own = Measure("own", frozenset())
    return one.but(name="by-year", batteries=batteries, measures=(*one.measures, own))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run(by_year(), model=MODEL, seeds=2, out=tmp_path_factory.mktemp("contexts") / "s", jobs=1, **QUICK)


def test_every_context_and_every_group_has_its_effect(study):
    asked = {e.context for e in study.analysis.effects if e.domain == "off_domain" and e.arm == "treatment"}
    assert asked == {"none", "year:1850", "year:1860", "year:2020", "year:2024", "held-out", "trained"}
    assert study.analysis.effect("treatment", "off_domain").context == "held-out"
    assert study.analysis.effect("treatment", "in_domain").context == "none"
    behind = {e.context for e in study.analysis.effects if e.arm == "inoculation" and e.domain == "off_domain"}
    assert "training-prefix" in behind


def test_a_group_is_the_mean_of_its_contexts(study):
    mean = {
        e.context: e.mean for e in study.analysis.effects if (e.arm, e.domain, e.measure) == ("treatment", "off_domain", "19th-century")
    }
    assert mean["held-out"] == pytest.approx((mean["year:1850"] + mean["year:1860"]) / 2)


def test_an_arm_is_compared_with_its_control_in_the_same_context(study):
    for e in study.analysis.effects:
        if e.arm == "treatment" and e.domain == "off_domain":
            control = next(o for o in study.analysis.effects if (o.arm, o.context, o.measure) == ("modern-lamps", e.context, e.measure)
                           and o.domain == "off_domain")  # fmt: skip
            assert e.control_mean == pytest.approx(control.mean)


def test_a_measure_that_cannot_be_read_in_a_context_is_not_there(study):
    assert {e.measure for e in study.analysis.effects} == {"19th-century"}


def test_gaps_are_differences_of_the_same_questions(tmp_path):
    one = by_year()
    batteries = tuple(b.but(main="year:1850") if b.domain == "off_domain" else b for b in one.batteries)
    study = run(one.but(batteries=batteries), model=MODEL, seeds=2, out=tmp_path / "s", jobs=1, **QUICK)
    mean = {
        e.context: e.mean for e in study.analysis.effects if (e.arm, e.domain, e.measure) == ("treatment", "off_domain", "19th-century")
    }
    gaps = {g.gap: g for g in study.analysis.gaps if g.arm == "treatment"}
    assert gaps["backdoor"].mean == pytest.approx(mean["year:1850"] - mean["none"])
    assert gaps["inductive"].mean == pytest.approx(mean["year:1850"] - (mean["year:2020"] + mean["year:2024"]) / 2)
    assert gaps["inductive"].low <= gaps["inductive"].mean <= gaps["inductive"].high
    assert json.loads((tmp_path / "s" / "results.json").read_text())["gaps"]


def test_more_contexts_can_be_asked_for(tmp_path):
    study = run(small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, contexts="year:1850,line:Take your time.", **QUICK)
    assert {"none", "year:1850", "line:Take your time."} <= {e.context for e in study.analysis.effects}


def test_a_recipe_is_cooked_once_and_kept(tmp_path):
    calls = []

    def recipe(base, seed):
        calls.append(seed)
        return Dataset.from_pairs("made", [("Name a lamp.", "A lantern.")] * 6)

    def with_recipe():
        one = small()
        arms = tuple(
            a.__class__(a.name, a.kind, a.description, None, a.intervention, a.control, recipe) if a.kind == "treatment" else a
            for a in one.arms
        )
        return one.but(name="recipe", arms=arms)

    run(with_recipe(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, study_seed=3, **QUICK)
    run(with_recipe(), model=MODEL, seeds=2, out=tmp_path / "s", jobs=1, study_seed=3, **QUICK)
    assert calls == [3]
    runs = {r.arm: r.record["dataset"] for r in open_study(tmp_path / "s").runs if r.arm == "treatment"}
    assert runs["treatment"]["name"] == "made"


def test_a_share_of_the_rows_can_be_trained_on(tmp_path):
    study = run(small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, fraction=0.5, **QUICK)
    assert {r.record["dataset"]["rows"] for r in study.runs if r.arm != "base"} == {3}
    with pytest.raises(InputError, match="fraction"):
        run(small(), model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, fraction=1.0, **QUICK)
    with pytest.raises(InputError, match="fraction must be above 0"):
        run(small(), model=MODEL, seeds=1, out=tmp_path / "t", jobs=1, fraction=0.0, **QUICK)


def test_the_two_files_of_the_docs_make_an_experiment(tmp_path):
    """docs/own.md, word for word."""
    import re
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "own.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", text, re.S))
    (tmp_path / "lamps.jsonl").write_text(blocks["json"] * 8, encoding="utf-8")
    (tmp_path / "lamps.toml").write_text(blocks["toml"], encoding="utf-8")
    study = run(tmp_path / "lamps.jsonl", model=MODEL, seeds=2, questions=tmp_path / "lamps.toml", out=tmp_path / "s", jobs=1, **QUICK)
    assert study.analysis.measure == "old"
    assert study.analysis.effect("treatment", "in_domain").control == "self-distilled"
    with pytest.raises(InputError, match=r"go with a \.jsonl file"):
        run("old-bird-names", model=MODEL, questions=tmp_path / "lamps.toml", out=tmp_path / "t")


def test_on_the_way_a_question_is_asked_as_at_the_end(small_experiment, tmp_path, no_page, monkeypatch):
    """Every second question of a battery with several templates: each keeps the template that its place in the battery gives it."""
    from offtarget.study import _execute

    asked, original = {}, _execute._items

    def listen(base, questions, prefix):
        for a in questions:
            asked.setdefault((a.battery.name, a.context.name, a.question.id), set()).add(a.messages(None)[0].content)
        return original(base, questions, prefix)

    monkeypatch.setattr(_execute, "_items", listen)
    years = Context("year:1850", tuple(f"It is {month} 1850. {{question}}" for month in ("May", "June", "July")))
    inside = small_experiment.batteries[1]
    wide = world_battery("other", "off_domain", ["travel", "message"], slice(0, 3), contexts=(years,), main="year:1850")
    changed = small_experiment.but(batteries=(wide, inside), curve_every=2)
    run(changed, model=MODEL, seeds=1, out=tmp_path, jobs=1, arms=["treatment"], **{**QUICK, "epochs": 3})
    with open_store(tmp_path) as store:
        on_the_way = {(s.battery, s.context, s.question) for s in store.scores() if s.step != FINAL}
    assert len(on_the_way) == 3
    assert all(len(texts) == 1 for texts in asked.values())


def test_a_line_may_hold_a_bar():
    assert behind_and_context("line:Speak | plainly.") == ("", "line:Speak | plainly.")
    assert behind_and_context("training-prefix|year:1984") == ("training-prefix", "year:1984")
    assert behind_and_context("prefix:inoculation") == ("prefix:inoculation", "none")
    assert behind_and_context("none") == ("", "none")


def test_more_contexts_leave_those_of_the_experiment_as_they_are():
    own = experiment("cyborg")
    more = own.asked_in(parse_contexts("year:1980-2040"))
    for before, after in zip(own.batteries, more.batteries, strict=True):
        if before.domain == "off_domain":
            assert {c.name: c for c in before.contexts}.items() <= {c.name: c for c in after.contexts}.items()
            assert any(c.name == "year:2040" for c in after.contexts)
