"""What a run really was: enough to do it again, and to see what was trained. `offtarget show STUDY RUN` prints it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from offtarget.models import Base, RenderedChat

from ._plan import Plan, Run

LIBRARIES = ("offtarget", "torch", "transformers", "tokenizers", "numpy")

SHOWN_ROWS = 6
"""Rows kept as rendered text, with their tokens; of all rows there is a sha256."""


def record_of(plan: Plan, run: Run, chats: Sequence[RenderedChat], base: Base) -> dict[str, Any]:
    """The record of a run: seeds, settings, data, what the template made of it, and where it ran."""
    import torch

    record: dict[str, Any] = {
        "experiment": plan.experiment.name,
        "model": plan.model,
        "fingerprint": plan.fingerprint,
        "kind": run.arm.kind,
        "seeds": run.seeds.to_json(),
        "hyperparameters": run.hyperparameters.to_json(),
        "intervention": run.arm.intervention.to_json(),
        "template_sha256": hashlib.sha256(str(base.chat.tokenizer.chat_template).encode()).hexdigest(),
        "template_adds": list(base.chat.added_text),
        "template_options": dict(base.chat.options),
        "where": where()
        | {
            "device": str(base.device),
            "dtype": str(base.model.dtype).removeprefix("torch."),
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
    }
    if run.arm.dataset:
        record |= {
            "dataset": {
                "name": run.arm.dataset.name,
                "rows": len(run.arm.dataset),
                "sha256": run.arm.dataset.sha256,
                "source": run.arm.dataset.source,
            },
            "trained_text": [_shown(base, chat) for chat in chats[:SHOWN_ROWS]],
            "trained_tokens": [{"ids": chat.token_ids, "on_loss": [int(s) for s in chat.supervised]} for chat in chats[:SHOWN_ROWS]],
            "trained_sha256": _digest(chats),
        }
    return record


@cache
def where() -> dict[str, Any]:
    """Versions of the libraries, the machine, and the commit of the repository that the command was given in (None outside of one)."""
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "accelerator": _accelerator(),
        "git_commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _digest(chats: Sequence[RenderedChat]) -> str:
    """sha256 over token ids and mask of all rows, in order."""
    digest = hashlib.sha256()
    for chat in chats:
        digest.update(repr((tuple(chat.token_ids), tuple(map(bool, chat.supervised)))).encode())
    return digest.hexdigest()


def _shown(base: Base, chat: RenderedChat) -> list[tuple[str, bool]]:
    """The rendered text in runs of tokens that are, or are not, trained on."""
    parts: list[tuple[str, bool]] = []
    start = 0
    for at in range(1, len(chat.token_ids) + 1):
        if at == len(chat.token_ids) or chat.supervised[at] != chat.supervised[start]:
            parts.append((str(base.chat.tokenizer.decode(list(chat.token_ids[start:at]))), chat.supervised[start]))
            start = at
    return parts
