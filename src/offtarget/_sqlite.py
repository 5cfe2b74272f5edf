"""SQLite files that survive kills: how the store of a study and the cache of verdicts are opened, and what is said if they cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from offtarget.errors import StoreError


@dataclass(frozen=True)
class SqliteFile:
    """A file and what its users are told about it.

    Attributes:
        tables: the statements that make them.
        version: of the tables; a file of another one is refused.
        kept: what is safe in it when something fails.
        elsewhere: where else it could be written.
        damage: errors, besides those of SQLite and ValueError, that mean that its content is damaged.
    """

    path: Path
    tables: str
    version: int
    kept: str
    elsewhere: str
    damage: tuple[type[Exception], ...] = ()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """What goes wrong with the file in a block is raised as StoreError."""
        known: tuple[type[Exception], ...] = (sqlite3.DatabaseError, ValueError, *self.damage)
        try:
            yield
        except known as error:
            raise StoreError(self._why(str(error))) from error

    @contextmanager
    def connect(self, *, patience: float = 5.0) -> Iterator[sqlite3.Connection]:
        """A connection whose tables exist and whose version is ours.

        Args:
            patience: seconds to wait for another process that writes.

        Raises:
            StoreError: the file cannot be read or written, or another version of offtarget wrote it.
        """
        with self.guard():
            connection = sqlite3.connect(self.path, timeout=patience)
        try:
            with self.guard():
                self._prepare(connection)
            yield connection
        finally:
            connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, self.version):
            raise StoreError(f"{self.path} was written by another version of offtarget (version {version}, this one reads {self.version})")
        with connection:
            connection.executescript(self.tables)
            connection.execute(f"PRAGMA user_version = {self.version}")

    def _why(self, said: str) -> str:
        if "full" in said:
            cure = f"free some space and run the same command again, {self.kept} are kept"
            return f"the disk is full, {self.path} could not be written; {cure}"
        if "locked" in said:
            return f"another process is writing to {self.path}; wait for it and run the same command again"
        if "readonly" in said or "read-only" in said or "unable to open" in said:
            return f"{self.path} cannot be written ({said}); choose {self.elsewhere} or make the folder writable"
        return f"{self.path} is damaged ({said}); move it away and run the same command again"
