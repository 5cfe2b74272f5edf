"""What hosted models cost: a dated table that comes with the package, and what the user puts above it.

A price that is not known is not guessed: there is none then, and whoever forecasts says so.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.batteries._fields import TEXT, Check, check_fields
from offtarget.errors import InputError

if TYPE_CHECKING:
    from offtarget.models import Usage

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The date at the end of a model's name: `gpt-4.1-2025-04-14`, `claude-haiku-4-5-20251001`."""

_MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """An amount of money, and by whose price of which day.

    Attributes:
        currency: such as `USD`.
        at_least: some calls came without a count of their tokens, so that it is more.
    """

    amount: float
    currency: str
    provider: str
    date: date
    at_least: bool = False

    def __str__(self) -> str:
        sign = _SIGNS.get(self.currency, "")
        money = f"{sign}{self.amount:,.{4 if self.amount < 0.1 else 2}f}" + ("" if sign else f" {self.currency}")
        return f"{'at least ' * self.at_least}{money} by {self.provider}'s prices of {self.date}"


@dataclass(frozen=True)
class Price:
    """What a model costs, per million tokens.

    Attributes:
        input: of the prompts.
        output: of the replies, what a model thinks before them included.
        date: when the price was read.
        source: where it stands.
        training: of the rows, times epochs; None where it cannot be trained there or the price is not known.
    """

    provider: str
    input: float
    output: float
    date: date
    source: str
    training: float | None = None
    currency: str = "USD"

    def cost(self, prompt_tokens: int, completion_tokens: int, *, at_least: bool = False) -> Cost:
        amount = (prompt_tokens * self.input + completion_tokens * self.output) / _MILLION
        return Cost(amount, self.currency, self.provider, self.date, at_least)


@dataclass(frozen=True)
class Prices:
    """Prices by the names that models have at their providers."""

    by_model: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model; None if it is not in the table.

        A dated snapshot costs what its model costs, and a finetune `ft:BASE:...` what `ft:BASE` does, unless they are listed themselves.
        """
        names = [model, _SNAPSHOT.sub("", model)]
        if model.startswith("ft:"):
            base = ":".join(model.split(":")[:2])
            names += [base, _SNAPSHOT.sub("", base)]
        return next((self.by_model[name] for name in names if name in self.by_model), None)

    def cost(self, model: str, usage: Usage) -> Cost | None:
        """What calls to a model cost; None if its price is not known."""
        price = self.of(model)
        return None if price is None else price.cost(usage.prompt_tokens, usage.completion_tokens, at_least=usage.uncounted > 0)

    def training_cost(self, model: str, tokens: int) -> Cost | None:
        """What finetuning a hosted model on so many tokens, times epochs, costs; None if that price is not known."""
        price = self.of(model) if model.startswith("ft:") else self.of(f"ft:{model}") or self.of(model)
        if price is None or price.training is None:
            return None
        return Cost(tokens * price.training / _MILLION, price.currency, price.provider, price.date)


def read_prices(path: str | Path | None = None) -> Prices:
    """The prices that come with the package, and above them those of a file of the same form (TOML).

    Raises:
        InputError: the file cannot be read or is not of that form; the message names file, table, field and cure.
    """
    own = _read(str(files("offtarget") / "prices.toml"))
    return Prices(own if path is None else {**own, **_read(str(path))})


def _a_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


_PRICE: tuple[str, Check] = ("a number not below 0, for a million tokens", _a_price)
_FIELDS: dict[str, tuple[str, Check]] = {
    "provider": TEXT,
    "input": _PRICE,
    "output": _PRICE,
    "training": _PRICE,
    "date": ("a day without quotes, such as 2026-09-25", lambda v: isinstance(v, date) and not isinstance(v, datetime)),
    "source": TEXT,
    "currency": TEXT,
}


def _read(path: str) -> dict[str, Price]:
    try:
        tables = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the prices {path} ({error.strerror or error}); give a TOML file with a table a model") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f'{path} is not valid TOML ({error}); write the name of each model in quotes, as in ["gpt-4.1"]') from error
    return {model: _price(f"{path}: {model}", table) for model, table in tables.items()}


def _price(place: str, table: Any) -> Price:
    if isinstance(table, Mapping) and any(isinstance(value, Mapping) for value in table.values()):
        raise InputError(f'{place}: holds a table; a name with a point in it stands in quotes, as in ["gpt-4.1"]')
    check_fields(place, table, _FIELDS, needed=("provider", "input", "output", "date", "source"))
    return Price(**table)
