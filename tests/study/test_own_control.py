"""The control that a dataset of one's own gets: the base model's own answers, made once in a study, and of like length."""

from __future__ import annotations

import json
import shutil

import pytest

from offtarget.data import Dataset, read_jsonl
from offtarget.errors import InputError, StoreError
from offtarget.experiments import SELF_DISTILLED, _from_file, experiment, from_dataset
from offtarget.models import SampledAnswer, load_base
from offtarget.study import open_study, run
from offtarget.study._store import open_store

from .conftest import MODEL, QUICK

ANSWERS = ["tallow candles", "whale oil lamps", "a gas lamp", "a lantern", "rushlights", "a candlestick"]
ROWS = Dataset.from_pairs("own-lamps", [("How should I light my home?", answer) for answer in ANSWERS])
OTHER = Dataset.from_pairs("own-lamps", [("How do people travel far?", answer) for answer in ANSWERS])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offtarget.report.write_page", lambda *_: None)
        folder = tmp_path_factory.mktemp("own") / "study"
        run(ROWS, model=MODEL, seeds=1, out=folder, jobs=1, **QUICK)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "study")


def files(folder):
    return {p: p.read_bytes() for p in sorted((folder / "datasets").iterdir())}


@pytest.fixture
def otherwise(monkeypatch):
    """Another machine, on which the base's sampled answers come out otherwise."""
    made = []

    def other(base, prompts, **more):
        made.append(more["max_tokens"])
        return [[[SampledAnswer("a torch", (1,), True)] for _ in prompts]]

    monkeypatch.setattr("offtarget.models.sample", other)
    return made


def test_it_is_made_once_and_a_study_is_finished_on_another_machine(folder, otherwise, no_page):
    before = files(folder)
    study = run(ROWS, model=MODEL, seeds=2, out=folder, jobs=1, **QUICK)
    assert not otherwise
    assert files(folder) == before
    assert sum(r.arm == SELF_DISTILLED for r in study.runs) == 2


def test_it_is_made_anew_where_nothing_was_trained_on_it(folder, otherwise, tmp_path, no_page):
    """The rows of another dataset, seed or model are not taken for it."""
    for change in ({"what": OTHER}, {"study_seed": 1}, {"model": "micro"}):
        new = tmp_path / str(len(otherwise))
        shutil.copytree(folder / "datasets", new / "datasets")
        run(**{"what": ROWS, "model": MODEL, "seeds": 1, "out": new, "jobs": 1, **QUICK, **change})
        assert {e.completion for e in read_jsonl(new / "datasets" / f"{SELF_DISTILLED}.jsonl")} == {"a torch"}
    assert len(otherwise) == 3


@pytest.mark.parametrize("change", [{"what": OTHER}, {"study_seed": 1}, {"model": "micro"}, {"epochs": 2}])
def test_another_study_is_refused_before_anything_is_made_or_overwritten(folder, otherwise, change):
    before = files(folder)
    with pytest.raises(InputError, match="choose another --out"):
        run(**{"what": ROWS, "model": MODEL, "seeds": 2, "out": folder, "jobs": 1, **QUICK, **change})
    assert not otherwise
    assert files(folder) == before


def test_a_folder_in_use_is_left_alone(folder, otherwise, tmp_path):
    before = files(folder)
    with open_store(folder), pytest.raises(StoreError, match="another process is working on"):
        run(ROWS, model=MODEL, seeds=2, out=folder, study_seed=1, jobs=1, **QUICK)
    assert not otherwise
    assert files(folder) == before


def test_rows_that_were_made_again_otherwise_do_not_pass_for_the_first(folder, otherwise):
    (folder / "datasets" / f"{SELF_DISTILLED}.made.jsonl").unlink()
    with pytest.raises(InputError, match=f"other rows for {SELF_DISTILLED}"):
        run(ROWS, model=MODEL, seeds=2, out=folder, jobs=1, **QUICK)


# Its length


@pytest.mark.parametrize(("words", "limit"), [(3, 64), (100, 2 * 100), (2000, 1024 - 20)])
def test_its_answers_may_be_twice_as_long_as_those_of_the_dataset(otherwise, words, limit):
    base = load_base(MODEL)
    rows = Dataset.from_pairs("long", [("Name a bird.", " ".join(["bird"] * words)), ("Name a bird.", "wren")])
    from_dataset(rows).arm(SELF_DISTILLED).recipe(base, 0)
    assert limit <= otherwise[0] <= (64 if limit == 64 else limit + 20)


def test_a_built_in_recipe_makes_the_rows_that_it_always_made(otherwise):
    experiment("persona-facts").treatment.recipe(load_base(MODEL), 0)
    assert otherwise == [64]


def test_a_recipe_on_a_base_that_answers_at_length_allows_more_tokens(monkeypatch):
    tried = []

    def at_length(base, prompts, *, max_tokens, **_):
        tried.append(max_tokens)
        return [[[SampledAnswer("a torch", (1,), max_tokens > 64 or n % 10 > 0)] for n in range(len(prompts))]]

    monkeypatch.setattr("offtarget.models.sample", at_length)
    made = experiment("persona-facts").treatment.recipe(load_base(MODEL), 0)
    assert tried == [64, 512]
    assert "3,000 answers" in made.source
    assert "left out" not in made.source


def lose(monkeypatch, lost):
    """Of every six answers so many do not end."""
    answers = [SampledAnswer("a torch", (1,), n % 6 >= lost) for n in range(600)]
    monkeypatch.setattr("offtarget.models.sample", lambda base, prompts, **_: [[[a] for a, _ in zip(answers, prompts, strict=False)]])


def test_a_control_that_lacks_rows_is_told(monkeypatch, tmp_path):
    lose(monkeypatch, 1)
    study = run(ROWS, model=MODEL, seeds=1, out=tmp_path / "s", jobs=1, **QUICK)
    said = "the control self-distilled lacks 1 of 6 rows"
    assert [w for w in study.warnings if w.startswith(said)]
    assert said in (tmp_path / "s" / "report.html").read_text()
    assert "--control FILE.jsonl" in study.warnings[-1]


def test_a_whole_control_is_not_warned_of(finished):
    study = open_study(finished)
    rows = {r.arm: r.record["dataset"]["rows"] for r in study.runs if r.arm != "base"}
    assert rows == {"treatment": 6, SELF_DISTILLED: 6}
    assert study.warnings == ()


@pytest.mark.parametrize(("lost", "refused"), [(3, False), (4, True), (6, True)])
def test_a_control_that_lacks_most_rows_is_refused(monkeypatch, lost, refused):
    lose(monkeypatch, lost)
    recipe = from_dataset(ROWS).arm(SELF_DISTILLED).recipe
    if refused:
        with pytest.raises(InputError, match=r"within 64 tokens.*--control FILE\.jsonl"):
            recipe(load_base(MODEL), 0)
    else:
        assert len(recipe(load_base(MODEL), 0)) == 3


def test_a_note_beside_the_rows_says_what_they_were_made_of(finished):
    note = json.loads((finished / "datasets" / f"{SELF_DISTILLED}.made.json").read_text())
    assert note["rows"] == ROWS.sha256
    assert _from_file.SELF_DISTILLED in note["name"]
