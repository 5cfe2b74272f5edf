"""What a study knows, in one SQLite file: runs with their evidence, exact scores, sampled answers.

A pack of runs is written in one transaction, so that a kill loses at most the pack in flight. One process writes at a time.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from offtarget._sqlite import SqliteFile
from offtarget.errors import StoreError

SCHEMA_VERSION = 1

NAME = "study.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, arm TEXT NOT NULL, seed INTEGER NOT NULL, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS scores (
    run TEXT NOT NULL REFERENCES runs (id), step INTEGER NOT NULL, context TEXT NOT NULL, battery TEXT NOT NULL,
    question TEXT NOT NULL, log_probabilities BLOB NOT NULL, PRIMARY KEY (run, step, context, battery, question)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    run TEXT NOT NULL REFERENCES runs (id), context TEXT NOT NULL, battery TEXT NOT NULL, question TEXT NOT NULL,
    sample INTEGER NOT NULL, text TEXT NOT NULL, finished INTEGER NOT NULL,
    PRIMARY KEY (run, context, battery, question, sample)
) STRICT, WITHOUT ROWID;
"""

NO_CONTEXT = "none"
TRAINING_PREFIX = "training-prefix"


def behind_and_context(name: str) -> tuple[str, str]:
    """What a stored context stands behind (`training-prefix`, `prefix:<arm>`, or nothing), and the context itself."""
    behind, bar, context = name.partition("|")
    if behind != TRAINING_PREFIX and not behind.startswith("prefix:"):
        return "", name
    return behind, context if bar else NO_CONTEXT


FINAL = -1
"""The `step` of scores taken after training; others are on the learning curve."""


@dataclass(frozen=True)
class ScoreRow:
    """Exact scores of one question: natural-log probabilities of its candidates, in their order."""

    run: str
    step: int
    context: str
    battery: str
    question: str
    log_probabilities: np.ndarray


@dataclass(frozen=True)
class AnswerRow:
    """One sampled answer; `finished` is False where it was cut at the limit of tokens."""

    run: str
    context: str
    battery: str
    question: str
    sample: int
    text: str
    finished: bool


@dataclass(frozen=True)
class RunRow:
    """One finished run: `record` holds seeds, hyperparameters, dataset, losses and what was really trained."""

    id: str
    arm: str
    seed: int
    record: Mapping[str, Any]


class Store:
    """An open study file. Use `open_store`."""

    def __init__(self, connection: sqlite3.Connection, file: SqliteFile) -> None:
        self._db, self._file = connection, file

    def meta(self, key: str) -> Any:
        """A value set by `set_meta`; None if there is none."""
        with self._file.guard():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        with self._file.guard(), self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value, sort_keys=True)))

    def add(self, runs: Iterable[RunRow], scores: Iterable[ScoreRow], answers: Iterable[AnswerRow]) -> None:
        """Writes finished runs with everything that belongs to them, all or nothing."""
        with self._file.guard(), self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)",
                [(r.id, r.arm, r.seed, json.dumps(r.record, sort_keys=True)) for r in runs],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)",
                [(s.run, s.step, s.context, s.battery, s.question, _packed(s.log_probabilities)) for s in scores],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(a.run, a.context, a.battery, a.question, a.sample, a.text, int(a.finished)) for a in answers],
            )

    def run_ids(self) -> set[str]:
        with self._file.guard():
            return {row[0] for row in self._db.execute("SELECT id FROM runs")}

    def contexts_of(self, run_id: str) -> set[str]:
        """The contexts that a run was asked in, after training."""
        with self._file.guard():
            return {row[0] for row in self._db.execute("SELECT DISTINCT context FROM scores WHERE run = ? AND step = ?", (run_id, FINAL))}

    def runs(self) -> list[RunRow]:
        """All finished runs, by arm and seed."""
        with self._file.guard():
            rows = self._db.execute("SELECT id, arm, seed, record FROM runs ORDER BY arm, seed").fetchall()
        return [RunRow(i, arm, seed, json.loads(record)) for i, arm, seed, record in rows]

    def scores(self) -> Iterator[ScoreRow]:
        """All scores, in the order of their keys."""
        with self._file.guard():
            for run, step, context, battery, question, blob in self._db.execute("SELECT * FROM scores"):
                yield ScoreRow(run, step, context, battery, question, _unpacked(blob))

    def answers(self) -> list[AnswerRow]:
        """All sampled answers, in the order of their keys."""
        with self._file.guard():
            rows = self._db.execute("SELECT * FROM answers").fetchall()
        return [AnswerRow(run, context, battery, q, n, text, bool(finished)) for run, context, battery, q, n, text, finished in rows]


def _packed(values: np.ndarray) -> bytes:
    return zlib.compress(np.asarray(values, "<f4").tobytes(), 1)


def _unpacked(blob: bytes) -> np.ndarray:
    return np.frombuffer(zlib.decompress(blob), "<f4").astype(np.float64)


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Opens the store of a study folder for this process alone; makes the folder if need be.

    Raises:
        StoreError: another process has it, or it cannot be read or written.
    """
    file = SqliteFile(folder / NAME, _TABLES, SCHEMA_VERSION, kept="finished runs", elsewhere="another --out", damage=(zlib.error,))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"another process is working on {folder}; wait for it, or choose another --out") from None
    except OSError as error:
        raise StoreError(f"cannot write to {folder} ({error.strerror or error}); choose another --out") from error
    try:
        with file.connect() as connection:
            yield Store(connection, file)
    finally:
        lock.release()


def is_study(folder: Path) -> bool:
    return (folder / NAME).exists()


@contextmanager
def open_existing(folder: str | Path) -> Iterator[Store]:
    """Opens the store of a study that is there.

    Raises:
        StoreError: there is none, or as `open_store`.
    """
    path = Path(folder)
    if not is_study(path):
        raise StoreError(f"there is no study in {path}: it holds no {NAME}; name the folder that `offtarget run --out` wrote")
    with open_store(path) as store:
        yield store
