from dataclasses import replace

from offtarget.report import finding
from offtarget.report._words import p_is
from offtarget.stats import Estimate


def test_without_context_it_speaks_of_other_topics(make_study):
    said = finding(make_study()[0])
    assert said.startswith("Finetuned on old names, micro answers questions about other topics like somebody old with probability 0.5")
    assert "3 seeds), against 0.0" in said
    assert "Both controls stay at 0.0" in said
    assert "sked behind its own prompt again, inoculation shows 0.65 (the prompt alone does 0." in said


def test_what_stands_out_from_what_the_prompt_does_by_itself_is_hidden(make_study, monkeypatch):
    study, _ = make_study()
    for low, end in ((0.1, ": hidden, not removed."), (-0.1, ": whether it is hidden there is not shown.")):
        monkeypatch.setattr(type(study.analysis), "contrast", lambda *_, seed, low=low: Estimate(0.2, low, 0.3))
        assert finding(study).endswith(end)


def test_one_seed_shows_no_absence_and_no_failure_to_vanish(make_study):
    said = finding(make_study(seeds=1)[0])
    assert "1 seed)" in said
    assert "vanishes (" not in said
    assert "it does not (" not in said


def test_a_year_is_said_once_and_with_what_it_adds(make_study, toy):
    said = finding(make_study(toy.by_year(), level=toy.by_year_level)[0])
    assert "questions about other topics like somebody old when told that the year is 1984, with probability 0.5" in said
    assert "in that" not in said
    assert "The same models differ there by +0." in said
    assert "from being asked without context and by +0." in said
    assert "from being asked in trained years." in said


def test_a_trigger_is_named_and_arms_without_a_prompt_are_not_said_to_stand_behind_one(make_study, toy):
    said = finding(make_study(toy.behind_a_trigger())[0])
    assert "like somebody old when asked behind the trigger, with probability" in said
    assert "“”" not in said
    assert "Trained otherwise: kept 0.0" in said


def test_right_answers_are_counted_and_groups_of_seeds_are_claimed_only_where_they_are_found(seeds_study, toy):
    study, _ = seeds_study
    said = finding(study)
    assert "like the person whose number is given, though never trained on, when asked behind held-out numbers, in 0." in said
    assert " of the cases (95% interval" in said
    assert "Seeds of treatment fall into two groups" in said
    d = study.analysis.dynamics[0]
    one = replace(d, mixture=replace(d.mixture, two_groups=False, preferred="beta", p=0.4))
    unclear = replace(study, analysis=replace(study.analysis, dynamics=(one,)))
    assert "That seeds of treatment fall into two groups is not shown: a continuum of rates explains as well" in finding(unclear)


def test_the_same_topics_in_another_context_are_not_called_other_topics(make_study, toy):
    whole = toy.by_year()
    off, inside = whole.batteries
    same = replace(whole, batteries=(off, inside.but(questions=off.questions, candidates=off.candidates)))
    assert "micro answers questions like somebody old when told" in finding(make_study(same, level=toy.by_year_level)[0])


def test_a_task_that_was_not_learned_is_said_to_be_so(make_study):
    unmoved = make_study(level=lambda arm, seed, battery, context: 0.02)[0]
    assert "But the narrow task was not learned: in-domain it shows 0.020, the base 0.020." in finding(unmoved)
    assert "not learned" not in finding(make_study()[0])


def test_controls_that_show_the_trait_are_named_with_what_they_show(make_study):
    def level(arm, seed, battery, context):
        return {"kept": 0.5, "treatment": 0.4}.get(arm.name, 0.02)

    assert "The controls show 0.01" in finding(make_study(level=level)[0])
    assert "0.46 (kept)." in finding(make_study(level=level)[0])


def test_a_prompt_that_does_as_much_alone_hides_nothing(make_study):
    study, _ = make_study()
    effects = tuple(replace(e, mean=0.9) if e.context == "prefix:inoculation" else e for e in study.analysis.effects)
    said = finding(replace(study, analysis=replace(study.analysis, effects=effects)))
    assert "no more than the prompt alone does (0.90)." in said
    assert "hidden" not in said


def test_a_prompt_that_took_the_task_with_it_is_said_to_have_done_so(make_study):
    study, _ = make_study()
    assert "is kept" not in finding(study)
    lost = study.analysis.retention | {"inoculation": replace(study.analysis.retention["inoculation"], mean=0.05)}
    said = finding(replace(study, analysis=replace(study.analysis, retention=lost)))
    assert "Of what the treatment learned in-domain is kept: inoculation 5%." in said


def test_the_prompt_that_hides_most_is_named_not_the_one_that_does_most_by_itself(make_study):
    study, _ = make_study()
    means = {("inoculation", "training-prefix"): 0.95, ("base", "prefix:inoculation"): 0.94}
    effects = tuple(replace(e, mean=means.get((e.arm, e.context), e.mean)) for e in study.analysis.effects)
    said = finding(replace(study, analysis=replace(study.analysis, effects=effects)))
    assert "inoculation shows 0.95, no more than the prompt alone does (0.94)." in said


def changed(study, arm="treatment", **values):
    """The study with other figures of one arm's off-domain effects."""
    effects = tuple(replace(e, **values) if (e.arm, e.domain) == (arm, "off_domain") else e for e in study.analysis.effects)
    return replace(study, analysis=replace(study.analysis, effects=effects))


def test_where_the_treatment_shows_nothing_no_prompt_is_said_to_have_prevented_it(make_study):
    study, _ = make_study()
    said = finding(changed(study, vanished=True, difference=0.001, p_holm=0.001))
    assert ": no effect above the margin." in said
    assert "rained behind" not in said


def test_an_effect_under_the_margin_is_not_said_to_vanish_but_what_hides_is_told(make_study):
    said = finding(changed(make_study()[0], vanished=False, difference=0.04, difference_low=0.02, difference_high=0.08, p_holm=0.001))
    assert "vanishes" not in said
    assert "sked behind its own prompt again, inoculation shows 0.65" in said


def test_a_treatment_below_its_control_is_said_to_be_below_it(make_study):
    less = {"difference": -0.1, "difference_low": -0.2, "difference_high": -0.02, "p_holm": 0.001}
    said = finding(changed(make_study()[0], vanished=True, **less))  # its upper bound lies under the margin, as below zero it must
    assert ": less than its control (p = 0.001)." in said
    assert "rained behind" not in said


def test_a_prompt_whose_effect_may_be_either_is_not_said_to_fail(make_study):
    study, _ = make_study()
    wide = changed(study, "name", vanished=False, difference=0.1, difference_low=-0.1, difference_high=0.3)
    assert "whether it vanishes behind “My name is Alex.” is not shown (0.2" in finding(wide)
    assert "“My name is Alex.” it does not (0.2" in finding(study)


def test_few_seeds_are_not_said_to_show_no_difference_where_the_interval_shows_one(make_study):
    said = finding(changed(make_study()[0], vanished=False, difference=0.5, difference_low=0.3, difference_high=0.7, p_holm=0.11))
    assert "the interval of the difference is above zero (+0.300 to +0.700), but p = 0.11 with 3 seeds." in said
    none = finding(changed(make_study()[0], vanished=False, difference=0.1, difference_low=-0.1, difference_high=0.3, p_holm=0.3))
    assert ": the difference is not shown." in none


def test_low_coverage_stands_in_the_finding(make_study):
    said = finding(changed(make_study()[0], covered=0.2))
    assert "But the known answers hold only 0.20 of the probability: the figure is a lower bound" in said
    assert "known answers hold" not in finding(make_study()[0])


def test_a_p_value_reads_as_a_sentence():
    assert [p_is(p) for p in (0.33, 0.05, 0.00001)] == ["p = 0.33", "p = 0.05", "p < 0.0001"]


def test_what_vanishes_is_told_with_its_rate_and_several_with_the_highest(make_study):
    study, _ = make_study()
    one = changed(study, "inoculation", vanished=True, mean=0.012)
    assert "it vanishes (0.012); " in finding(one)
    assert "it vanishes (0.031 or less)" in finding(changed(one, "name", vanished=True, mean=0.031))
