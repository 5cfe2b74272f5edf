"""Asking open questions: answers are sampled from the base and from every finished run, for judges to read.

A piece of work is the runs of one pack, one battery and one context; its answers are written at once, all or nothing, so that a kill
loses at most the piece in flight, and the same command goes on with what is missing. A run's answers come from a seed of its own, drawn
from its recorded sampling seed, whatever else is in the pack.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.batteries import Context, parse_contexts
from offtarget.errors import InputError, ModelError

from ._ask_server import adapters_of, check_served, checked_endpoints, served_answers
from ._ask_vllm import served_by_vllm
from ._open import own_asks, published_asks, record, recorded
from ._piece import Piece, has_adapter, missing_pieces, packed, trained_runs
from ._store import AnswerRow, RunRow, Store, open_existing
from ._study import Study, disk_errors, finish, subject_of

if TYPE_CHECKING:
    from offtarget.models import Base, Endpoint, Loading, LoraPack

Report = Callable[[str, float], None]
_Tell = Callable[[float], None]


def ask(
    folder: str | Path, *, questions: str | Path | None = None, samples: int | None = None, temperature: float | None = None,
    max_tokens: int | None = None, contexts: str | Sequence[Context] = (), server: str | None = None,
    served: Mapping[str, str] | None = None, key_variable: str = "OPENAI_API_KEY", vllm: bool = False, loading: Loading | None = None,
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
        server: address of an OpenAI-compatible server, such as vLLM, that serves the adapters; the base is asked here all the same. It is
            trusted with an adapter only after its log-probabilities were found to be those of that adapter here.
        served: run -> its name on the server; only these runs are then asked there, and no others here. If not given, every run is
            asked under its own id, such as `treatment/seed-00`.
        key_variable: environment variable that holds the server's key.
        vllm: start vLLM with the adapters that are still to be asked, check and ask them there, and end it; then ask the base here.
        loading: device and the like; number type, 4-bit weights and template variables are those of the study.
        report: called with what is being done and the share of it that is done.

    Raises:
        InputError: a file or number that cannot be used, or a battery that was asked otherwise before.
        StoreError: there is no study in the folder, or it cannot be read or written.
        ModelError: the base or an adapter cannot be used, or is another than the study's; or vLLM is not there or does not start.
    """
    if vllm and server is not None:
        raise InputError(f"--vllm starts a server of its own, and --server {server} names another; leave out one of them")
    path = Path(folder)
    where = (parse_contexts(contexts) if contexts else ()) if isinstance(contexts, str) else tuple(contexts)
    with open_existing(path) as store, disk_errors(path):
        experiment = subject_of(store, path).experiment
        check_served(server, served, store.runs())
        given = {"samples": samples, "temperature": temperature, "max_tokens": max_tokens}
        known = {a.name: a for a in recorded(store)}
        if questions is None:
            wanted = own_asks(experiment, known, where, **given)
        else:
            wanted = published_asks(questions, experiment, known, where, **given)
        asks = record(store, wanted, path)
        missing = missing_pieces(store, asks)
        if served is not None:
            missing = [piece for piece in missing if piece.runs[0].id in served or not has_adapter(piece.runs[0])]
        if vllm:
            missing, report = _ask_by_vllm(store, path, missing, loading, report)
        if missing:
            plan = store.meta("plan")
            base = _base(plan, loading, report)
            slots = _slots(base, plan)
            endpoints: dict[str, Endpoint] = {}
            if server is not None:
                endpoints = checked_endpoints(server, trained_runs(missing), served or {}, key_variable, base, path, report)

            def answered(piece: Piece, tell: _Tell) -> Iterator[list[AnswerRow]]:
                endpoint = endpoints.get(piece.runs[0].id)
                return _answered(piece, path, base, tell) if endpoint is None else iter([served_answers(piece, endpoint, tell)])

            _keep_all(store, missing if endpoints else packed(missing, slots), answered, report)
        return finish(store, path)


def _ask_by_vllm(
    store: Store, folder: Path, missing: Sequence[Piece], loading: Loading | None, report: Report
) -> tuple[list[Piece], Report]:  # fmt: skip
    """Asks the adapters where vLLM serves them. What is left is the base's, with what reports the rest of the progress."""
    there, left = ([p for p in missing if has_adapter(p.runs[0]) == trained] for trained in (True, False))
    if not there:
        return left, report
    plan, share = store.meta("plan"), sum(p.size for p in there) / sum(p.size for p in missing)

    def first(what: str, done: float) -> None:
        report(what, share * done)

    with served_by_vllm(there, folder, plan["model"], _loading(plan, loading), lambda: _base(plan, loading, first), first) as endpoints:
        _keep_all(store, there, lambda piece, tell: iter([served_answers(piece, endpoints[piece.runs[0].id], tell)]), first)
    return left, lambda what, done: report(what, share + (1 - share) * done)


def _loading(plan: Mapping[str, Any], loading: Loading | None) -> Loading:
    from offtarget.models import Loading

    return replace(loading or Loading(), **plan["loading"])


def _base(plan: Mapping[str, Any], loading: Loading | None, report: Report) -> Base:
    """The study's base, loaded as it was then, wherever it is to run now."""
    from offtarget.models import load_base

    report(f"loading {plan['model']}", 0.0)
    base = load_base(plan["model"], loading=_loading(plan, loading))
    if base.fingerprint != plan["fingerprint"]:
        raise ModelError(f"{plan['model']!r} has other weights now than when its adapters were trained; give it back the weights it had")
    return base


def _slots(base: Base, plan: Mapping[str, Any]) -> int:
    from offtarget.models import Hyperparameters

    from ._plan import slots_for

    return slots_for(base, Hyperparameters(**plan["hyperparameters"]))


def _keep_all(
    store: Store, pieces: Sequence[Piece], answered: Callable[[Piece, _Tell], Iterator[list[AnswerRow]]], report: Report
) -> None:  # fmt: skip
    """Gets the answers of all pieces, and keeps each piece's as soon as they are there."""
    total, done = sum(p.size for p in pieces), 0
    for piece in pieces:

        def tell(part: float, piece: Piece = piece, before: int = done) -> None:
            report(f"asking {piece.ask.name}, {piece.context.name}", (before + part * piece.size) / total)

        for rows in answered(piece, tell):
            store.add([], [], rows)
        done += piece.size


def _answered(piece: Piece, folder: Path, base: Base, tell: _Tell) -> Iterator[list[AnswerRow]]:
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


def _answers(piece: Piece, folder: Path, base: Base, tell: _Tell) -> list[AnswerRow]:
    from offtarget.models import sample

    ask = piece.ask
    found = sample(
        base, [base.chat.prompt(messages) for messages in ask.prompts(piece.context)], _pack(piece.runs, folder, base),
        count=piece.count, seeds=[piece.seed(run) for run in piece.runs], temperature=ask.temperature, max_tokens=ask.max_tokens,
        report=lambda done, of: tell(done / of),
    )  # fmt: skip
    return [row for slot, run in enumerate(piece.runs) for row in piece.rows(run, found[slot])]


def _pack(runs: Sequence[RunRow], folder: Path, base: Base) -> LoraPack | None:
    """The runs' adapters as one pack; None for the base."""
    return adapters_of(runs, folder, base) if has_adapter(runs[0]) else None
