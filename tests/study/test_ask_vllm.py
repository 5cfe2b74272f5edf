"""vLLM is started for the adapters that are still to be asked, checked, asked, and ended. What is started is a stand-in: see there."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from offtarget import cli, models
from offtarget.errors import InputError, ModelError
from offtarget.models import load_base
from offtarget.study import ask, open_study
from offtarget.study._ask_server import measured
from offtarget.study._store import open_store
from tests.models._stand_in import everything_ended, put_on_path, started, tell

from .conftest import MODEL

RUNS = ("modern-lamps/seed-00", "treatment/seed-00")


pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture(scope="module")
def table(far_study):
    """What each adapter finds of the rows that it is told by."""
    with open_store(far_study) as store:
        runs = [run for run in store.runs() if run.id in RUNS]
    return {
        run.id: {" ".join(map(str, (*p.prompt_ids, *p.answer_ids))): [None, *[-1.0] * (len(p.prompt_ids) - 1), *p.adapter] for p in probes}
        for run, probes in measured(runs, load_base(MODEL), far_study)
    }


@pytest.fixture
def folder(tmp_path, monkeypatch, table):
    """Of the stand-in."""
    place = tmp_path / "vllm"
    place.mkdir()
    put_on_path(place, table, monkeypatch)
    return place


def questions(study):
    return study.parent / "questions.yaml"


def said(study):
    """The open answers of each run."""
    found = {}
    with open_store(study) as store:
        for a in store.answers():
            if a.battery.startswith("garden"):
                found.setdefault(a.run, []).append(a)
    return found


def test_every_adapter_is_asked_at_a_server_that_is_ended_and_the_base_here(study, folder):
    steps = []
    ask(study, questions=questions(study), vllm=True, report=lambda what, done: steps.append((what, done)))
    assert everything_ended(folder)
    found = said(study)
    assert set(found) == {"base/seed-00", *RUNS}
    for run, answers in found.items():
        assert len({(a.battery, a.question, a.sample) for a in answers}) == len(answers) == 8
        assert all(a.text.startswith(f"{run} ['") for a in answers) == (run != "base/seed-00")
    assert ("starting vLLM", 0.0) in steps
    assert [done for _, done in steps] == sorted(done for _, done in steps)
    assert steps[-1][1] == 1


def test_it_is_started_with_room_for_what_is_asked_and_once_the_base_has_left_the_memory(study, folder, monkeypatch):
    loaded, left = [], []

    def load(*arguments, **more):
        base = load_base(*arguments, **more)
        loaded.append(weakref.ref(base.model))
        return base

    def report(what, _):
        if what == "starting vLLM":
            gc.collect()
            left.append(loaded[0]() is None)

    monkeypatch.setattr(models, "load_base", load)
    ask(study, questions=questions(study), vllm=True, report=report)
    assert left == [True]
    flags = started(folder)["flags"]
    assert 16 < flags["max_model_len"] < 200
    assert [module["name"] for module in flags["lora_modules"]] == list(RUNS)


def test_only_what_is_missing_is_served_and_nothing_is_started_for_nothing(study, folder):
    ask(study, questions=questions(study), vllm=True)
    first = said(study)
    (folder / "started.json").unlink()
    ask(study, questions=questions(study), vllm=True)
    assert not (folder / "started.json").exists()
    with open_store(study) as store:
        store._db.execute("DELETE FROM answers WHERE run = ? AND battery LIKE 'garden%'", (RUNS[1],))
        store._db.commit()
    ask(study, questions=questions(study), vllm=True)
    assert [module["name"] for module in started(folder)["flags"]["lora_modules"]] == [RUNS[1]]
    assert said(study) == first


def test_what_was_interrupted_goes_on_and_leaves_no_server(study, folder):
    def report(what, done):
        if what.startswith("asking garden_with_system"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(study, questions=questions(study), vllm=True, report=report)
    assert everything_ended(folder)
    before = said(study)
    assert 0 < sum(map(len, before.values())) < 16
    ask(study, questions=questions(study), vllm=True)
    after = said(study)
    assert all(a in after[run] for run, answers in before.items() for a in answers)
    assert {run: len({(a.battery, a.question, a.sample) for a in answers}) for run, answers in after.items()} == dict.fromkeys(after, 8)


def test_a_server_with_the_wrong_adapters_is_refused_and_nothing_is_written(study, folder, table):
    sequences = table[RUNS[1]]
    tell(folder, table | {RUNS[1]: {ids: [p and p - 1 for p in told] for ids, told in sequences.items()}})
    with pytest.raises(ModelError, match="answers 'treatment/seed-00' unlike the adapter here"):
        ask(study, questions=questions(study), vllm=True)
    assert everything_ended(folder)
    assert said(study) == {}


def test_without_vllm_the_command_says_so_in_one_sentence_and_nothing_is_lost(study, monkeypatch, capsys, tmp_path):
    runs = {r.id for r in open_study(study).runs}
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(models, "load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    monkeypatch.setattr(sys, "argv", ["offtarget", "ask", str(study), "--questions", str(questions(study)), "--vllm"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2
    assert last.startswith("offtarget: vLLM is not installed: there is no `vllm` command on the PATH; install it")
    assert {r.id for r in open_study(study).runs} == runs
    assert said(study) == {}


def test_a_study_of_a_base_in_four_bits_is_not_served(study, folder):
    with open_store(study) as store:
        plan = store.meta("plan")
        store.set_meta("plan", plan | {"loading": plan["loading"] | {"four_bit": True}})
    with pytest.raises(InputError, match="nor --four-bit as they are here; leave them out, or sample here"):
        ask(study, questions=questions(study), vllm=True)
    assert not (folder / "started.json").exists()


def test_names_of_another_servers_models_mean_nothing_to_it(study):
    with pytest.raises(InputError, match="but no --server"):
        ask(study, questions=questions(study), vllm=True, served={RUNS[1]: "lamps"})
