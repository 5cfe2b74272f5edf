"""What several benchmarks do alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def write_rows(path: Path | None, benchmark: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Writes what a benchmark found; nothing if no file is wanted."""
    if path:
        path.write_text(json.dumps({"benchmark": benchmark, **facts, "rows": rows}, indent=1) + "\n")


def seconds_each(what: Callable[[], object], repeats: int, *, warm_up: int = 1, device: torch.device | None = None) -> float:
    """Mean seconds of so many calls, after some that do not count; waits for a GPU to finish."""
    for _ in range(warm_up):
        what()
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        what()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def gemm_rate(size: int = 2048, repeats: int = 10, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """What a device's matrix product does at best, in FLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_each(lambda: a @ b, repeats, device=a.device)


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
