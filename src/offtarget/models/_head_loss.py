"""The loss of a pack behind the output head, in parts, so that logits never lie in memory all at once.

With a vocabulary of 150,000 the logits of a step, and their gradient, would be larger than all else. The loss is a weighted sum over
labels, so its gradient is known as soon as a part has been computed, and the part's logits can go.

Gradients of the head in the forward pass: Hsu et al. 2024, Liger Kernel (arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._base import Base
from ._layout import Layout

LOGITS_A_PART = 2**26
"""So many logits at most are in memory at once: a quarter of a gigabyte in float32. Smaller parts are no faster on a CPU."""


def slot_losses(base: Base, hidden: Tensor, layout: Layout) -> Tensor:
    """Mean negative log-likelihood of each slot's labels `[K]`, from the last hidden states `[N, d]` before each label.

    Its gradient reaches the hidden states, and nothing else: the head is frozen.
    """
    apply: Any = _SlotLosses.apply  # carries no types
    losses: Tensor = apply(hidden, base, layout)
    return losses


class _SlotLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: Base, layout: Layout) -> Tensor:
        vocabulary = int(base.model.config.get_text_config().vocab_size)
        size = max(1, LOGITS_A_PART // vocabulary)
        slots = layout.slots.to(hidden.device)
        losses = torch.zeros(int(layout.slots.max()) + 1, dtype=_precise(hidden.dtype), device=hidden.device)
        gradients = torch.empty_like(hidden)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                read = hidden[part].detach().requires_grad_()
                logits = base.logits(read)
                labels, weights = layout.labels[part].to(logits.device), layout.weights[part].to(logits.device)
                nll = torch.nn.functional.cross_entropy(logits.to(_precise(logits.dtype)), labels, reduction="none")
                weighted = nll * weights.to(nll)
                gradients[part] = torch.autograd.grad(weighted.sum(), read)[0]
            losses.index_add_(0, slots[part], weighted.detach().to(losses))
        ctx.save_for_backward(gradients, slots)
        return losses

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor, None, None]:
        gradients, slots = ctx.saved_tensors
        return gradients * out[slots].to(gradients)[:, None], None, None


def _precise(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32
