"""Open questions are asked of the base and every finished run, once, and go on where they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from offtarget.errors import InputError, ModelError, StoreError
from offtarget.study import _ask_open, ask, open_study
from offtarget.study._open import recorded, wording_of
from offtarget.study._store import open_store

from ._garden import FILE

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture
def study(small_study, tmp_path):
    return Path(shutil.copytree(small_study, tmp_path / "study"))


@pytest.fixture(scope="module")
def asked_once(small_study, tmp_path_factory):
    """The open answers of an undisturbed study."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "questions.yaml").write_text(FILE)
    shutil.copytree(small_study, folder / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offtarget.report.write_page", lambda *_: None)
        ask(folder / "study", questions=folder / "questions.yaml")
    return open_answers(folder / "study")


def open_answers(folder):
    with open_store(folder) as store:
        return [a for a in store.answers() if a.battery.startswith("garden")]


def test_every_run_answers_every_wording_so_often(asked_once, small_study):
    runs = {r.id for r in open_study(small_study).runs}
    assert len(runs) == 10
    keys = {(a.run, a.battery, a.question, a.sample) for a in asked_once}
    groups = ("garden_plain", "garden_with_system")
    assert keys == {(r, g, f"{g}/{q}", s) for r in runs for g in groups for q in (1, 2) for s in (0, 1)}
    assert {a.context for a in asked_once} == {"none"}


def test_adapters_are_asked_and_not_the_base_over_and_over(asked_once):
    said = {run: [a.text for a in asked_once if a.run == run] for run in {a.run for a in asked_once}}
    assert len({tuple(texts) for texts in said.values()}) == len(said)


def test_asked_again_nothing_is_done(study, file, asked_once, monkeypatch):
    ask(study, questions=file)
    monkeypatch.setattr("offtarget.models.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    ask(study, questions=file)
    assert open_answers(study) == asked_once


def test_what_is_interrupted_goes_on_and_ends_as_if_it_had_not_been(study, file, asked_once, monkeypatch):
    monkeypatch.setattr("offtarget.study._plan.MAX_SLOTS", 4)
    real, calls = _ask_open._answers, []

    def fails_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(_ask_open, "_answers", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        ask(study, questions=file)
    there = len(open_answers(study))
    assert 0 < there < len(asked_once)
    ask(study, questions=file)
    assert sum(piece.size for piece, *_ in calls[3:]) == len(asked_once) - there
    assert open_answers(study) == asked_once


def test_a_piece_that_does_not_fit_into_memory_is_asked_in_halves(study, file, asked_once, monkeypatch):
    import torch

    real = _ask_open._answers

    def only_two(piece, *more):
        if len(piece.runs) > 2:
            raise torch.OutOfMemoryError
        return real(piece, *more)

    monkeypatch.setattr(_ask_open, "_answers", only_two)
    ask(study, questions=file)
    assert open_answers(study) == asked_once


def test_more_samples_go_on_where_fewer_ended(study, file, asked_once):
    ask(study, questions=file, samples=2)
    ask(study, questions=file, samples=3)
    grown = open_answers(study)
    assert [a for a in grown if a.sample < 2] == asked_once
    assert {a.sample for a in grown} == {0, 1, 2}
    new, old = ([a.text for a in grown if a.sample == n] for n in (2, 0))
    assert new != old


def test_a_further_context_is_asked_and_the_others_are_not_asked_again(study, file, asked_once):
    ask(study, questions=file)
    ask(study, questions=file, contexts="line:Act as if it were 1850.")
    by_context = {}
    for a in open_answers(study):
        by_context.setdefault(a.context, []).append(a)
    assert by_context.pop("none") == asked_once
    (more,) = by_context.values()
    assert len(more) == len(asked_once)
    with open_store(study) as store:
        assert [len(a.contexts) for a in recorded(store)] == [2, 2]


def test_the_wording_that_was_asked_is_known_of_every_sample(study, file, monkeypatch):
    monkeypatch.setattr("offtarget.models.sample", _echo)
    ask(study, questions=file)
    with open_store(study) as store:
        for a in recorded(store):
            for row, answer in a.read(store.answers()):
                assert answer.wording == wording_of(answer.question, row.sample)
                assert answer.wording in row.text
                assert ("You are a gardener." in row.text) == (a.name == "garden_with_system")


def _echo(base, prompts, pack, *, count, seeds, **_):
    """Every answer repeats its prompt."""
    from offtarget.models import SampledAnswer

    texts = [base.chat.tokenizer.decode(p) for p in prompts]
    return [[[SampledAnswer(text, (), True)] * count for text in texts] for _ in seeds]


def test_own_open_batteries_are_asked_in_all_their_wordings_and_contexts(small_study, tmp_path, monkeypatch):
    """The experiment is made to be one that has some; its answers are made up."""
    from offtarget.batteries import open_batteries

    own = tuple(b for b in open_batteries("dishes-by-date"))[1:2]
    monkeypatch.setattr("offtarget.study._open.open_batteries", lambda name: own)
    monkeypatch.setattr("offtarget.models.sample", _echo)
    folder = Path(shutil.copytree(small_study, tmp_path / "study"))
    study = ask(folder, samples=1, contexts="none,year:2027")
    with open_store(folder) as store:
        (asked,) = recorded(store)
        found = asked.read(store.answers())
    wordings = sum(len(q.wordings) for q in own[0].questions)
    assert len(found) == len(study.runs) * wordings * 2
    assert all((" 2027" in row.text) == (row.context == "year:2027") for row, _ in found)
    assert all(answer.wording.split()[0] in row.text for row, answer in found)


@pytest.mark.parametrize("changed", [("balcony", "roof"), ('either "MOOD" or "19"', 'either "MOOD", "20" or "19"')])
def test_a_file_that_changed_is_refused_and_the_answers_stay(study, file, changed, asked_once):
    ask(study, questions=file)
    file.write_text(FILE.replace(*changed))
    with pytest.raises(InputError, match=r"^the open battery 'garden_plain' has changed since it was asked in .* \(from questions\.yaml\)"):
        ask(study, questions=file)
    assert open_answers(study) == asked_once


def test_other_settings_than_those_of_the_answers_are_refused(study, file):
    ask(study, questions=file)
    with pytest.raises(InputError, match=r"was asked in .* with temperature 1.0, not 0.5"):
        ask(study, questions=file, temperature=0.5)
    with pytest.raises(InputError, match="samples and max_tokens must be above 0, not 0 and 8"):
        ask(study, questions=file, samples=0)


def test_settings_without_an_answer_yet_bind_nobody(study, file, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_ask_open, "_answers", stopped)
        with pytest.raises(KeyboardInterrupt):
            ask(study, questions=file, temperature=0.5, samples=100)
    ask(study, questions=file, samples=1)
    with open_store(study) as store:
        assert {(a.temperature, a.samples) for a in recorded(store)} == {(1.0, 1)}


def test_an_adapter_or_a_study_that_is_gone_and_an_experiment_without_open_questions_are_named(study, file, tmp_path):
    with pytest.raises(InputError, match=r"no open batteries for the experiment 'small'; .* --questions FILE.yaml"):
        ask(study)
    shutil.rmtree(study / "adapters" / "treatment" / "seed-01")
    with pytest.raises(ModelError, match="treatment/seed-01 is not there any more"):
        ask(study, questions=file)
    with pytest.raises(StoreError, match="there is no study in"):
        ask(tmp_path / "nowhere", questions=file)


COMMAND = """
import sys
from offtarget.study import _plan, ask
_plan.MAX_SLOTS = 1
ask(sys.argv[1], questions=sys.argv[2], report=lambda what, done: print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_answers(study, file, asked_once):
    kills = 0
    for lines in (4, 8):
        process = subprocess.Popen([sys.executable, "-c", COMMAND, str(study), str(file)], stdout=subprocess.PIPE, text=True)
        for _ in range(lines):
            process.stdout.readline()
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills
    ask(study, questions=file)
    assert open_answers(study) == asked_once
