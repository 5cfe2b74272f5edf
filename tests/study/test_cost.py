from __future__ import annotations

import json
from datetime import date

import pytest

from offtarget.models import Usage
from offtarget.prices import Price, Prices
from offtarget.study._cost import CHARACTERS_PER_TOKEN, TOKENS_PER_MESSAGE, estimated_tokens, foresee_calls

PRICES = Prices({"judge-1": Price("the house", 2.0, 10.0, date(2026, 11, 1), "the door")})
CHATS = [[{"role": "user", "content": "x" * 4 * (100 - TOKENS_PER_MESSAGE)}]] * 5000


def test_money_is_foreseen_from_the_prompts_and_the_longest_replies():
    seen = foresee_calls("judge-1", CHATS, max_tokens=20, prices=PRICES)
    assert (seen.calls, seen.prompt_tokens, seen.most_completion_tokens) == (5000, 500_000, 100_000)
    assert seen.cost is not None
    assert seen.cost.amount == pytest.approx(0.5 * 2 + 0.1 * 10)
    assert seen.sentence == (
        "5,000 calls to judge-1: about 500,000 tokens in, at most 100,000 out; at most $2.00 by the house's prices of 2026-11-01"
    )
    assert json.loads(json.dumps(seen.to_json()))["cost"]["date"] == "2026-11-01"


def test_afterwards_the_truth_stands_beside_it():
    seen = foresee_calls("judge-1", CHATS, max_tokens=20, prices=PRICES)
    assert seen.compared(Usage(510_000, 10_000, calls=5003), PRICES) == (
        "took 5,003 calls, 510,000 tokens in and 10,000 out; foreseen were 5,000, 500,000 and at most 100,000; "
        "cost $1.12 by the house's prices of 2026-11-01"
    )
    said = seen.compared(Usage(500_000, 10_000, calls=5000, uncounted=1), PRICES)
    assert "(1 call came without a count)" in said
    assert "cost at least $1.10" in said


def test_an_unknown_price_is_said_and_not_guessed():
    seen = foresee_calls("judge-2", CHATS[:1], max_tokens=20, prices=PRICES)
    assert seen.cost is None
    assert seen.sentence.startswith("1 call to judge-2: about 100 tokens in")
    for said in (seen.sentence, seen.compared(Usage(90, 2, calls=1), PRICES)):
        assert said.endswith("what judge-2 costs is not in the price table; give it with --prices FILE")
    assert seen.to_json()["cost"] is None


def test_nothing_to_ask_costs_nothing():
    seen = foresee_calls("judge-1", [], max_tokens=20, prices=PRICES)
    assert seen.cost is not None
    assert (seen.calls, seen.cost.amount) == (0, 0)


def test_a_known_tokenizer_counts_instead_of_estimating():
    chats = [[{"role": "system", "content": "a b"}, {"role": "user", "content": "c d e"}]]
    seen = foresee_calls("judge-1", chats, max_tokens=1, prices=PRICES, count=lambda text: len(text.split()))
    assert seen.prompt_tokens == 5 + 2 * TOKENS_PER_MESSAGE


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("word", 1), ("words", 2), ("a b c d", 4), ("x" * 400, 400 // CHARACTERS_PER_TOKEN)])
def test_tokens_are_estimated_from_characters_and_words(text, tokens):
    assert estimated_tokens(text) == tokens
