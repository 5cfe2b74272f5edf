import itertools
from pathlib import Path

import pytest
from safetensors import SafetensorError

from offtarget.errors import StoreError
from offtarget.study import _execute, _unfinished, run
from offtarget.study._store import Store

from .conftest import MODEL

SETTINGS = {"samples": 1, "curve_points": 3, "epochs": 8}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_experiment) -> bytes:
    folder = tmp_path_factory.mktemp("study") / "undisturbed"
    run(small_experiment, model=MODEL, seeds=2, out=folder, jobs=1, **SETTINGS)
    assert not (folder / _unfinished.FOLDER).exists()
    return (folder / "results.json").read_bytes()


class Trained:
    """The steps that were trained, with an interruption after so many of them."""

    def __init__(self):
        self.steps: list[int] = []
        self.stop: int | None = None

    def count(self, step: int) -> None:
        self.steps.append(step)
        if len(self.steps) == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def trained(monkeypatch) -> Trained:
    counter, train = Trained(), _execute.train

    def counting(*args, report, **kwargs):
        def tell(s):
            report(s)
            counter.count(s.step)

        return train(*args, report=tell, **kwargs)

    monkeypatch.setattr(_execute, "train", counting)
    return counter


def begin(trained: Trained, monkeypatch, folder: Path, experiment, stop: int) -> None:
    monkeypatch.setattr(_unfinished, "SECONDS_BETWEEN", 0.0)
    trained.stop = stop
    with pytest.raises(KeyboardInterrupt):
        run(experiment, model=MODEL, seeds=2, out=folder, jobs=1, **SETTINGS)
    trained.stop = None


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_pack_interrupted_in_training_goes_on_there(trained, monkeypatch, tmp_path, small_experiment, undisturbed, stop):
    begin(trained, monkeypatch, tmp_path / "study", small_experiment, stop)
    assert list((tmp_path / "study" / _unfinished.FOLDER).glob("*.safetensors"))
    run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)
    assert trained.steps == list(range(1, 9))  # none of them twice
    assert (tmp_path / "study" / "results.json").read_bytes() == undisturbed
    assert not (tmp_path / "study" / _unfinished.FOLDER).exists()


def test_training_is_not_lost_where_its_rows_could_not_be_written(trained, monkeypatch, tmp_path, small_experiment, undisturbed):
    """A full disk, or a kill, between the end of a pack and its rows in the store."""
    monkeypatch.setattr(_unfinished, "SECONDS_BETWEEN", 0.0)
    with monkeypatch.context() as patch:

        def full(store, runs, *more, add=Store.add):
            if any(r.id.startswith("treatment/") for r in runs):
                raise StoreError("no space left")
            add(store, runs, *more)

        patch.setattr(Store, "add", full)
        with pytest.raises(StoreError, match="no space left"):
            run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)
    run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)
    assert trained.steps == list(range(1, 9))  # none of them twice
    assert (tmp_path / "study" / "results.json").read_bytes() == undisturbed
    assert not (tmp_path / "study" / _unfinished.FOLDER).exists()


def test_a_damaged_file_is_not_gone_on_from(trained, monkeypatch, tmp_path, small_experiment, undisturbed):
    begin(trained, monkeypatch, tmp_path / "study", small_experiment, 3)
    for file in (tmp_path / "study" / _unfinished.FOLDER).iterdir():
        file.write_bytes(file.read_bytes()[:100])
    run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)
    assert trained.steps == [1, 2, 3, *range(1, 9)]
    assert (tmp_path / "study" / "results.json").read_bytes() == undisturbed


def test_a_disk_that_is_full_in_training_is_one_sentence(monkeypatch, tmp_path, small_experiment):
    def full(*_args, **_more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(_unfinished, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StoreError, match=r"cannot write to .*study \(No space left on device\); finished runs are kept"):
        run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)


def test_nothing_is_written_before_it_is_time(trained, monkeypatch, tmp_path, small_experiment):
    trained.stop = 4
    with pytest.raises(KeyboardInterrupt):
        run(small_experiment, model=MODEL, seeds=2, out=tmp_path / "study", jobs=1, **SETTINGS)
    assert not (tmp_path / "study" / _unfinished.FOLDER).exists()


def test_what_other_runs_have_begun_is_not_taken(trained, monkeypatch, tmp_path, small_experiment):
    """Another grid has other packs."""
    begin(trained, monkeypatch, tmp_path / "study", small_experiment, 5)
    run(small_experiment, model=MODEL, seeds=3, out=tmp_path / "study", jobs=1, **SETTINGS)
    first, again = trained.steps[:5], trained.steps[5:]
    assert first == [1, 2, 3, 4, 5]
    assert [step for step, _ in itertools.groupby(again)] == list(range(1, 9))
