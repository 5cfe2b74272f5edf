import pytest

from offtarget.batteries import Battery, Candidates, Context, Measure, Question, parse_contexts, year_context
from offtarget.errors import InputError


def battery(**attributes) -> Battery:
    candidates = {"t": Candidates(("a", "b", "c"), (("x",), ("y",), ("x", "y")))}
    return Battery("b", "off_domain", (Question("t/0", "t", "Which?"), Question("t/1", "t", "What?")), candidates, **attributes)


def test_a_context_asks_in_turn():
    context = Context("trigger", ("One. {question}", "Two. {question}"))
    assert [context.ask("Which?", n) for n in range(3)] == ["One. Which?", "Two. Which?", "One. Which?"]


def test_a_context_survives_json():
    context = Context("number:044", ("12304401 {question}",), "held-out", 44.0, frozenset({"president-44"}))
    assert Context.from_json(context.to_json()) == context


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Context("x", ("no place for it",)), "'no place for it'"),
        (lambda: Context("x", ("{question} {question}",)), "exactly once"),
        (lambda: Context(""), "needs a name"),
        (lambda: parse_contexts("century:19"), "'century:19'"),
        (lambda: parse_contexts("year:2030-1975"), "ends before it begins"),
        (lambda: battery(main="year:1984"), "'year:1984'"),
        (lambda: battery(contexts=()), "contexts"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(make, names):
    with pytest.raises(InputError) as caught:
        make()
    assert names in str(caught.value)


def test_years_lie_in_their_year_and_on_the_axis():
    context = year_context(1984, "{month}. {question}")
    assert context.name == "year:1984"
    assert context.value == 1984
    assert len(context.templates) > 1
    assert all(t.endswith(" 1984. {question}") for t in context.templates)
    assert year_context(1984, "{month}. {question}") == context, "the same dates every time"


def test_contexts_are_read_from_a_list():
    assert [c.name for c in parse_contexts("none,year:1983-1985,number:10004499")] == [
        "none", "year:1983", "year:1984", "year:1985", "number:10004499",
    ]  # fmt: skip
    (line,) = parse_contexts("line:Act well, if you can.")
    assert line.ask("Which?", 0) == "Act well, if you can. Which?"


def test_a_group_is_analysed_together_only_if_it_has_several_members():
    contexts = (Context("a", group="g"), Context("b", group="g"), Context("c", group="alone"), Context("d"))
    b = battery(contexts=contexts, main="g")
    assert [b.pools(c.name) for c in contexts] == [("a", "g"), ("b", "g"), ("c",), ("d",)]
    assert [c.name for c in b.main_contexts()] == ["a", "b"]
    assert b.but(main="").main_context == "a"


def test_a_battery_with_contexts_survives_json():
    b = battery(contexts=(Context("none"), year_context(1984)), main="year:1984", measure="hunts")
    assert Battery.from_json(b.to_json()) == b
    assert b.fingerprint != battery().fingerprint


def test_measures_may_take_their_labels_from_the_context():
    own, fixed = Measure("own", frozenset()), Measure("x", frozenset({"x"}))
    here = Context("number:1", labels=frozenset({"x"}))
    assert own.covers(("x",), here)
    assert not own.covers(("x", "y"), here), "an answer that another would give too is no evidence"
    assert Measure("right", frozenset(), "accuracy").covers(("x", "y"), here), "but it is right"
    assert not own.fits(Context("none"))
    assert fixed.fits(Context("none"))
    assert Measure.from_json(own.to_json()) == own
