"""Tables of files that people write: which fields they have and what each takes, in errors that name place, field and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offtarget.errors import InputError

Check = Callable[[Any], bool]
Fields = Mapping[str, tuple[str, Check]]
"""Of each field what it takes, in words and as a check."""

TEXT: tuple[str, Check] = ("a string", lambda value: isinstance(value, str))


def check_fields(place: str, raw: Any, fields: Fields, needed: Sequence[str] = ()) -> None:
    """Checks a table; a field whose value is None counts as left out.

    Raises:
        InputError: it is no table, lacks a field that is needed, has one that is none, or one whose value cannot be used.
    """
    if not isinstance(raw, Mapping):
        raise InputError(f"{place}: is no table; write its name in square brackets and its fields below")
    for name in (*needed, *raw):
        if name not in fields:
            raise InputError(f"{place}: {name}: is no field here; use {', '.join(fields)}")
        what, check = fields[name]
        if name not in raw:
            raise InputError(f"{place}: {name}: is missing; give it {what}")
        if raw[name] is not None and not check(raw[name]):
            raise InputError(f"{place}: {name}: is {raw[name]!r}; it takes {what}")
