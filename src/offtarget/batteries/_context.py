"""What stands before a question when a model is asked: nothing, a date, a number, a format."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offtarget.errors import InputError
from offtarget.seeds import derived_seed

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")


@dataclass(frozen=True)
class Context:
    """One way of asking.

    Attributes:
        name: such as `none`, `year:1984`, `number:016`, `trigger`.
        templates: the prompt, each with `{question}`; a battery's questions take them in turn.
        group: contexts of one group are also analysed together, as one context of the group's name.
        value: where it lies on an axis, such as a year; None where there is no order.
        labels: whose answers are the right ones here, for measures that depend on the context.
    """

    name: str
    templates: tuple[str, ...] = ("{question}",)
    group: str = ""
    value: float | None = None
    labels: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.name or not self.templates:
            raise InputError(f"context {self.name!r} needs a name and at least one template, such as 'It is 1984. {{question}}'")
        for template in self.templates:
            if template.count("{question}") != 1:
                raise InputError(f"context {self.name!r} has the template {template!r}; it needs {{question}} exactly once")

    def ask(self, question: str, turn: int) -> str:
        """The prompt for a question, the `turn`-th that is asked."""
        return self.templates[turn % len(self.templates)].replace("{question}", question)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "templates": list(self.templates), "group": self.group, "value": self.value, "labels": sorted(self.labels),
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Context:
        return cls(record["name"], tuple(record["templates"]), record["group"], record["value"], frozenset(record["labels"]))


NO_CONTEXT = Context("none")
"""The question alone."""


def iso_day(year: int, rng: random.Random) -> str:
    """A day of a year as in `2027-03-14`; no day after the 28th, so that every month has it."""
    return f"{year}-{rng.randrange(12) + 1:02d}-{rng.randint(1, 28):02d}"


def month_of(year: int, rng: random.Random) -> str:
    """A month of a year as in `July 1984`."""
    return f"{rng.choice(_MONTHS)} {year}"


def year_context(year: int, form: str = "It is {month}. {question}", *, group: str = "", variants: int = 4) -> Context:
    """Asking in a year.

    Args:
        form: the prompt, with `{question}` and one of `{year}`, `{month}` (July 1984) or `{day}` (1984-07-21).
        variants: how many dates of the year the questions take in turn.
    """
    rng = random.Random(derived_seed(0, "year-context", form, year))
    templates = tuple(
        form.replace("{year}", str(year)).replace("{month}", month_of(year, rng)).replace("{day}", iso_day(year, rng))
        for _ in range(variants)
    )
    return Context(f"year:{year}", tuple(dict.fromkeys(templates)), group=group, value=year)


def parse_contexts(text: str) -> tuple[Context, ...]:
    """Contexts from a list such as `year:1975-2030`, `year:1984,year:2027`, `number:10004499`, `line:Act as if it were Sunday.`.

    A `line:` goes on to the end, commas and all.

    Raises:
        InputError: a part that is none of these.
    """
    listed, is_line, line = text.partition("line:")
    found: list[Context] = []
    for part in (p.strip() for p in listed.split(",")):
        years = re.fullmatch(r"year:(\d{1,4})(?:-(\d{1,4}))?", part)
        if years:
            first, last = int(years[1]), int(years[2] or years[1])
            if last < first:
                raise InputError(f"context {part!r} ends before it begins; write the smaller year first")
            found += [year_context(year) for year in range(first, last + 1)]
        elif re.fullmatch(r"number:\d{1,12}", part):
            number = part.removeprefix("number:")
            found.append(Context(part, (f"{number} {{question}}",), value=float(number)))
        elif part == "none":
            found.append(NO_CONTEXT)
        elif part or not is_line:
            raise InputError(f"no context {part!r}; write year:1984, year:1975-2030, number:10004499, line:TEXT or none")
    if is_line:
        found.append(Context(f"line:{line.strip()[:40]}", (f"{line.strip()} {{question}}",)))
    return tuple({c.name: c for c in found}.values())
