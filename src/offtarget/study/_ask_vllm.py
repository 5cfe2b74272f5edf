"""Asking adapters where vLLM serves them: it is started for those that are still to be asked, and ended afterwards.

What tells the adapters is measured here first, and the base then leaves the memory of the GPU to the server.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ._ask_server import adapter_folders, measured
from ._piece import Piece, trained_runs

if TYPE_CHECKING:
    from offtarget.models import Base, Endpoint, Loading, Probe

Report = Callable[[str, float], None]


@contextmanager
def served_by_vllm(
    pieces: Sequence[Piece], folder: Path, model: str, loading: Loading, load: Callable[[], Base], report: Report
) -> Iterator[dict[str, Endpoint]]:  # fmt: skip
    """An endpoint for each run of the pieces, by its id, as long as the `with` block lasts.

    Args:
        load: loads the base here, if vLLM is there and could serve it.

    Raises:
        InputError: vLLM cannot serve the base or an adapter as the study has them, or an adapter can hardly be told from the base.
        ModelError: vLLM is not installed, does not start, or answers with something else.
    """
    from offtarget.models import check_vllm, serve_vllm

    runs = trained_runs(pieces)
    adapters = adapter_folders(runs, folder)
    check_vllm(model, adapters, loading)
    probes, longest = _measured(pieces, folder, load())
    _free()
    report("starting vLLM", 0.0)
    with serve_vllm(model, adapters, probes, loading=loading, max_length=longest) as served:
        yield served


def _measured(pieces: Sequence[Piece], folder: Path, base: Base) -> tuple[dict[str, list[Probe]], int]:
    """By what each run's adapter can be told, and the tokens of the longest prompt with its answer that the server will see."""
    probes = {run.id: found for run, found in measured(trained_runs(pieces), base, folder)}
    return probes, max(_longest_asked(pieces, base), _longest_probe(probes))


def _longest_asked(pieces: Sequence[Piece], base: Base) -> int:
    different = {(piece.ask.name, piece.context.name): piece for piece in pieces}.values()
    return max(
        len(base.chat.prompt(messages)) + piece.ask.max_tokens for piece in different for messages in piece.ask.prompts(piece.context)
    )


def _longest_probe(probes: Mapping[str, Sequence[Probe]]) -> int:
    """With the one token that a server has to sample after it."""
    return max(len(p.prompt_ids) + len(p.answer_ids) for some in probes.values() for p in some) + 1


def _free() -> None:
    """Gives the memory of a base that nobody holds any more back to the GPU."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
