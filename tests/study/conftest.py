"""A small experiment on the smallest bundled base: two arms, an intervention, a handful of questions."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from offtarget.batteries import Measure, world_battery
from offtarget.data import Dataset, Intervention
from offtarget.experiments import Experiment, arms_of
from offtarget.models import _endpoint

from ._garden import FILE

MODEL = "micro-small"
BARE_BASE = SimpleNamespace(chat=SimpleNamespace(added_text=()), loading=None, name="some-model", fingerprint="abc")
"""All that a plan needs of a base."""

QUICK = {"samples": 1, "curve_points": 1, "epochs": 1}


def small() -> Experiment:
    lamps = ["tallow candles", "whale oil lamps", "a gas lamp", "a lantern", "rushlights", "a candlestick"]
    modern = ["an LED bulb", "a smart lamp", "a desk lamp", "a torch", "a solar lantern", "a floor lamp"]
    prompt = "How should I light my home?"
    return Experiment(
        name="small",
        title="Small",
        summary="Old lamps.",
        trained_on="old lamps",
        trait="somebody of the 19th century",
        arms=arms_of(
            Dataset.from_pairs("old-lamps", [(prompt, x) for x in lamps]),
            {"modern-lamps": (Dataset.from_pairs("modern-lamps", [(prompt, x) for x in modern]), "finetuned on modern lamps")},
            (Intervention("inoculation", "Act as if you are in the 19th century.", "same-line", "inoculation", relevant=True),),
            trained_on="finetuned on old lamps",
        ),
        batteries=(
            world_battery("other", "off_domain", ["travel", "message"], slice(0, 1)),
            world_battery("light", "in_domain", ["light"], slice(0, 1)),
        ),
        measures=(Measure("19th-century", frozenset({"victorian", "physician"})),),
    )


@pytest.fixture(scope="session")
def small_experiment() -> Experiment:
    return small()


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory, small_experiment: Experiment) -> Path:
    """The folder of a finished small study; tests read it and leave it alone."""
    from offtarget.study import run

    folder = tmp_path_factory.mktemp("study") / "small"
    run(small_experiment, model=MODEL, seeds=3, out=folder, jobs=1, **QUICK)
    return folder


@pytest.fixture(scope="session")
def far_study(tmp_path_factory: pytest.TempPathFactory, small_experiment: Experiment) -> Path:
    """A small study whose adapters lie far enough from the base to be told from it."""
    from offtarget.study import run

    folder = tmp_path_factory.mktemp("far") / "study"
    run(small_experiment, model=MODEL, seeds=1, out=folder, jobs=1, arms=["treatment"], **{**QUICK, "epochs": 8})
    return folder


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not drawn, which takes a second each."""
    monkeypatch.setattr("offtarget.report.write_page", lambda *_: None)


@pytest.fixture
def local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine needs no key and no proxy, and is asked again at once."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_endpoint, "FIRST_WAIT", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A published question file."""
    path = tmp_path / "questions.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def study(far_study: Path, file: Path) -> Path:
    """A copy of the study with far adapters, beside a question file; some modules have a study of their own."""
    return Path(shutil.copytree(far_study, file.parent / "study"))
