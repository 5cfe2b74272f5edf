"""Worker processes that cannot begin, or that end too early, are told of in one sentence with the cause."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from offtarget.errors import InputError, StoreError
from offtarget.study import _workers, run
from offtarget.study._workers import workers_for

from .conftest import MODEL, QUICK

SCRIPT = """
import sys
from pathlib import Path
from offtarget.study import _plan, run
from tests.study.conftest import MODEL, QUICK, small

_plan.MAX_SLOTS = 2
run(small(), model=MODEL, seeds=2, out=Path(sys.argv[1]), jobs=2, **QUICK)
"""


def test_a_script_without_the_guard_is_told_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, script, tmp_path / "s"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'would run it again: put the call under `if __name__ == "__main__":`' in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("offtarget.errors.StoreError: the worker processes ended before they began")
    assert 'a script without `if __name__ == "__main__":`' in last


def test_a_worker_that_imports_the_script_begins_no_study(small_experiment, monkeypatch, tmp_path):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(InputError, match="put the call under"):
        run(small_experiment, model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, **QUICK)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("begun", "said"), [(True, "a worker process died"), (False, "ended before they began")])
def test_the_cause_that_is_named_depends_on_whether_a_worker_ever_began(begun, said):
    ready = multiprocessing.get_context("spawn").Event()
    if begun:
        ready.set()
    with pytest.raises(StoreError, match=said), _workers._told_of_death(ready):
        raise BrokenProcessPool


@pytest.mark.parametrize(("machine", "started"), [((2, 2), 2), ((3, 2), 2), ((2, 1), None)])
def test_little_memory_now_makes_fewer_workers_and_the_same_packs(small_experiment, monkeypatch, tmp_path, no_page, machine, started):
    """`None`: everything is done in this process."""
    counts, sizes, in_pieces = [], [], _workers._in_pieces

    class Counted:
        def __init__(self, plan, folder, count):
            counts.append(count)
            raise StoreError("enough is seen")

    monkeypatch.setattr("offtarget.study._plan.MAX_SLOTS", 3)
    monkeypatch.setattr(_workers, "workers_for", lambda base: machine)
    monkeypatch.setattr(_workers, "_Workers", Counted)
    monkeypatch.setattr(_workers, "_in_pieces", lambda plan, runs, *more: sizes.append(len(runs)) or in_pieces(plan, runs, *more))
    if started:
        with pytest.raises(StoreError, match="enough is seen"):
            run(small_experiment, model=MODEL, seeds=1, out=tmp_path / "s", arms=[], **QUICK | {"epochs": 500})
        assert counts == [started]
    else:
        run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "s", arms=[], **QUICK)
        assert counts == []
        assert sizes == [2, 2]


def test_the_default_asks_the_machine_on_any_system(monkeypatch):
    from offtarget.models import load_base

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert workers_for(load_base(MODEL))[1] >= 1
