"""Asking open questions: answers are sampled from the base and from every finished run, for judges to read.

A piece of work is the runs of one pack, one battery and one context; its answers are written at once, all or nothing, so that a kill
loses at most the piece in flight, and the same command goes on with what is missing. A run's answers come from a seed of its own, drawn
from its recorded sampling seed, whatever else is in the pack.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.batteries import Context, parse_contexts
from offtarget.errors import ModelError
from offtarget.seeds import derived_seed

from ._open import OpenAsk, own_asks, published_asks, record, recorded, sample_number
from ._store import AnswerRow, RunRow, Store, open_existing
from ._study import Study, analysed, disk_errors, finish

if TYPE_CHECKING:
    from offtarget.models import Base, Loading, LoraPack

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class _Piece:
    """Runs of one pack, asked one battery in one context.

    Attributes:
        first: how many answers to each wording are there already.
    """

    runs: tuple[RunRow, ...]
    ask: OpenAsk
    context: Context
    first: int

    @property
    def size(self) -> int:
        """How many answers are to be sampled."""
        wordings = sum(len(q.wordings) for q in self.ask.battery.questions)
        return len(self.runs) * wordings * (self.ask.samples - self.first)

    def halves(self) -> tuple[_Piece, _Piece]:
        half = len(self.runs) // 2
        return replace(self, runs=self.runs[:half]), replace(self, runs=self.runs[half:])


def ask(
    folder: str | Path, *, questions: str | Path | None = None, samples: int | None = None, temperature: float | None = None,
    max_tokens: int | None = None, contexts: str | Sequence[Context] = (), loading: Loading | None = None,
    report: Report = lambda what, done: None,
) -> Study:  # fmt: skip
    """Asks the base and every finished run of a study open questions, or what is missing of them; `judge` reads the answers.

    Args:
        folder: of the study, with its adapters.
        questions: a published question file in YAML; the experiment's own open batteries if not given.
        samples: answers to each wording; 4, or as many as the file says, if not given. More of them go on where fewer ended.
        temperature: 1, or what the file says, if not given.
        max_tokens: where an answer is cut off; 256, or what the file says, if not given.
        contexts: what stands before the questions, such as `"none,year:1984"`; if not given nothing, and in turn the main context of
            the experiment's batteries.
        loading: device and the like; number type, 4-bit weights and template variables are those of the study.
        report: called with what is being done and the share of it that is done.

    Raises:
        InputError: a file or number that cannot be used, or a battery that was asked otherwise before.
        StoreError: there is no study in the folder, or it cannot be read or written.
        ModelError: the base or an adapter cannot be used, or is another than the study's.
    """
    path = Path(folder)
    where = (parse_contexts(contexts) if contexts else ()) if isinstance(contexts, str) else tuple(contexts)
    with open_existing(path) as store, disk_errors(path):
        experiment = analysed(store, path).subject.experiment
        given = {"samples": samples, "temperature": temperature, "max_tokens": max_tokens}
        known = {a.name: a for a in recorded(store)}
        if questions is None:
            wanted = own_asks(experiment, known, where, **given)
        else:
            wanted = published_asks(questions, experiment, known, where, **given)
        asks = record(store, wanted, path)
        missing = _missing(store, asks)
        if missing:
            plan = store.meta("plan")
            report(f"loading {plan['model']}", 0.0)
            base = _base(plan, loading)
            _sample_all(store, path, _pieces(missing, _slots(base, plan)), base, report)
        return finish(store, path)


@dataclass(frozen=True)
class _Missing:
    """What one run was not asked yet, or not often enough."""

    run: RunRow
    ask: OpenAsk
    context: Context
    first: int


def _missing(store: Store, asks: Sequence[OpenAsk]) -> list[_Missing]:
    counted = Counter((a.run, a.context, a.battery, a.question) for a in store.answers())

    def there(run: RunRow, ask: OpenAsk, context: Context) -> int:
        return min(counted[run.id, context.name, ask.name, q.id] // len(q.wordings) for q in ask.battery.questions)

    found = [_Missing(run, ask, c, there(run, ask, c)) for run in store.runs() for ask in asks for c in ask.contexts]
    return [m for m in found if m.first < m.ask.samples]


def _pieces(missing: Sequence[_Missing], slots: int) -> list[_Piece]:
    """Runs with adapters in packs, by seed and then by arm; the base, which has none, by itself."""
    runs = {m.run.id: m.run for m in missing}
    trained = sorted((r for r in runs.values() if _has_adapter(r)), key=lambda r: (r.seed, r.arm))
    packs = [[r] for r in runs.values() if not _has_adapter(r)] + [trained[i : i + slots] for i in range(0, len(trained), slots)]
    pieces = []
    for pack in packs:
        alike: dict[tuple[str, str, int], list[_Missing]] = {}
        for m in missing:
            if m.run in pack:
                alike.setdefault((m.ask.name, m.context.name, m.first), []).append(m)
        pieces += [_Piece(tuple(m.run for m in some), some[0].ask, some[0].context, some[0].first) for some in alike.values()]
    return pieces


def _has_adapter(run: RunRow) -> bool:
    return bool(run.record["kind"] != "base")


def _base(plan: Mapping[str, Any], loading: Loading | None) -> Base:
    """The study's base, loaded as it was then, wherever it is to run now."""
    from offtarget.models import Loading, load_base

    base = load_base(plan["model"], loading=replace(loading or Loading(), **plan["loading"]))
    if base.fingerprint != plan["fingerprint"]:
        raise ModelError(f"{plan['model']!r} has other weights now than when its adapters were trained; give it back the weights it had")
    return base


def _slots(base: Base, plan: Mapping[str, Any]) -> int:
    from offtarget.models import Hyperparameters

    from ._plan import slots_for

    return slots_for(base, Hyperparameters(**plan["hyperparameters"]))


def _sample_all(store: Store, folder: Path, pieces: Sequence[_Piece], base: Base, report: Report) -> None:
    total, done = sum(p.size for p in pieces), 0
    for piece in pieces:

        def tell(part: float, piece: _Piece = piece, before: int = done) -> None:
            report(f"asking {piece.ask.name}, {piece.context.name}", (before + part * piece.size) / total)

        for rows in _answered(piece, folder, base, tell):
            store.add([], [], rows)
        done += piece.size


def _answered(piece: _Piece, folder: Path, base: Base, tell: Callable[[float], None]) -> Iterator[list[AnswerRow]]:
    """The answers of a piece; in halves, one after another, where it does not fit into memory."""
    import torch

    try:
        yield _answers(piece, folder, base, tell)
        return
    except torch.OutOfMemoryError:
        if len(piece.runs) == 1:
            raise ModelError(
                f"the answers of one adapter of {base.name!r} do not fit into the memory of {base.device}; ask with fewer --max-tokens, or "
                "with --device auto to spread the model over several"
            ) from None
    gc.collect()
    torch.cuda.empty_cache()
    for half in piece.halves():
        yield from _answered(half, folder, base, tell)


def _answers(piece: _Piece, folder: Path, base: Base, tell: Callable[[float], None]) -> list[AnswerRow]:
    from offtarget.models import sample

    ask, context = piece.ask, piece.context
    found = sample(
        base, [base.chat.prompt(messages) for messages in ask.prompts(context)], _pack(piece.runs, folder, base),
        count=ask.samples - piece.first, seeds=[_seed(run, piece) for run in piece.runs], temperature=ask.temperature,
        max_tokens=ask.max_tokens, report=lambda done, of: tell(done / of),
    )  # fmt: skip
    return [
        AnswerRow(run.id, context.name, ask.name, question.id, sample_number(question, wording, n), answer.text, answer.finished)
        for slot, run in enumerate(piece.runs)
        for (question, wording), answers in zip(ask.worded(), found[slot], strict=True)
        for n, answer in enumerate(answers, piece.first)
    ]


def _pack(runs: Sequence[RunRow], folder: Path, base: Base) -> LoraPack | None:
    """The runs' adapters as one pack; None for the base."""
    from offtarget.models import load_adapters

    if not _has_adapter(runs[0]):
        return None
    folders = [folder / "adapters" / run.id for run in runs]
    gone = next((f for f in folders if not f.is_dir()), None)
    if gone is not None:
        raise ModelError(f"the adapter {gone} is not there any more; put it back, or run the study anew in another folder")
    return load_adapters(base, folders)


def _seed(run: RunRow, piece: _Piece) -> int:
    """Of sampling: one for each run, battery and context, and for further samples another."""
    return derived_seed(run.record["seeds"]["sampling"], "open", piece.ask.name, piece.context.name, piece.first)
