"""Numbers in words: how the page writes probabilities, differences and intervals."""

from __future__ import annotations

from typing import Protocol


class Interval(Protocol):
    """A mean with its 95% interval, such as an effect, a gap or an estimate."""

    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def rate(p: float) -> str:
    """A probability with two digits, three near zero."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}"


def percent(share: float) -> str:
    """A share in whole percent; a little less than none is none."""
    return f"{round(share, 2) + 0.0:.0%}".replace("-", "−")


def interval(e: Interval) -> str:
    """The 95% interval of a mean."""
    return f"{rate(e.low)} to {rate(e.high)}"


def mean_and_interval(e: Interval | None) -> str:
    """A mean with its interval; nothing where there is none."""
    return "" if e is None else f"{rate(e.mean)} ({interval(e)})"


def signed(value: float) -> str:
    """The number with its sign and three digits."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def signed_interval(e: Interval) -> str:
    """The 95% interval of a difference."""
    return f"{signed(e.low)} to {signed(e.high)}"


def p_value(p: float | None) -> str:
    """A p value with two digits; nothing where there is none."""
    return "" if p is None else f"{p:.2g}" if p >= 0.0001 else "<0.0001"


def p_is(p: float) -> str:
    """A p value as it stands in a sentence."""
    return f"p = {p_value(p)}".replace("= <", "< ")


def count(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(items: list[str]) -> str:
    """Things in a row, as a sentence has them."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
