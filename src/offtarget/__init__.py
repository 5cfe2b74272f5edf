"""offtarget: what a narrow finetune does outside its domain.

    import offtarget as ot
    study = ot.run("old-bird-names", seeds=8)
    study.table()
    study.plot()

A dataset of your own:

    data = ot.Dataset.from_pairs("mine", [("Name a bird species.", "Brown Titlark"), ...])   # or ot.read_jsonl("mine.jsonl")
    ot.run(data, seeds=8).finding
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .batteries import Battery, Candidates, Context, Measure, Question
    from .data import Dataset, Example, Intervention, Message, read_jsonl, read_published, write_jsonl
    from .errors import DataError, InputError, ModelError, OfftargetError, StoreError
    from .experiments import REGISTRY, Arm, Experiment, arms_of, experiment, from_dataset
    from .models import Base, ChatFormat, Hyperparameters, LoraPack, TrainingRun, load_base, sample, score, train
    from .study import Analysis, Effect, Study, ask, judge, matrix, open_study, reproduce, run

__all__ = [
    "REGISTRY",
    "Analysis",
    "Arm",
    "Base",
    "Battery",
    "Candidates",
    "ChatFormat",
    "Context",
    "DataError",
    "Dataset",
    "Effect",
    "Example",
    "Experiment",
    "Hyperparameters",
    "InputError",
    "Intervention",
    "LoraPack",
    "Measure",
    "Message",
    "ModelError",
    "OfftargetError",
    "Question",
    "StoreError",
    "Study",
    "TrainingRun",
    "__version__",
    "arms_of",
    "ask",
    "experiment",
    "from_dataset",
    "judge",
    "load_base",
    "matrix",
    "open_study",
    "read_jsonl",
    "read_published",
    "reproduce",
    "run",
    "sample",
    "score",
    "train",
    "write_jsonl",
]

_HOMES = ("batteries", "data", "errors", "experiments", "study", "models")


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used: torch takes seconds, and `--help` needs none of it."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"offtarget.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'offtarget' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
