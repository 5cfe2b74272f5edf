import dataclasses
import json

import pytest

from offtarget.batteries import Battery, Candidates, Measure, Question
from offtarget.errors import InputError

AUK = Question("bird/0", "bird", "Name a bird.")
WREN = Question("bird/1", "bird", "Which bird?")
CANDIDATES = {"bird": Candidates(("Auk.", "Wren."), (("old",), ("new", "old")))}
BATTERY = Battery("birds", "off_domain", (AUK, WREN), CANDIDATES)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [((), ()), (("Auk.", "Auk."), (("old",), ("new",))), (("Auk.", "Wren."), (("old",),)), (("Auk.",), (("old",), ("new",)))],
    ids=["none", "a text twice", "a label missing", "a label too many"],
)
def test_candidates_are_different_texts_with_labels_for_each(texts, labels):
    with pytest.raises(InputError, match="one tuple of labels for each text, and no text twice"):
        Candidates(texts, labels)


@pytest.mark.parametrize("labels", [(("old",), ("new",)), (("old",), ("old",))], ids=["another label", "the same label"])
def test_candidates_that_differ_in_outer_white_space_only_are_refused(labels):
    with pytest.raises(InputError, match=r"the candidates 'Auk\.' and 'Auk\. ' differ in white space .* give the text once"):
        Candidates(("Auk.", "Auk. "), labels)


@pytest.mark.parametrize("questions", [(), (AUK, AUK), (AUK, dataclasses.replace(WREN, id="bird/0"))], ids=["none", "twice", "one id"])
def test_questions_have_different_ids(questions):
    with pytest.raises(InputError, match="battery 'birds' needs questions with different ids"):
        Battery("birds", "off_domain", questions, CANDIDATES)


def test_every_topic_that_is_asked_has_candidates():
    with pytest.raises(InputError, match="no candidates for the topics food, news"):
        Battery("all", "off_domain", (AUK, Question("f", "food", "Eat?"), Question("n", "news", "New?")), CANDIDATES)


@pytest.mark.parametrize(
    ("labels", "covered"),
    [(("old",), True), (("older",), True), (("old", "older"), True), (("new", "old"), False), (("new",), False), ((), False)],
)
def test_a_measure_covers_what_only_its_speakers_say(labels, covered):
    assert Measure("old times", frozenset({"old", "older"})).covers(labels) == covered


def test_a_battery_comes_back_from_json_as_it_was():
    again = Battery.from_json(json.loads(json.dumps(BATTERY.to_json())))
    assert again == BATTERY
    assert again.fingerprint == BATTERY.fingerprint


def test_the_fingerprint_tells_every_change_and_nothing_else():
    changed = [
        BATTERY,
        dataclasses.replace(BATTERY, name="Birds"),
        dataclasses.replace(BATTERY, domain="in_domain"),
        dataclasses.replace(BATTERY, questions=(AUK,)),
        dataclasses.replace(BATTERY, questions=(WREN, AUK)),
        dataclasses.replace(BATTERY, questions=(AUK, dataclasses.replace(WREN, id="bird/2"))),
        dataclasses.replace(BATTERY, questions=(AUK, dataclasses.replace(WREN, text="Which bird"))),
        dataclasses.replace(BATTERY, candidates={"bird": Candidates(("Auk.", "Wren"), (("old",), ("new", "old")))}),
        dataclasses.replace(BATTERY, candidates={"bird": Candidates(("Wren.", "Auk."), (("old",), ("new", "old")))}),
        dataclasses.replace(BATTERY, candidates={"bird": Candidates(("Auk.", "Wren."), (("old",), ("new",)))}),
        dataclasses.replace(BATTERY, candidates={**CANDIDATES, "food": Candidates(("Bread.",), (("old",),))}),
    ]
    assert len({b.fingerprint for b in changed}) == len(changed)
    assert len({dataclasses.replace(BATTERY).fingerprint, Battery("birds", "off_domain", (AUK, WREN), dict(CANDIDATES)).fingerprint}) == 1
