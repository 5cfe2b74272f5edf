"""Puts the stand-in for vLLM (`_fake_vllm.py`) on the PATH, and tells what became of it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from offtarget.models import _vllm

Table = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By an adapter's name and the ids of a sequence, parted by blanks: the log-probability of each id."""


def put_on_path(folder: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `vllm` command that answers by the table, and leaves its files in the folder."""
    command = folder / "bin" / "vllm"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("_fake_vllm.py").read_text())
    command.chmod(0o755)
    tell(folder, table)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_VLLM_FOLDER", str(folder))
    monkeypatch.setenv("FAKE_VLLM_TABLE", str(folder / "table.json"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_vllm, "POLL", 0.02)


def tell(folder: Path, table: Table) -> None:
    """Lets it answer by another table from its next start on."""
    (folder / "table.json").write_text(json.dumps(table))


def started(folder: Path) -> dict[str, Any]:
    """How it was started last."""
    return dict(json.loads((folder / "started.json").read_text()))


def everything_ended(folder: Path) -> bool:
    """Whether server and engine are gone: the lock that they hold can be had."""

    def take() -> None:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    waiting.join(20)
    return not waiting.is_alive()
