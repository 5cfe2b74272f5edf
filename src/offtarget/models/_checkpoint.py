"""Activation checkpointing: the decoder's layers are run again in the backward pass instead of being kept in memory.

Chen et al. 2016 (arXiv 1604.06174). Gradients are the same; a step takes about a third longer and needs the memory of one layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

LARGE = 500_000_000
"""Parameters from which an accelerator's memory is spared by default."""


def is_large(model: Any) -> bool:
    """Whether a model is on an accelerator and so large that its activations crowd out adapters."""
    return bool(model.device.type != "cpu" and sum(p.numel() for p in model.parameters()) > LARGE)


@contextmanager
def checkpointed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Switches checkpointing on for the time of a block; dropout stays as it is, and so do the layers afterwards."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if wanted else []
    before = [(layer.training, layer.gradient_checkpointing) for layer in layers]
    for layer in layers:
        # Only the layer's own flag: those of its parts decide about dropout.
        layer.training, layer.gradient_checkpointing = True, True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    try:
        yield
    finally:
        for layer, (training, own) in zip(layers, before, strict=True):
            layer.training, layer.gradient_checkpointing = training, own
            del layer._gradient_checkpointing_func
