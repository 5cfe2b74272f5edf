"""Workers are as many as there are cores, unless copies of the base would not fit into memory."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from offtarget.models import load_base
from offtarget.study import _machine
from offtarget.study._machine import BESIDE_THE_BASE, ONE_COPY, cores, memory, workers_for

GB = 10**9


def base_of(parameters: int) -> SimpleNamespace:
    weight = SimpleNamespace(numel=lambda: parameters, element_size=lambda: 4)
    return SimpleNamespace(model=SimpleNamespace(parameters=lambda: iter([weight])), device=torch.device("cpu"))


@pytest.fixture
def big_machine(monkeypatch):
    monkeypatch.setattr(_machine, "cores", lambda: 16)
    monkeypatch.setattr(_machine, "memory", lambda: (64 * GB, 40 * GB))


def test_a_small_base_has_a_worker_a_core(big_machine):
    assert workers_for(base_of(1_500_000)) == (16, 16)


def test_copies_of_a_base_that_do_not_fit_are_not_made(big_machine):
    each = 2 * 4 * 500_000_000 + BESIDE_THE_BASE
    assert workers_for(base_of(500_000_000)) == (64 * GB // each - 1, 40 * GB // each) == (12, 8)


def test_a_large_base_is_held_once(big_machine):
    assert workers_for(base_of(ONE_COPY + 1)) == (1, 1)


def test_one_worker_is_left_where_not_even_one_more_copy_fits(monkeypatch):
    monkeypatch.setattr(_machine, "memory", lambda: (GB, GB // 10))
    assert workers_for(base_of(900_000_000)) == (1, 1)


def test_the_bundled_base_is_small():
    total, free = memory()
    if free < 2 * GB:
        pytest.skip("little memory is free now")
    assert workers_for(load_base("micro-small"))[1] == min(cores(), max(1, free // (BESIDE_THE_BASE + 4_000_000)), total // GB)


@pytest.mark.parametrize("newest", [True, False])
def test_cores_are_known_on_systems_without_affinity(monkeypatch, newest):
    """macOS and Windows have no `os.sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    if newest:
        monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert cores() == (3 if newest else 8)


def test_a_container_has_the_memory_that_it_is_given(monkeypatch, tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  1000000 kB\nMemFree:  1 kB\nMemAvailable:  500000 kB\n")
    monkeypatch.setattr(_machine, "_MEMINFO", meminfo)
    monkeypatch.setattr(_machine, "_CGROUP", tmp_path)
    assert memory() == (1_024_000_000, 512_000_000)
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50\n")
    (tmp_path / "memory.current").write_text("150\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory() == (1_024_000_000, 512_000_000)
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory() == (1000, 900)


def test_a_system_that_does_not_tell_its_memory_is_believed_to_have_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(_machine, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(_machine, "_CGROUP", tmp_path / "none")
    assert memory() == (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),) * 2
    monkeypatch.delattr(os, "sysconf")
    assert memory() == (sys.maxsize, sys.maxsize)
