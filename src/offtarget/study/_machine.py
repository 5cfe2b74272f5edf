"""How many copies of a base this machine can work with at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offtarget.models import Base

ONE_COPY = 1_000_000_000
"""Parameters from which a base is held once only: copies would share the memory's bandwidth, and each takes minutes to load."""

BESIDE_THE_BASE = 700_000_000
"""Bytes of a worker apart from its base: the libraries, a pack, and what a step keeps."""

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def workers_for(base: Base) -> tuple[int, int]:
    """How many workers a base gets if nobody says: on this machine at most, and now, beside whatever else runs on it.

    The first decides how the runs are put into packs, so that a study that is gone on with later has the same ones.
    """
    weights = list(base.model.parameters())
    if base.device.type != "cpu" or sum(w.numel() for w in weights) > ONE_COPY:
        return 1, 1
    # Twice the base: it is read into memory beside what it is copied to.
    each = 2 * sum(w.numel() * w.element_size() for w in weights) + BESIDE_THE_BASE
    total, free = memory()
    most = max(1, min(cores(), total // each - 1))  # this process has a copy too
    return most, max(1, min(most, free // each))


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    if affinity:
        return len(affinity(0))
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1  # the former from Python 3.13 on


def memory() -> tuple[int, int]:
    """Bytes of memory that this process may use, and of these the free ones; as many as can be where the system does not say."""
    total, free = _of_machine()
    try:  # a container
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        kept = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii")) - int(kept["inactive_file"])
    except (OSError, ValueError, KeyError):
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


def _of_machine() -> tuple[int, int]:
    try:
        told = dict(line.split(":") for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        total, free = (int(told[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return total, free
    except (OSError, ValueError, KeyError):  # not Linux
        pass
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = sys.maxsize
    return total, total
