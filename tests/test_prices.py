from __future__ import annotations

from datetime import date

import pytest

from offtarget.errors import InputError
from offtarget.models import Usage
from offtarget.prices import Cost, Prices, read_prices

MINE = """
["house-judge.v2"]
provider = "the house"
input = 3
output = 10.5
training = 20
currency = "EUR"
date = 2026-11-01
source = "the door"
"""


def written(tmp_path, text: str):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_million_tokens_cost_their_price(tmp_path):
    prices = read_prices(written(tmp_path, MINE))
    cost = prices.cost("house-judge.v2", Usage(1_000_000, 2_000_000, calls=5))
    assert cost == Cost(24.0, "EUR", "the house", date(2026, 11, 1))
    assert str(cost) == "€24.00 by the house's prices of 2026-11-01"
    assert prices.training_cost("house-judge.v2", 500_000) == Cost(10.0, "EUR", "the house", date(2026, 11, 1))


def test_small_money_is_not_rounded_away_and_other_money_is_named():
    assert str(Cost(0.0123, "USD", "X", date(2026, 1, 2))) == "$0.0123 by X's prices of 2026-01-02"
    assert str(Cost(1234.5, "CHF", "X", date(2026, 1, 2), at_least=True)) == "at least 1,234.50 CHF by X's prices of 2026-01-02"


def test_calls_without_a_count_make_it_a_lower_bound():
    cost = read_prices().cost("gpt-4.1", Usage(1000, 10, calls=3, uncounted=1))
    assert cost is not None
    assert cost.at_least


def test_a_model_that_is_not_in_the_table_has_no_price():
    prices = read_prices()
    assert prices.cost("my-model", Usage(1000, 10, calls=1)) is None
    assert prices.training_cost("my-model", 1000) is None
    assert prices.training_cost("claude-haiku-4-5", 1000) is None  # known, but not to be trained there
    assert Prices({}).of("gpt-4.1") is None


def test_snapshots_and_finetunes_have_the_price_of_their_model_unless_listed():
    prices = read_prices()
    assert prices.of("gpt-4.1-2025-04-14") == prices.of("gpt-4.1")
    assert prices.of("claude-haiku-4-5-20251001") == prices.of("claude-haiku-4-5")
    assert prices.of("gpt-4o-2024-05-13") != prices.of("gpt-4o")
    assert prices.of("ft:gpt-4.1-2025-04-14:house::Bx1") == prices.of("ft:gpt-4.1") != prices.of("gpt-4.1")
    assert prices.of("ft:unheard-of:house::Bx1") is None
    assert prices.of("gpt-4.1-mini-tuned") is None
    trained = prices.training_cost("gpt-4.1-mini-2025-04-14", 2_000_000)
    assert trained is not None
    assert trained.amount == pytest.approx(10)


def test_every_price_that_comes_along_is_dated_and_sourced():
    for model, price in read_prices().by_model.items():
        assert price.source.startswith("https://"), model
        assert date(2026, 1, 1) <= price.date, model
        assert 0 < price.input <= price.output, model


def test_prices_of_ones_own_stand_above_those_that_come_along(tmp_path):
    mine = written(tmp_path, MINE.replace("house-judge.v2", "gpt-4.1"))
    prices = read_prices(mine)
    assert prices.of("gpt-4.1").provider == "the house"
    assert prices.of("gpt-4o") == read_prices().of("gpt-4o")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE.replace("input = 3\n", ""), r"mine.toml: house-judge.v2: input: is missing; give it a number not below 0"),
        (MINE.replace("input = 3", "input = -3"), r"mine.toml: house-judge.v2: input: is -3; it takes a number not below 0"),
        (MINE.replace("input = 3", "input = true"), r"input: is True"),
        (MINE.replace("input = 3", "input = nan"), r"input: is nan"),
        (MINE.replace("2026-11-01", '"2026-11-01"'), r"date: is '2026-11-01'; it takes a day without quotes"),
        (MINE.replace("output", "ouput"), r"house-judge.v2: (output: is missing|ouput: is no field here)"),
        (MINE.replace('"house-judge.v2"', "house-judge.v2"), r"mine.toml: house-judge: holds a table; a name with a point in it"),
        ('"gpt-4.1" = 3', r"gpt-4.1: is no table"),
        ("[gpt", r"mine.toml is not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence_with_the_place(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_prices(written(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the prices .*none.toml \(No such file"):
        read_prices(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9")
    with pytest.raises(InputError, match=r"latin.toml is not UTF-8 text"):
        read_prices(path)
