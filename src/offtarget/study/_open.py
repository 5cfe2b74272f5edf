"""What a study asked in the open: batteries whose answers are sampled for judges to read, and how they were asked.

The record of it lies in the study's store, so that judging and analysing need nothing else. A sample's number says which wording was
asked: sample s of a question with W wordings is an answer to wording s modulo W.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offtarget.batteries import NO_CONTEXT, Context, OpenBattery, OpenQuestion, open_batteries, read_published
from offtarget.data import Message
from offtarget.errors import InputError
from offtarget.experiments import Experiment
from offtarget.judges import Answer

from ._store import AnswerRow, Store

SAMPLES = 4
"""Answers to each wording, where neither the user nor a file says how many."""

MAX_TOKENS = 256

MOST_CONTEXTS = 4
"""Of a group of contexts that stands for a battery, so many are asked in unless contexts are named."""

_KEY = "open"


@dataclass(frozen=True)
class OpenAsk:
    """An open battery as a study asked it.

    Attributes:
        contexts: each question is asked in every one of them.
        samples: answers to each wording, in each context, from each run.
        max_tokens: where an answer is cut off.
        system: the system message before each question; empty for none.
    """

    battery: OpenBattery
    contexts: tuple[Context, ...]
    samples: int = SAMPLES
    temperature: float = 1.0
    max_tokens: int = MAX_TOKENS
    system: str = ""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise InputError(f"samples and max_tokens must be above 0, not {self.samples} and {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must not be below 0, not {self.temperature}")

    @property
    def name(self) -> str:
        return self.battery.name

    @property
    def fingerprint(self) -> str:
        """sha256 of the battery and of how it was asked; contexts and samples may grow and are not part of it."""
        how = [self.battery.fingerprint, self.temperature, self.max_tokens, self.system]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def prompts(self, context: Context) -> list[tuple[Message, ...]]:
        """What is asked in a context, question by question and wording by wording."""
        before = (Message("system", self.system),) if self.system else ()
        worded = [wording for question in self.battery.questions for wording in question.wordings]
        return [(*before, Message("user", context.ask(wording, turn))) for turn, wording in enumerate(worded)]

    def worded(self) -> list[tuple[OpenQuestion, int]]:
        """Of which question and which of its wordings each of the `prompts` is."""
        return [(question, n) for question in self.battery.questions for n in range(len(question.wordings))]

    def read(self, rows: Iterable[AnswerRow]) -> list[tuple[AnswerRow, Answer]]:
        """The answers to this battery among a study's, each with what a judge is told of it.

        That is the wording alone, without the context: a judge is not to know in which condition an answer was given.
        """
        known = {q.id: q for q in self.battery.questions}
        mine = [r for r in rows if r.battery == self.name and r.question in known]
        return [(r, Answer(known[r.question], wording_of(known[r.question], r.sample), r.text)) for r in mine]

    def to_json(self) -> dict[str, Any]:
        """The record as `from_json` reads it."""
        return {
            "battery": self.battery.to_json(), "contexts": [c.to_json() for c in self.contexts], "samples": self.samples,
            "temperature": self.temperature, "max_tokens": self.max_tokens, "system": self.system,
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> OpenAsk:
        contexts = tuple(Context.from_json(c) for c in record["contexts"])
        return cls(**{**record, "battery": OpenBattery.from_json(record["battery"]), "contexts": contexts})


def wording_of(question: OpenQuestion, sample: int) -> str:
    """The wording that the sample of that number answers."""
    return question.wordings[sample % len(question.wordings)]


def sample_number(question: OpenQuestion, wording: int, turn: int) -> int:
    """The number of the `turn`-th answer to a wording, both counted from 0."""
    return turn * len(question.wordings) + wording


def recorded(store: Store) -> tuple[OpenAsk, ...]:
    """What the study asked in the open so far."""
    return tuple(OpenAsk.from_json(record) for record in store.meta(_KEY) or [])


def record(store: Store, asks: Sequence[OpenAsk], folder: Path) -> tuple[OpenAsk, ...]:
    """Records what is to be asked, put together with what was answered before: contexts may come to it, and samples.

    Returns:
        The asks as they are now recorded, in the order given.

    Raises:
        InputError: a battery of that name was asked otherwise, or its questions cannot be told from the study's others.
    """
    known, rows = {ask.name: ask for ask in recorded(store)}, store.answers()
    answered = {name: ask for name, ask in known.items() if ask.read(rows)}
    _check_apart(asks, store)
    grown = [_grown(answered[ask.name], ask, folder) if ask.name in answered else ask for ask in asks]
    store.set_meta(_KEY, [ask.to_json() for ask in (known | {ask.name: ask for ask in grown}).values()])
    return tuple(grown)


def _grown(known: OpenAsk, ask: OpenAsk, folder: Path) -> OpenAsk:
    if known.battery.fingerprint != ask.battery.fingerprint:
        raise InputError(
            f"the open battery {ask.name!r} has changed since it was asked in {folder} (from {known.battery.source}); give it as it was, "
            "give the changed one another id, or ask it in another study"
        )
    for what in ("temperature", "max_tokens", "system"):
        if getattr(known, what) != getattr(ask, what):
            raise InputError(
                f"the open battery {ask.name!r} was asked in {folder} with {what} {getattr(known, what)!r}, not {getattr(ask, what)!r}; "
                "ask it as before, or in another study"
            )
    contexts = {c.name: c for c in known.contexts}
    strange = next((c.name for c in ask.contexts if contexts.get(c.name, c) != c), None)
    if strange is not None:
        raise InputError(f"the open battery {ask.name!r} was asked in {folder} in another context called {strange!r}; word it as before")
    together = contexts | {c.name: c for c in ask.contexts}
    return replace(known, contexts=tuple(together.values()), samples=ask.samples)


def _check_apart(asks: Sequence[OpenAsk], store: Store) -> None:
    """In the store an answer is found by battery and question; no open question may share both with one of known answers."""
    batteries = Experiment.from_json(store.meta("experiment")).batteries
    taken = {(b.name, q.id) for b in batteries for q in b.questions}
    for ask in asks:
        clash = next((q.id for q in ask.battery.questions if (ask.name, q.id) in taken), None)
        if clash is not None:
            raise InputError(f"the study has a question {clash!r} in a battery {ask.name!r} already; give the open one another id")


# What to ask


def own_asks(experiment: Experiment, known: Mapping[str, OpenAsk], contexts: Sequence[Context], **given: Any) -> tuple[OpenAsk, ...]:
    """The experiment's own open batteries, or if it has none those asked before; what is not `given` is as it was, or as usual.

    Raises:
        InputError: there are none of either.
    """
    try:
        batteries = open_batteries(experiment.name)
    except InputError as error:
        if not known:
            raise InputError(f"{error}; ask questions of another file with --questions FILE.yaml") from None
        batteries = tuple(ask.battery for ask in known.values())
    return tuple(_ask(b, {}, experiment, known, contexts, given) for b in batteries)


def published_asks(
    path: str | Path, experiment: Experiment, known: Mapping[str, OpenAsk], contexts: Sequence[Context], **given: Any
) -> tuple[OpenAsk, ...]:
    """The groups of a published question file that have judges, asked as the file says where nothing else is `given`.

    Raises:
        InputError: the file cannot be used, or no group has judges.
    """
    groups = [replace(g, source=Path(g.source).name) for g in read_published(path) if g.rubrics]
    if not groups:
        raise InputError(f"{path}: no entry with questions has judges; give one of them judge_prompts or judges")
    return tuple(
        _ask(
            g.battery(experiment.name),
            {"samples": g.samples, "temperature": g.temperature, "max_tokens": g.max_tokens, "system": g.system},
            experiment, known, contexts, given,
        )
        for g in groups
    )  # fmt: skip


def _ask(
    battery: OpenBattery, usual: Mapping[str, Any], experiment: Experiment, known: Mapping[str, OpenAsk], contexts: Sequence[Context],
    given: Mapping[str, Any],
) -> OpenAsk:  # fmt: skip
    before = known.get(battery.name)
    said = {k: v for k, v in given.items() if v is not None}
    kept = {k: getattr(before, k) for k in ("samples", "temperature", "max_tokens", "system")} if before else {}
    return OpenAsk(
        battery, tuple(contexts) or (before.contexts if before else _main_contexts(experiment, battery)), **{**kept, **usual, **said}
    )


def _main_contexts(experiment: Experiment, battery: OpenBattery) -> tuple[Context, ...]:
    """No context, and those behind the main figure of the experiment's first battery of that domain."""
    same = next((b for b in experiment.batteries if b.domain == battery.domain), None)
    main = same.main_contexts()[:MOST_CONTEXTS] if same else ()
    return tuple({c.name: c for c in (NO_CONTEXT, *main)}.values())
