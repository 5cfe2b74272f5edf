"""What judges replied, in one SQLite file, so that nothing is asked twice.

Replies are kept, not verdicts: how they are parsed can change without asking again. The key holds everything that a reply depends on: the
judge with its settings, the rubric's prompt, labels and scale, the question, and the answer. So another judge takes over no verdict,
and the limits of a rubric's trait can be moved for free. A batch is one transaction: a kill loses at most the one in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from offtarget._sqlite import SqliteFile
from offtarget.batteries import Rubric
from offtarget.errors import StoreError
from offtarget.replies import Reply

from ._answer import Answer

SCHEMA_VERSION = 1

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, judge TEXT NOT NULL, rubric TEXT NOT NULL, reply TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""
_AT_ONCE = 500
_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""


def reply_key(judge: Sequence[str | float | None], rubric: Rubric, answer: Answer) -> str:
    """The key of one reply.

    Args:
        judge: the judge model's name and settings.
    """
    told = [rubric.prompt, rubric.labels, rubric.scale]
    target = answer.question.target if rubric.needs_target else ""
    return hashlib.sha256(json.dumps([judge, told, answer.wording, target, answer.text]).encode()).hexdigest()


class VerdictCache:
    """An open file of replies. Use `open_cache`."""

    def __init__(self, connection: sqlite3.Connection, file: SqliteFile) -> None:
        self._db, self._file = connection, file

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there, by key; failed calls among them."""
        found = {}
        with self._file.guard():
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                for key, reply in self._db.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", some):  # noqa: S608
                    found[key] = Reply.from_json(json.loads(reply))
        return found

    def put(self, judge: str, rubric: str, replies: Mapping[str, Reply]) -> None:
        """Writes replies by key, all or none; a reply replaces a failed call."""
        rows = [(key, judge, rubric, json.dumps(reply.to_json())) for key, reply in replies.items()]
        with self._file.guard(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", rows)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many replies there are by judge and rubric."""
        with self._file.guard():
            rows = self._db.execute("SELECT judge, rubric, count(*) FROM replies GROUP BY judge, rubric").fetchall()
        return {(judge, rubric): n for judge, rubric, n in rows}


@contextmanager
def open_cache(path: Path) -> Iterator[VerdictCache]:
    """Opens the file, such as `verdicts.sqlite` in a study's folder; makes it and the folder if need be.

    Several processes may have it open.

    Raises:
        StoreError: it cannot be read or written, or another version of offtarget wrote it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write to {path.parent} ({error.strerror or error}); choose another folder") from error
    file = SqliteFile(path, _TABLE, SCHEMA_VERSION, kept="verdicts", elsewhere="another folder", damage=(TypeError,))
    with file.connect(patience=_PATIENCE) as connection:
        yield VerdictCache(connection, file)
