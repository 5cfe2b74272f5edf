from __future__ import annotations

import json
from datetime import date

import pytest

from offtarget import cli
from offtarget.data import Message
from offtarget.models import ChatRequest, Endpoint, Usage, ask, counted
from offtarget.prices import Price, Prices, read_prices
from offtarget.study._cost import CHARACTERS_PER_TOKEN, TOKENS_PER_MESSAGE, estimated_tokens, foresee_calls, foresee_judging
from tests.models._chat_server import chat_server

from ._garden import FILE, answered_study

AS_JUDGED = {"rule": "offtarget", "temperature": 0.0, "max_tokens": 20}
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


def test_what_this_machine_serves_is_not_billed():
    seen = foresee_calls("judge-1", CHATS, max_tokens=20, prices=PRICES, billed=False)
    assert seen.cost is None
    assert seen.sentence == "5,000 calls to judge-1: about 500,000 tokens in, at most 100,000 out"
    assert seen.compared(Usage(1, 1, calls=1), PRICES).endswith("at most 100,000")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with chat_server() as running:
        running.answer = lambda body: {"choices": [{"message": {"content": "90"}}], "usage": {"prompt_tokens": 50, "completion_tokens": 1}}
        yield running


@pytest.fixture
def study(small_study, tmp_path, monkeypatch):
    monkeypatch.setattr("offtarget.report.write_page", lambda *_: None)
    (tmp_path / "questions.yaml").write_text(FILE)
    return answered_study(small_study, tmp_path / "study", tmp_path / "questions.yaml")


def judged(arguments, monkeypatch, capsys, code=0) -> str:
    """What the command line says beside its output."""
    monkeypatch.setattr("sys.argv", ["offtarget", "judge", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == code, said
    return said


def test_the_command_says_before_what_will_be_sent_and_after_what_was(study, server, monkeypatch, capsys):
    arguments = [study, "--judge", "judge-1", "--server", server.url]
    before = judged([*arguments, "--dry-run"], monkeypatch, capsys)
    assert not server.calls
    said = judged(arguments, monkeypatch, capsys)
    calls = len(server.calls)
    assert f"{calls} calls to judge-1: about " in before
    assert before.strip() in said
    assert f"took {calls} calls, {50 * calls:,} tokens in and {calls} out; foreseen were {calls}, " in said
    characters = sum(len(call.body["messages"][0]["content"]) for call in server.calls)
    assert foresee_judging(study, "judge-2", server.url, PRICES, **AS_JUDGED).prompt_tokens > characters / CHARACTERS_PER_TOKEN
    assert "0 calls to judge-1" in judged(arguments, monkeypatch, capsys)
    assert "give --judge and --server too" in judged([study, "--dry-run"], monkeypatch, capsys, code=2)


def test_money_is_foreseen_with_prices_of_ones_own(study, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "prices.toml"
    mine.write_text('[judge-1]\nprovider = "the house"\ninput = 1000\noutput = 0\ndate = 2026-11-01\nsource = "the door"\n')
    far = [study, "--judge", "judge-1", "--server", "https://judges.example/v1", "--dry-run"]
    assert "what judge-1 costs is not in the price table" in judged(far, monkeypatch, capsys)
    said = judged([*far, "--prices", mine], monkeypatch, capsys)
    seen = foresee_judging(study, "judge-1", "https://judges.example/v1", read_prices(mine), **AS_JUDGED)
    assert f"at most ${seen.prompt_tokens / 1000:.2f} by the house's prices of 2026-11-01" in said


def test_tallies_count_all_calls_inside_and_none_outside(server):
    def call():
        ask(Endpoint("m", server.url), [ChatRequest((Message("user", "q"),))])

    call()
    with counted() as outer:
        call()
        with counted() as inner:
            call()
    call()
    assert (outer.usage, inner.usage) == (Usage(100, 2, calls=2), Usage(50, 1, calls=1))


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
