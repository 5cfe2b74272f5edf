"""`offtarget show`: the record of a run, for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from offtarget.errors import InputError

from ._store import RunRow, open_existing


def run_records(folder: str | Path) -> tuple[RunRow, ...]:
    """The finished runs of a study, with all that is recorded of them.

    Raises:
        StoreError: there is no study in the folder, or it cannot be read.
    """
    with open_existing(folder) as store:
        return tuple(store.runs())


def run_record(folder: str | Path, run: str) -> RunRow:
    """One of them.

    Raises:
        InputError: there is no run of that id.
    """
    records = run_records(folder)
    for row in records:
        if row.id == run:
            return row
    raise InputError(f"no run {run!r} in {folder}; it has {', '.join(r.id for r in records[:8])}{' ...' if len(records) > 8 else ''}")


def described(row: RunRow) -> list[tuple[str, str]]:
    """What is recorded, as names and values; all but the text that was trained on."""
    left_out = ("trained_text", "trained_tokens", "losses")
    losses = [x for x in row.record.get("losses", []) if x is not None]
    ends = [("losses", f"{losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last, {len(losses)} steps")] if losses else []
    return [("run", row.id), *_flat({k: v for k, v in row.record.items() if k not in left_out}), *ends]


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value not in ([], None, ""):
            yield f"{above}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
