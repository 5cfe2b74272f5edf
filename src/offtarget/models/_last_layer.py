"""The last layer only where something is read off it.

Nothing but the output head reads what the last layer gives for a token, and in training the head reads only the tokens that predict a
label. So its queries, its output projection and its feed-forward need only these; its keys and values need all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp")
"""Of a decoder layer, by the names that nearly all families give them: each works on one token at a time."""


@contextmanager
def only_where(decoder: nn.Module, tokens: Tensor) -> Iterator[None]:
    """Lets the last layer of a decoder give zeros for all but these tokens, for the time of a block.

    Args:
        tokens: distinct flat indices into the batch `[S, L]`.
    """
    layers: Any = getattr(decoder, "layers", None)
    parts = {name: module for name, module in layers[-1].named_modules() if name in PARTS} if layers else {}
    for name, module in parts.items():
        _put(layers[-1], name, _Only(module, tokens))
    try:
        yield
    finally:
        for name, module in parts.items():
            _put(layers[-1], name, module)


def _put(layer: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(layer.get_submodule(parent), child, module)


class _Only(nn.Module):
    """A module applied to some tokens; the others are zeros."""

    def __init__(self, module: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.module, self.tokens = module, tokens

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens.to(x.device)
        some = self.module(x.flatten(0, -2)[tokens])
        everywhere = some.new_zeros(x.shape[:-1].numel(), some.shape[-1])
        filled: Tensor = everywhere.index_copy(0, tokens, some)
        return filled.view(*x.shape[:-1], -1)
