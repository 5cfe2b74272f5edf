"""Who does the packs: this process, or one worker process a core where copies of the base fit, each with one torch thread.

Two torch threads on a contended core are many times slower than one, so that processes are what uses several cores safely.
Only this process writes to the store; a pack's rows come back from its worker and are written at once, all or nothing.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from offtarget._clock import clock
from offtarget.errors import InputError, ModelError, StoreError
from offtarget.models import Base, load_base

from ._execute import Done, Report, ask_base, do_pack, unasked_prefixes
from ._forecast import forecast
from ._machine import workers_for
from ._plan import Plan, Run, slots_for
from ._store import Store

Announce = Callable[[str], None]

MAIN_GUARD = 'if __name__ == "__main__":'


def check_not_importing_main() -> None:
    """Refuses to begin a study while a worker process imports the script that the study was started from.

    Raises:
        InputError: the script calls it whenever it is imported.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as `multiprocessing` itself tells it
        raise InputError(
            f"each worker process imports the script that started the study, and would run it again: put the call under `{MAIN_GUARD}`"
        )


def execute(plan: Plan, base: Base, store: Store, folder: Path, *, jobs: int | None, report: Report, announce: Announce | None) -> None:
    """Does the runs that the store does not have yet. What is done stays done, whatever happens to the rest.

    Args:
        plan: what to do.
        base: the loaded base.
        store: where finished runs go.
        folder: where adapters go.
        jobs: worker processes; 1 does everything in this one. If not given: one a core, at most one a pack, and no more than the memory
            holds copies of the base; 1 on an accelerator and for a large base.
        report: called with what is being done and the share of it all that is done.
        announce: called with a forecast before anything is trained, and at the end with what it took.
    """
    done = store.run_ids()
    most, now = (jobs, jobs) if jobs else workers_for(base)
    packs = plan.packs(done, slots_for(base, plan.base_run.hyperparameters), most)
    asked = store.contexts_of(plan.base_run.id)
    base_too = not asked or bool(unasked_prefixes(plan, asked))
    of_base, *of_packs = (sum(sum(plan.work_of(run).values()) for run in runs) for runs in [[plan.base_run], *packs])
    progress = _Progress(of_packs, of_base if base_too else 0.0, report)
    count = min(len(packs), now)

    def base_first() -> None:
        if base_too:
            ask_base(plan, base, lambda what, part: progress.tell(-1, what, part), asked).keep(store)

    with _Workers(plan, folder, count) if count > 1 else nullcontext(None) as workers:
        foreseen = None
        if announce and packs:
            report("measuring how fast this machine is", 0.0)
            measure = workers.measure if workers else lambda small, runs: _measured(small, runs, base)
            foreseen = forecast(plan, packs, base, measure, workers=max(1, count), base_too=base_too)
            announce(foreseen.sentence)
        began = time.monotonic()
        if workers:
            workers.do(packs, store, progress, base_first)
        else:
            base_first()
            for number, pack in enumerate(packs):
                for piece in _in_pieces(plan, pack, base, folder, lambda what, part, n=number: progress.tell(n, what, part)):  # type: ignore[misc]
                    piece.keep(store)
    if announce and foreseen:
        announce(f"took {clock(time.monotonic() - began)}; the forecast was {clock(foreseen.seconds)}")


def _in_pieces(plan: Plan, runs: Sequence[Run], base: Base, folder: Path, report: Report) -> Iterator[Done]:
    """A pack; in halves, one after another, where it does not fit into memory. A slot comes out the same in a smaller pack."""
    import torch

    waiting, done = [list(runs)], 0
    while waiting:
        piece = waiting.pop(0)

        def tell(what: str, part: float, size: int = len(piece), before: int = done) -> None:
            report(what, (before + size * part) / len(runs))

        try:
            yield do_pack(plan, piece, base, folder, tell)
        except torch.OutOfMemoryError:
            if len(piece) == 1:
                raise ModelError(
                    f"one adapter of {base.name!r} alone does not fit into the memory of {base.device}; try --four-bit, a smaller "
                    "--batch-size or --rank, or --device auto to spread the model over several"
                ) from None
            half = len(piece) // 2
            waiting[:0] = [piece[:half], piece[half:]]
            gc.collect()
            torch.cuda.empty_cache()
        else:
            done += len(piece)


def _measured(plan: Plan, runs: Sequence[Run], base: Base) -> dict[str, float]:
    """Seconds of one run by stage, from doing some in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for piece in _in_pieces(plan, runs, base, Path(folder), lambda what, part: None) for row in piece.runs]
    return {stage: fmean(row.record["seconds"].get(stage, 0.0) for row in rows) for stage in rows[0].record["seconds"]}


class _Progress:
    """Puts the shares of packs together, by how much work they are; the base is number -1, and 0 where it was asked before."""

    def __init__(self, packs: Sequence[float], of_base: float, report: Report) -> None:
        self._sizes = {**dict(enumerate(packs)), -1: of_base}
        self._parts = dict.fromkeys(self._sizes, 0.0)
        self._report = report

    def tell(self, pack: int, what: str, part: float) -> None:
        self._parts[pack] = part
        total = sum(self._sizes.values())
        self._report(what, sum(self._parts[p] * size for p, size in self._sizes.items()) / total)


class _Workers:
    """Processes that share the packs. Where something fails they are not waited for: what they have in hand is lost anyway."""

    def __init__(self, plan: Plan, folder: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._told: Queue[tuple[int, str, float]] = context.Queue()
        self._ready = context.Event()
        here = (plan, folder, self._told, context.Barrier(count), self._ready, os.getpid())
        self._count, self._pool = count, ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=here)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._pool.shutdown()
            return
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def measure(self, plan: Plan, runs: Sequence[Run]) -> dict[str, float]:
        """Has all workers do the same runs at once: beside others each is slower than alone, the more the fewer cores there really are."""
        with _told_of_death(self._ready):
            found = [f.result() for f in [self._pool.submit(_measure_together, plan, list(runs)) for _ in range(self._count)]]
        return {stage: fmean(seconds[stage] for seconds in found) for stage in found[0]}

    def do(self, packs: Sequence[Sequence[Run]], store: Store, progress: _Progress, base_first: Callable[[], None]) -> None:
        """Has the packs done, and what this process does first beside them."""
        with _told_of_death(self._ready):
            waiting: set[Future[list[Done]]] = {self._pool.submit(_work, number, list(pack)) for number, pack in enumerate(packs)}
        base_first()
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while not self._told.empty():
                progress.tell(*self._told.get())
            for future in finished:
                with _told_of_death(self._ready):
                    for piece in future.result():
                        piece.keep(store)


@contextmanager
def _told_of_death(ready: Event) -> Iterator[None]:
    """The death of a worker as one sentence; `ready` tells whether any has ever begun."""
    try:
        yield
    except BrokenProcessPool:
        if not ready.is_set():
            raise StoreError(
                "the worker processes ended before they began (what they said stands above): out of memory, or called from a script "
                f"without `{MAIN_GUARD}` around the call; mend it, or try jobs=1 (--jobs 1)"
            ) from None
        raise StoreError(
            "a worker process died (out of memory, or killed); finished runs are kept: "
            "run the same command again, with --jobs 1 if it happens again"
        ) from None


_here: dict[str, Any] = {}
"""What a worker process was started with; empty in every other process."""


def _start(plan: Plan, folder: Path, told: Queue[tuple[int, str, float]], together: Barrier, ready: Event, parent: int) -> None:
    """Runs in a worker when it starts."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends its workers
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _here.update(plan=plan, folder=folder, told=told, together=together, base=load_base(plan.model, threads=1, loading=plan.loading))
    ready.set()


def _die_with(parent: int) -> None:
    """Ends a worker whose parent was killed; nobody would read what it does."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def _measure_together(plan: Plan, runs: list[Run]) -> dict[str, float]:
    _here["together"].wait()
    return _measured(plan, runs, _here["base"])


def _work(number: int, runs: list[Run]) -> list[Done]:
    def tell(what: str, part: float) -> None:
        _here["told"].put((number, what, part))

    return list(_in_pieces(_here["plan"], runs, _here["base"], _here["folder"], tell))
