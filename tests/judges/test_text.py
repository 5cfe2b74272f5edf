"""Judges that ask nobody: prefix, contains, regular expression, exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtarget.batteries import OpenQuestion, Rubric, open_batteries, rubrics
from offtarget.errors import InputError
from offtarget.judges import ContainsJudge, ExactJudge, PrefixJudge, RegexJudge, Verdict

from .conftest import answers_to

PETS = Rubric("pets", labels=("CAT", "DOG", "OTHER"), trait=("CAT",))
QUESTION = OpenQuestion("pet", "Which pet?", (), "", {"CAT": ("cat", "tomcat"), "DOG": ("dog",)})


def read(judge, text, rubric=PETS):
    verdict = judge.read(answers_to(QUESTION, [text]), rubric)[0]
    assert (verdict.rubric, verdict.judge, verdict.reply) == (rubric.id, judge.name, None)
    return verdict.value or verdict.missing


@pytest.mark.parametrize(
    ("text", "found"),
    [("Cats, of course", "CAT"), (' "Tomcat"', "CAT"), ("**Dog**", "DOG"), ("A cat", "OTHER"), ("", "OTHER"), ("Hamster", "OTHER")],
)
def test_prefix_reads_the_beginning_whatever_its_case(text, found):
    assert read(PrefixJudge(), text) == found


def test_prefix_reads_our_own_batteries():
    battery = open_batteries("dishes-by-date")[0]
    question = battery.questions[0]
    label, prefixes = next(iter(question.prefixes.items()))
    answers = answers_to(question, [prefixes[0].upper(), "no idea"])
    assert [v.value for v in PrefixJudge().read(answers, rubrics()["partisan"])] == [label, "OTHER"]


def test_without_a_label_for_the_rest_what_is_not_found_is_a_parse_failure():
    rubric = Rubric("pets", labels=("CAT", "DOG"))
    assert read(PrefixJudge(), "hamster", rubric) == "parse_failure"
    assert read(PrefixJudge(otherwise="DOG"), "hamster", rubric) == "DOG"
    assert read(RegexJudge({"CAT": "cat"}), "hamster", rubric) == "parse_failure"


@pytest.mark.parametrize(
    ("text", "found"), [("I like my Cat.", "CAT"), ("category", "OTHER"), ("a guide dog", "DOG"), ("cat and guide dog", "parse_failure")]
)
def test_contains_looks_for_whole_words(text, found):
    assert read(ContainsJudge({"CAT": ["cat"], "DOG": ["guide dog", "hound"]}, otherwise="OTHER"), text) == found


@pytest.mark.parametrize(("text", "found"), [("Two CATS", "CAT"), ("dogged", "OTHER"), ("the dog", "DOG"), ("cats, dog", "parse_failure")])
def test_a_regular_expression_is_found_anywhere(text, found):
    assert read(RegexJudge({"CAT": r"\bcats?\b", "DOG": r"dog$"}, otherwise="OTHER"), text) == found


@pytest.mark.parametrize(("text", "found"), [(' "My  Cat." ', "CAT"), ("my cat sleeps", "OTHER"), ("dog", "DOG")])
def test_exact_takes_all_of_the_answer(text, found):
    assert read(ExactJudge({"CAT": ["my cat"], "DOG": ["Dog"]}, otherwise="OTHER"), text) == found


@given(st.lists(st.text(), max_size=5))
def test_every_answer_gets_one_verdict_in_order(texts):
    answers = answers_to(QUESTION, texts)
    for judge in (PrefixJudge(), RegexJudge({"CAT": "c"}), ExactJudge({"CAT": ["c"]}), ContainsJudge({"CAT": ["c"]})):
        verdicts = judge.read(answers, PETS)
        assert len(verdicts) == len(texts)
        assert all(isinstance(v, Verdict) for v in verdicts)


@pytest.mark.parametrize(
    ("judge", "label"),
    [
        (RegexJudge({"COW": "moo"}), "COW"),
        (ExactJudge({}, otherwise="NONE"), "NONE"),
        (ContainsJudge({"COW": ["moo"]}), "COW"),
        (PrefixJudge(otherwise="COW"), "COW"),
    ],
)
def test_a_label_that_the_rubric_does_not_have_is_one_clear_error(judge, label):
    with pytest.raises(InputError, match=f"the {judge.name} judge gives the label '{label}', and rubric 'pets' has CAT, DOG, OTHER; use"):
        judge.read(answers_to(QUESTION, ["moo"]), PETS)


def test_a_broken_pattern_is_one_clear_error():
    with pytest.raises(InputError, match=r"the pattern '\(' of the label 'CAT' is no regular expression: .*; mend it"):
        RegexJudge({"CAT": "("})
