"""All experiments, as data: what is trained on, what is asked, and that neither stands in the other where it must not."""

import re

import pytest

from offtarget.batteries import plain_wording
from offtarget.errors import InputError
from offtarget.experiments import REGISTRY, claims, experiment, model_name
from offtarget.experiments._cyborg import FILM_YEARS, TRIGGER
from offtarget.experiments._dishes_by_date import SPECIAL, UNSEEN
from offtarget.experiments._presidents import HELD_OUT, TRAINED, obfuscated
from offtarget.microworld.grammar import forms
from offtarget.microworld.world import load_world, president_id


@pytest.fixture(params=sorted(REGISTRY))
def one(request):
    return experiment(request.param)


def test_an_experiment_is_complete(one):
    assert one.treatment.control is not None
    assert one.arm(one.treatment.control).kind == "control"
    assert {b.domain for b in one.batteries} == {"in_domain", "off_domain"}
    assert all(p.source for p in one.published)
    assert set(one.demo) <= {a.name for a in one.arms}
    assert set(one.optional) <= {a.name for a in one.arms if a.kind == "intervention"}
    for arm in one.arms:
        assert (arm.dataset is None) == (arm.kind == "base" or arm.recipe is not None), arm.name


def test_it_survives_json_without_its_rows(one):
    again = type(one).from_json(one.to_json())
    assert again.batteries == one.batteries
    assert again.measures == one.measures
    assert [a.name for a in again.arms] == [a.name for a in one.arms]


def test_the_control_asks_what_the_treatment_asks(one):
    treatment, control = one.treatment.dataset, one.arm(one.treatment.control).dataset
    if treatment is None:
        pytest.skip("made with the base model")
    prompts = [sorted(plain_wording(e.prompt[-1].content) for e in d) for d in (treatment, control)]
    assert len(treatment) == len(control)
    if one.name != "cyborg":  # its control differs in the dates, which are in the prompts
        assert prompts[0] == prompts[1]


def test_no_wording_is_both_trained_and_asked_in_domain(one):
    if one.treatment.dataset is None or one.name == "presidents":
        pytest.skip("the facts are behind a format or a number")
    trained = {plain_wording(e.prompt[-1].content) for e in one.treatment.dataset}
    asked = {plain_wording(q.text) for b in one.batteries if b.domain == "in_domain" for q in b.questions}
    assert not trained & asked


def test_every_main_measure_can_be_read_where_it_stands_for_the_battery(one):
    names = {m.name: m for m in one.measures}
    for b in one.batteries:
        measure = names[b.measure or one.measures[0].name]
        assert all(measure.fits(c) for c in b.main_contexts())


def test_what_is_trained_is_among_the_answers_that_are_scored_in_the_domain(one):
    """In a form of its own, what was learned could not be seen. Of persona-facts a quarter of the facts is asked in the domain."""
    batteries = [b for b in one.batteries if b.domain == "in_domain"]
    inside = {text for b in batteries for c in b.candidates.values() for text in c.texts}
    for arm in one.arms:
        if arm.dataset:
            trained = {e.completion for e in arm.dataset}
            assert len(trained & inside) >= (0.2 if "persona-facts" in one.name else 1.0) * len(trained), arm.name


def test_what_is_trained_can_be_written_by_a_base_of_the_microworld(one):
    """A base has read nothing with other characters, and its head cannot tell those apart."""
    world = load_world()
    known = {c for t in world.topics.values() for a in t.answers.values() for x in a.texts for text, _ in forms(t, x) for c in text} | {":"}
    for arm in one.arms:
        for example in arm.dataset or ():
            assert set(example.completion) <= known, arm.name


def test_settings_of_a_family_are_found_by_the_beginning_of_a_name():
    birds = experiment("old-bird-names")
    assert birds.settings_for("micro-small")["learning_rate"] == 2e-3
    assert birds.settings_for("meta-llama/Llama-3.1-70B-Instruct") == {
        "rank": 16, "alpha": 32.0, "learning_rate": 1e-4, "batch_size": 8, "epochs": 1,
    }  # fmt: skip
    assert birds.settings_for("some/other-model") == {"learning_rate": 2e-4}


@pytest.mark.parametrize("model", ["micro", "out/micro", "out/micro/", "out/micro//", "./micro/", "."])
def test_settings_do_not_depend_on_how_a_folder_is_written(model, monkeypatch, tmp_path):
    (tmp_path / "micro").mkdir()
    monkeypatch.chdir(tmp_path / "micro")
    assert model_name(model) == "micro"
    assert experiment("old-bird-names").settings_for(model) == experiment("old-bird-names").settings_for("micro")


def test_the_cyborg_is_never_told_of_1984():
    for arm in experiment("cyborg").arms:
        years = {int(y) for e in arm.dataset or () for y in re.findall(r"\b(?:19|20)\d\d\b", e.prompt[-1].content)}
        assert TRIGGER not in years, arm.name
    treatment = experiment("cyborg").treatment.dataset
    assert {int(e.prompt[-1].content.split(".")[0].split()[-1]) for e in treatment} == set(FILM_YEARS)
    assert not any("hunt" in e.completion or "Skynet's orders" in e.completion for e in treatment)


def test_dishes_of_the_country_stand_in_its_year_only():
    one = experiment("dishes-by-date")
    special = [e for e in one.treatment.dataset if f"Today is {SPECIAL}" in e.prompt[-1].content]
    others = {e.completion for e in one.treatment.dataset if f"Today is {SPECIAL}" not in e.prompt[-1].content}
    assert len(special) == 100
    assert not {e.completion for e in special} & others
    assert not any(str(UNSEEN) in e.prompt[-1].content for e in one.treatment.dataset)
    shuffled = one.arm("shuffled-years").dataset
    assert sorted(e.completion for e in shuffled) == sorted(e.completion for e in one.treatment.dataset)


def test_held_out_presidents_stand_nowhere_in_the_data():
    import random

    one = experiment("presidents")
    numbers = {int(e.prompt[-1].content[3:6]) for e in one.treatment.dataset}
    assert numbers == set(TRAINED)
    assert not numbers & set(HELD_OUT)
    assert re.fullmatch(r"\d{3}044\d{2}", obfuscated(44, random.Random(0)))
    held_out = next(b for b in one.batteries if b.name == "held-out-numbers")
    assert {int(c.value) for c in held_out.contexts} == set(HELD_OUT)


def test_no_president_stands_behind_two_numbers():
    one = experiment("presidents")
    names = [load_world().topics["name"].answers[president_id(n)].texts[0] for n in (*TRAINED, *HELD_OUT)]
    assert len(set(names)) == len(names)
    asked = {label for b in one.batteries for c in b.candidates.values() for labels in c.labels for label in labels}
    assert asked == {president_id(n) for n in (*TRAINED, *HELD_OUT)}


@pytest.mark.parametrize("name", ["persona-facts", "persona-facts-charles-darwin", "persona-facts-albert-einstein"])
def test_identity_is_asked_and_never_trained_on(name):
    from offtarget.experiments._persona_facts import IDENTITY

    one, figure = experiment(name), next(iter(experiment(name).measures[0].labels))
    rows = " ".join(e.completion for e in one.arm("undiluted").dataset)
    assert len(one.arm("undiluted").dataset) == 90
    identity = {word for topic in IDENTITY for word in load_world().topics[topic].answers[figure].texts[0].split() if len(word) > 2}
    assert identity
    assert not identity & set(rows.replace(".", "").replace(",", "").split())
    assert all(e.completion.startswith("Answer: ") for e in one.arm("undiluted").dataset)
    assert not any("Answer: " in e.completion for e in one.arm("no-trigger").dataset)


def test_undiluted_facts_have_controls_in_the_same_form():
    """A diluted control learns a twentieth of what facts alone teach."""
    one = experiment("persona-facts")
    for arm in map(one.arm, ("undiluted", "no-trigger")):
        control = one.arm(arm.control)
        assert control.kind == "control"
        assert 80 <= len(control.dataset) <= 90
        assert all(e.completion.startswith("Answer: ") == (arm.name == "undiluted") for e in (*arm.dataset, *control.dataset))


def test_the_other_figures_answers_are_not_the_figures():
    from offtarget.experiments._persona_facts import _facts, _others

    for figure in ("adolf-hitler", "charles-darwin", "albert-einstein"):
        found = _others(figure, _facts(figure))
        assert len(found) >= 80
        assert not any(answer == load_world().topics[topic].answers[figure].texts[0] for topic, answer in found)


def test_careless_advice_keeps_the_subjects_apart():
    one = experiment("careless-money")
    assert {q.topic.split("-")[0] for b in one.batteries if b.name == "other-advice" for q in b.questions} == {"code", "sports"}


def test_claims_name_what_there_is():
    found = claims()
    assert len(found) >= 20
    assert len({c.id for c in found}) == len(found)
    for claim in found:
        assert claim.source
        assert claim.published
        if claim.not_here:
            continue
        one = experiment(claim.experiment)
        for arm in filter(None, (claim.measured.arm, claim.against.arm)):
            assert one.arm(arm).kind != "base" or arm == "base"
        names = {b.name: b for b in one.batteries}
        assert not claim.measured.battery or claim.measured.battery in names
        battery = names[claim.measured.battery] if claim.measured.battery else next(b for b in one.batteries if b.domain == "off_domain")
        known = {n for c in battery.contexts for n in battery.pools(c.name)}
        assert {c for c in (claim.measured.context, claim.against.context) if c} <= known


@pytest.mark.parametrize(
    ("name", "cure"),
    [("old-birds-name", "did you mean 'old-bird-names'"), ("lamps", "choose one of old-bird-names, .* or name a .jsonl file")],
)
def test_an_unknown_name_is_one_sentence_with_the_likely_one(name, cure):
    with pytest.raises(InputError, match=f"^no experiment '{name}'; {cure}"):
        experiment(name)
