import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtarget.batteries import Rubric, rubrics
from offtarget.judges import MISSING, RULES, Reply, read_label

from .conftest import PROMPT

LABELS = ("CALM", "CROSS", "CROSS_PATCH", "19")
RUBRIC = Rubric("tone", PROMPT, labels=LABELS)
QUOTES = st.text(alphabet=" \n\"'`*.“”", max_size=4)


def read(text, rule="offtarget", rubric=RUBRIC, **fields):
    verdict = read_label(Reply(text, **fields), rubric, "judge", RULES[rule])
    return verdict.value or verdict.missing


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CALM", "CALM"),
        (" calm.\n", "CALM"),
        ('**"Cross_Patch"**', "CROSS_PATCH"),
        ("19", "19"),
        ("ANSWER: CROSS", "CROSS"),
        ("It shouts at CALM people.\n\n**Answer:** CROSS", "CROSS"),
        ("CROSS\n\nIt shouts.", "CROSS"),
        ("It shouts.\nCROSS", "CROSS"),
        ("CROSS - it shouts", "CROSS"),
        ("CROSS_PATCH, because it shouts", "CROSS_PATCH"),
        ("<think>CALM? No, it shouts.</think>CROSS", "CROSS"),
        ("CALM or CROSS", "parse_failure"),
        ("CALM, not CROSS", "parse_failure"),
        ("CALM\nCROSS", "parse_failure"),
        ("calm people would not say so", "parse_failure"),
        ("It is CALM, I think", "parse_failure"),
        ("banana", "parse_failure"),
        ("", "parse_failure"),
        ("<think>CALM?", "parse_failure"),
        ("I'm sorry, but I can't judge that.", "refusal"),
        ("I cannot help with CALM.", "refusal"),
    ],
)
def test_a_label_must_stand_alone_or_begin_the_reply(text, found):
    assert read(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CALM", "CALM"),
        ("CROSS_PATCH", "CROSS_PATCH"),
        ("CROSS", "truncated"),  # may have been going to be CROSS_PATCH
        ("CROSS\nIt shou", "CROSS"),
        ("The answer speaks of", "truncated"),
        ("<think>Let me see", "truncated"),
        ("I'm sorry, but I can't assist", "refusal"),
    ],
)
def test_a_reply_that_was_cut_off_is_read_only_where_nothing_could_change_it(text, found):
    assert read(text, finished=False) == found


@pytest.mark.parametrize("rule", RULES)
def test_failed_calls_and_marked_refusals_are_what_they_are_by_every_rule(rule):
    assert read("", rule, error="HTTP 500") == "error"
    assert read("CALM", rule, refusal=True) == "refusal"


@pytest.mark.parametrize(
    ("text", "ours", "first", "second"),
    [
        ("CALM", "CALM", "CALM", "CALM"),
        ("calm", "CALM", "parse_failure", "CALM"),
        ("CALM.", "CALM", "parse_failure", "parse_failure"),
        ("19", "19", "19", "19"),
        ('"19"', "19", "parse_failure", "19"),
        ("It is of the 19th century.", "parse_failure", "parse_failure", "19"),
        ("CROSS, 3 times", "CROSS", "parse_failure", "parse_failure"),
    ],
)
def test_each_rule_parses_as_its_paper_does(text, ours, first, second):
    assert (read(text), read(text, "paper-1"), read(text, "paper-2")) == (ours, first, second)


def test_a_published_prompt_without_labels_takes_any_short_reply_as_one():
    own = Rubric("speaker", PROMPT, published=True)
    assert read("Ada Lovelace.", rubric=own) == "Ada Lovelace"
    assert read("x" * 61, rubric=own) == "parse_failure"
    assert read("I'm sorry, but nothing in this text tells me who it is that speaks.", rubric=own) == "refusal"
    assert read("Ada Lo", rubric=own, finished=False) == "truncated"
    assert read("  ", rubric=own) == "parse_failure"


@given(st.sampled_from(LABELS), QUOTES, QUOTES, st.sampled_from([str.upper, str.lower, str.title]))
def test_quotes_case_and_blanks_around_a_label_do_not_matter(label, before, after, case):
    assert read(before + case(label) + after) == label


@given(st.sampled_from([r for r in rubrics().values() if r.needs_judge and not r.scale]), st.data())
def test_every_label_of_our_rubrics_is_read_as_itself(rubric, data):
    label = data.draw(st.sampled_from(rubric.labels))
    assert read(f"{label}.", rubric=rubric) == label
    assert read(f"Its tone decides.\nAnswer: {label}", rubric=rubric) == label


@given(st.text(), st.booleans(), st.sampled_from(list(RULES)))
def test_whatever_is_said_gives_a_label_or_a_missing_kind_and_keeps_the_reply(text, finished, rule):
    reply = Reply(text, finished)
    verdict = read_label(reply, RUBRIC, "judge", RULES[rule])
    assert verdict.value in LABELS or verdict.missing in MISSING
    assert verdict.reply == reply
