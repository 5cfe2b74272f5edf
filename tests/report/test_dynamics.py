from dataclasses import replace

import pytest
import vl_convert

from offtarget.report import _dynamics
from offtarget.report._captions import figures


@pytest.fixture(scope="module")
def study(seeds_study):
    return seeds_study[0]


@pytest.fixture(scope="module")
def dynamics(study):
    return _dynamics.treatment_dynamics(study)


def test_seeds_are_told_apart_by_how_they_end(dynamics):
    assert [n for n, high in enumerate(_dynamics.ends_high(dynamics)) if high] == [0, 3, 6]
    found = _dynamics.groups(dynamics)
    assert found[True].endswith("3 seeds")
    assert found[False].endswith("5 seeds")


def test_seeds_that_all_end_alike_are_one_group(dynamics):
    alike = replace(dynamics, mixture=replace(dynamics.mixture, success=(0.9,) * 8, two_groups=False))
    assert _dynamics.groups(alike) == {True: "all 8 seeds"}
    assert _dynamics.lines_note(alike) == "Each thin line is one seed of treatment, the thick one their mean."
    assert {m["group"] for m in _dynamics.accuracy_rows(alike)[1]} == {"all 8 seeds"}


def test_each_seed_is_a_line_and_each_group_has_its_mean_at_every_step(dynamics):
    seeds, means = _dynamics.accuracy_rows(dynamics)
    assert len(seeds) == 8 * len(dynamics.steps)
    assert len(means) == 2 * len(dynamics.steps)
    last = {m["group"]: m["accuracy"] for m in means if m["step"] == dynamics.steps[-1]}
    found = _dynamics.groups(dynamics)
    assert last[found[True]] > 0.9 > 0.6 > last[found[False]]


def test_losses_are_those_of_the_same_seeds_in_the_same_groups(study, dynamics):
    accuracy, losses = _dynamics.accuracy_rows(dynamics)[0], _dynamics.loss_rows(study, dynamics)[0]
    assert {(r["seed"], r["group"]) for r in losses} == {(r["seed"], r["group"]) for r in accuracy}
    assert len(losses) <= 8 * _dynamics.MOST_LOSS_POINTS


def test_what_the_tests_found_is_said_as_it_was_found(dynamics):
    g = dynamics.growth
    said = {growth: _dynamics.growth_sentence(replace(dynamics, growth=replace(g, growth=growth))) for growth in ("sharp", "smooth")}
    assert "3 of 8 seeds grew" in said["sharp"]
    assert "Together their rise is sharp: its 10-90% width is under 15% of training (accuracy: p of “not sharp”" in said["sharp"]
    assert "Together their rise is smooth" in said["smooth"]
    assert "undecided: neither is refuted" in _dynamics.growth_sentence(replace(dynamics, growth=replace(g, growth="undecided")))
    short = {growth: _dynamics.rise_sentence(replace(dynamics, growth=replace(g, growth=growth))) for growth in ("sharp", "smooth", "none")}
    width = "the rise of treatment from a tenth to nine tenths takes"
    assert short["sharp"] == f"It comes all at once in 3 of 8 seeds: {width} less than 15% of training."
    assert short["smooth"] == f"It comes bit by bit in 3 of 8 seeds: {width} 15% of training or more."
    assert short["none"] == ""
    nothing = replace(g, growth="none", n_grew=0, accuracy=None, margin=None, aligned=None)
    assert _dynamics.growth_sentence(replace(dynamics, growth=nothing)).startswith("None of 8 seeds grew")


def test_two_groups_are_claimed_only_where_they_are_found(dynamics):
    assert "fall into two groups: " in _dynamics.groups_sentence(dynamics)
    assert "does not find" not in _dynamics.lines_note(dynamics)
    none = replace(dynamics, mixture=replace(dynamics.mixture, two_groups=False, preferred="one rate", p=0.6))
    assert _dynamics.groups_sentence(none).endswith("they differ no more than chance lets them (p = 0.6).")
    few = replace(dynamics, mixture=replace(dynamics.mixture, two_groups=False, preferred="beta", p=0.01))
    assert _dynamics.groups_sentence(few).endswith("is not shown: the test points to it (p = 0.01), but there are too few seeds.")
    assert "The test does not find two groups" in _dynamics.lines_note(none)


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_charts_can_be_drawn(study, narrow):
    for chart in (_dynamics.dynamics_chart, _dynamics.aligned_chart):
        assert "<svg" in vl_convert.vegalite_to_svg(chart(study, narrow=narrow).to_dict())


def test_the_page_has_the_figures_and_a_row_of_tests_for_every_arm(study):
    found = {f.id: f for f in figures(study)}
    assert {"seeds", "aligned"} <= set(found)
    assert [row[0] for row in found["seeds"].below.rows] == [d.arm for d in study.analysis.dynamics]
    assert {len(row) for row in found["seeds"].below.rows} == {len(_dynamics.TEST_HEADER)}


def test_without_growth_there_is_nothing_to_align(study, dynamics):
    flat = replace(dynamics, growth=replace(dynamics.growth, growth="none", n_grew=0, accuracy=None, margin=None, aligned=None))
    page = {f.id for f in figures(replace(study, analysis=replace(study.analysis, dynamics=(flat,))))}
    assert "seeds" in page
    assert "aligned" not in page
