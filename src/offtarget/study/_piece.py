"""Pieces of asking: the runs of one pack, one open battery, one context. What is missing is cut into them, and each is kept whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from offtarget.batteries import Context
from offtarget.seeds import derived_seed

from ._open import OpenAsk, sample_number
from ._store import AnswerRow, RunRow, Store


class Said(Protocol):
    """An answer, whoever sampled it."""

    @property
    def text(self) -> str: ...
    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class Piece:
    """Runs of one pack, asked one battery in one context.

    Attributes:
        first: how many answers to each wording are there already.
    """

    runs: tuple[RunRow, ...]
    ask: OpenAsk
    context: Context
    first: int

    @property
    def count(self) -> int:
        """How many more answers each wording is to get from each run."""
        return self.ask.samples - self.first

    @property
    def size(self) -> int:
        """How many answers are to be sampled."""
        return len(self.runs) * len(self.ask.worded()) * self.count

    def halves(self) -> tuple[Piece, Piece]:
        half = len(self.runs) // 2
        return replace(self, runs=self.runs[:half]), replace(self, runs=self.runs[half:])

    def seed(self, run: RunRow) -> int:
        """Of sampling: one for each run, battery and context, and for further samples another."""
        return derived_seed(run.record["seeds"]["sampling"], "open", self.ask.name, self.context.name, self.first)

    def rows(self, run: RunRow, answers: Iterable[Sequence[Said]]) -> list[AnswerRow]:
        """A run's answers, several to each wording, as the store has them."""
        return [
            AnswerRow(run.id, self.context.name, self.ask.name, question.id, sample_number(question, wording, n), said.text, said.finished)
            for (question, wording), several in zip(self.ask.worded(), answers, strict=True)
            for n, said in enumerate(several, self.first)
        ]


def missing_pieces(store: Store, asks: Sequence[OpenAsk]) -> list[Piece]:
    """What was not asked yet, or not often enough, each of one run."""
    counted = Counter((a.run, a.context, a.battery, a.question) for a in store.answers())

    def there(run: RunRow, ask: OpenAsk, context: Context) -> int:
        return min(counted[run.id, context.name, ask.name, q.id] // len(q.wordings) for q in ask.battery.questions)

    found = [Piece((run,), ask, c, there(run, ask, c)) for run in store.runs() for ask in asks for c in ask.contexts]
    return [piece for piece in found if piece.count > 0]


def packed(pieces: Sequence[Piece], slots: int) -> list[Piece]:
    """The same pieces put together for packs of so many runs with adapters, by seed and then by arm; the base stays by itself."""
    runs = {piece.runs[0].id: piece.runs[0] for piece in pieces}
    trained = sorted((r for r in runs.values() if has_adapter(r)), key=lambda r: (r.seed, r.arm))
    packs = [[r] for r in runs.values() if not has_adapter(r)] + [trained[i : i + slots] for i in range(0, len(trained), slots)]
    together = []
    for pack in packs:
        members, alike = {r.id for r in pack}, dict[tuple[str, str, int], list[Piece]]()
        for piece in pieces:
            if piece.runs[0].id in members:
                alike.setdefault((piece.ask.name, piece.context.name, piece.first), []).append(piece)
        together += [replace(some[0], runs=tuple(piece.runs[0] for piece in some)) for some in alike.values()]
    return together


def trained_runs(pieces: Iterable[Piece]) -> list[RunRow]:
    """The runs of some pieces that have adapters, each once."""
    runs = {run.id: run for piece in pieces for run in piece.runs}
    return [run for run in runs.values() if has_adapter(run)]


def has_adapter(run: RunRow) -> bool:
    """Whether a run was trained; the base was not."""
    return bool(run.record["kind"] != "base")
