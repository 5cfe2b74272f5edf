"""Asking adapters that a server serves: each is checked first to be the one that lies here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from offtarget.data import read_jsonl
from offtarget.errors import InputError, ModelError

from ._piece import Piece, has_adapter
from ._store import AnswerRow, RunRow

if TYPE_CHECKING:
    from offtarget.models import Base, Endpoint, LoraPack, Probe

PROBES = 4
"""Rows of a run's training data on which its adapter is told from the base."""

_AT_ONCE = 8
"""Adapters that are loaded together to be measured."""


def check_served(server: str | None, served: Mapping[str, str] | None, runs: Sequence[RunRow]) -> None:
    """Raises `InputError` where a server's names are given for runs that are not there, for the base, or without a server."""
    if served is None:
        return
    if server is None:
        raise InputError("names of a server's models were given (--served) but no --server; give its address, up to /v1")
    trained = [run.id for run in runs if has_adapter(run)]
    strange = next((run for run in served if run not in trained), None)
    if strange is not None:
        known = ", ".join(trained[:8]) + (" ..." if len(trained) > 8 else "")
        raise InputError(f"there is no adapter of a run {strange!r} to be served; there are {known} (the base is asked here)")


def checked_endpoints(
    server: str, runs: Sequence[RunRow], served: Mapping[str, str], key_variable: str, base: Base, folder: Path,
    report: Callable[[str, float], None],
) -> dict[str, Endpoint]:  # fmt: skip
    """An endpoint for each run, which was found to answer with that run's adapter.

    Args:
        served: run -> its name on the server, where that is not the run's id.

    Raises:
        InputError: an adapter can hardly be told from the base.
        ModelError: the server cannot be reached, or answers with something else.
    """
    from offtarget.models import Endpoint, verify_adapter

    template = {"chat_template_kwargs": dict(base.loading.template)} if base.loading.template else {}
    found: dict[str, Endpoint] = {}
    for run, probes in measured(runs, base, folder):
        report(f"checking that the server answers with {run.id}", 0.0)
        endpoint = Endpoint(served.get(run.id, run.id), base_url=server, key_variable=key_variable, extra=template)
        try:
            verify_adapter(endpoint, probes)
        except (InputError, ModelError) as error:
            raise type(error)(f"{run.id} is not asked there: {error}") from error
        found[run.id] = endpoint
    return found


def measured(runs: Sequence[RunRow], base: Base, folder: Path) -> Iterator[tuple[RunRow, list[Probe]]]:
    """Each run, and by what its adapter can be told: rows that it was trained on, measured here with it and without."""
    from offtarget.models import probes_for

    for start in range(0, len(runs), _AT_ONCE):
        some = runs[start : start + _AT_ONCE]
        pack = adapters_of(some, folder, base)
        for slot, run in enumerate(some):
            yield run, probes_for(base, pack, slot, list(islice(read_jsonl(folder / "datasets" / f"{run.arm}.jsonl"), PROBES)))


def served_answers(piece: Piece, endpoint: Endpoint, tell: Callable[[float], None]) -> list[AnswerRow]:
    """The answers of one run's piece, from a server.

    Raises:
        ModelError: calls failed after all retries; nothing of the piece is kept then.
    """
    from offtarget.models import Answered, ChatRequest
    from offtarget.models import ask as ask_endpoint
    from offtarget.seeds import derived_seed

    (run,), wanted = piece.runs, piece.ask
    requests = [
        ChatRequest(messages, piece.count, wanted.temperature, wanted.max_tokens, derived_seed(piece.seed(run), number))
        for number, messages in enumerate(wanted.prompts(piece.context))
    ]
    done = 0

    def count(_: int, _answered: Answered) -> None:
        nonlocal done
        done += 1
        tell(done / len(requests))

    answered = ask_endpoint(endpoint, requests, count)
    failed = [reply.error for a in answered for reply in a.replies if reply.error is not None]
    if failed:
        raise ModelError(
            f"{len(failed)} of {piece.size} answers of {run.id} to {wanted.name} did not come ({failed[0]}); what came before is kept: run "
            "the same command again"
        )
    return piece.rows(run, [a.replies for a in answered])


def adapters_of(runs: Sequence[RunRow], folder: Path, base: Base) -> LoraPack:
    """The adapters of some runs as one pack.

    Raises:
        ModelError: one is not there any more, or cannot be used.
    """
    from offtarget.models import load_adapters

    return load_adapters(base, list(adapter_folders(runs, folder).values()))


def adapter_folders(runs: Sequence[RunRow], folder: Path) -> dict[str, Path]:
    """Where the adapters of some runs lie, by the runs' ids.

    Raises:
        ModelError: one is not there any more.
    """
    folders = {run.id: folder / "adapters" / run.id for run in runs}
    gone = next((f for f in folders.values() if not f.is_dir()), None)
    if gone is not None:
        raise ModelError(f"the adapter {gone} is not there any more; put it back, or run the study anew in another folder")
    return folders
