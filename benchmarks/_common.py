"""What several benchmarks do alike."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeVar

import torch

from offtarget.models import AdapterShape, Base, LoraPack, load_base, save_adapter

T = TypeVar("T")


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


def fastest(what: Callable[[], float], repeats: int) -> float:
    """The least of so many counts of seconds."""
    return min(what() for _ in range(repeats))


@contextmanager
def as_installed() -> Iterator[None]:
    """PyTorch multiplies with the kernels that it takes by itself, as for peers; loading a base has changed that."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def gemm_rate(size: int = 2048, repeats: int = 10, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """What a device's matrix product does at best, in FLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_each(lambda: a @ b, repeats, device=a.device)


def seconds_of_workers(model: str, work: Callable[[Base, T], object], shares: Sequence[T]) -> float:
    """Seconds in which processes of one thread each, as in a study, do their shares; from when all are ready until the last is done."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(shares))
    with ProcessPoolExecutor(len(shares), mp_context=context, initializer=_start, initargs=(model, ready)) as pool:
        spans = list(pool.map(_timed, [work] * len(shares), shares))
    return max(end for _, end in spans) - min(start for start, _ in spans)


_here: list[tuple[Base, Barrier]] = []
"""What a worker was started with."""


def _start(model: str, ready: Barrier) -> None:
    _here.append((load_base(model, threads=1), ready))


def _timed(work: Callable[[Base, T], object], share: T) -> tuple[float, float]:
    base, ready = _here[0]
    ready.wait()
    began = time.monotonic()
    work(base, share)
    return began, time.monotonic()


def random_pack(base: Base, slots: int) -> LoraPack:
    """Adapters that each change the base a little."""
    pack = LoraPack(base.model, [AdapterShape() for _ in range(slots)])
    pack.initialise(range(slots))
    pack.parameters += 0.01 * torch.randn(pack.parameters.shape, generator=torch.Generator().manual_seed(0))
    return pack


def peft_model(base: Base, pack: LoraPack, adapters: int) -> Any:
    """The first adapters of a pack in one PEFT model, by the names "0", "1", ..."""
    from peft import PeftModel

    with tempfile.TemporaryDirectory() as folder:
        for slot in range(adapters):
            save_adapter(pack, slot, Path(folder) / str(slot), base)
        model = PeftModel.from_pretrained(base.model, f"{folder}/0", adapter_name="0")
        for slot in range(1, adapters):
            model.load_adapter(f"{folder}/{slot}", adapter_name=str(slot))
    return model


def generate(model: Any, base: Base, prompt: Sequence[int], samples: int, max_tokens: int) -> None:
    """Samples answers with Hugging Face `generate`, in one batch with its cache."""
    ids = torch.tensor([prompt])
    model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, num_return_sequences=samples, max_new_tokens=max_tokens,
        pad_token_id=base.pad_id,
    )  # fmt: skip


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
