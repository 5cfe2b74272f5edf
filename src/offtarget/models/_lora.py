"""LoRA packs: K adapters over one frozen base, trained or asked in one pass.

The batch is ordered by slot, `[K * rows, length]`, so each wrapped linear is one base GEMM over all tokens and two batched
products for the adapters. All adapter parameters of a pack lie in one tensor `[K, P]`, so that the optimiser, the clipping and
the gradients of a slot are rows of it and slots cannot touch each other.

LoRA: Hu et al. 2021 (arXiv 2106.09685). Stacking adapters over one base: mLoRA (2312.02515), PLoRA (2508.02932).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offtarget.errors import ModelError

MAX_MERGED_BYTES = 2**29
"""Up to this size of all slots' merged weights, asking merges the adapters into them: a third faster on small models."""


@dataclass(frozen=True)
class AdapterShape:
    """Rank and scaling of one LoRA adapter; the update is `alpha / rank * B A`."""

    rank: int = 8
    alpha: float = 16.0


@dataclass(frozen=True)
class _Site:
    """One wrapped linear and where its two factors lie in a slot's row of parameters."""

    name: str
    inputs: int
    outputs: int
    start: int


class LoraPack:
    """K adapters on all linear layers of a model except the output head (PEFT's `all-linear`).

    A slot with smaller rank than the widest one has zeros beyond its rank in both factors; their gradients are exactly zero, so
    they stay zero.

    Attributes:
        parameters: `[K, P]`, all adapters; a slot's factors are views of its row.
        shapes: rank and alpha of each slot.
    """

    def __init__(self, model: nn.Module, shapes: Sequence[AdapterShape]) -> None:
        self.model = model
        self.shapes = tuple(shapes)
        self.width = max(s.rank for s in self.shapes)
        self._linears = _targets(model)
        some = next(iter(self._linears.values())).weight
        self.device = some.device
        self.dtype = torch.float64 if some.dtype == torch.float64 else torch.float32
        self._sites = list(_sites(self._linears, self.width))
        last = self._sites[-1]
        self.count = last.start + self.width * (last.inputs + last.outputs)
        self.parameters = torch.zeros(self.slots, self.count, dtype=self.dtype, device=self.device)
        self.scale = torch.tensor([s.alpha / s.rank for s in self.shapes], dtype=self.dtype, device=self.device).view(-1, 1, 1)

    @property
    def slots(self) -> int:
        return len(self.shapes)

    def initialise(self, seeds: Sequence[int]) -> None:
        """A uniform in +-1/sqrt(inputs) (Kaiming with a = sqrt(5), as PEFT), B zero; each slot from a generator of its own."""
        for slot, (shape, seed) in enumerate(zip(self.shapes, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            for site in self._sites:
                bound = 1 / math.sqrt(site.inputs)
                drawn = torch.empty(shape.rank, site.inputs).uniform_(-bound, bound, generator=generator)
                a, b = self.factors(site.name)
                a[slot].zero_()
                a[slot, : shape.rank] = drawn.to(a)
                b[slot].zero_()

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        """Views of `A [K, width, inputs]` and `B [K, width, outputs]` of one linear."""
        return self._views(self.parameters, next(s for s in self._sites if s.name == name))

    def _views(self, flat: Tensor, site: _Site) -> tuple[Tensor, Tensor]:
        middle, end = site.start + site.inputs * self.width, site.start + (site.inputs + site.outputs) * self.width
        a = flat[:, site.start : middle].view(-1, self.width, site.inputs)
        b = flat[:, middle:end].view(-1, self.width, site.outputs)
        return a, b

    def views(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Both factors of each linear, as `factors` gives them, in rows `[k, P]` of the parameters or their gradients."""
        return {site.name: self._views(flat, site) for site in self._sites}

    @property
    def names(self) -> list[str]:
        """Names of the wrapped linears, as in the model."""
        return [s.name for s in self._sites]

    @contextmanager
    def attached(self, gradients: Tensor | None = None, slots: slice = slice(None)) -> Iterator[None]:
        """Puts the adapters into the model for the time of a block; afterwards the model is as before.

        Args:
            gradients: `[K, P]`; where given, a backward pass overwrites the rows of these slots.
            slots: which of them; the batch is of these.
        """
        parameters, scale = self.parameters[slots], self.scale[slots]
        before: list[tuple[nn.Module, str, nn.Module]] = []
        try:
            for site in self._sites:
                parent, _, child = site.name.rpartition(".")
                owner = self.model.get_submodule(parent)
                linear = self._linears[site.name]
                factors = self._views(parameters, site)
                into = None if gradients is None else self._views(gradients[slots], site)
                before.append((owner, child, getattr(owner, child)))  # that of another pack, where one is attached already
                setattr(owner, child, self._wrapped(linear, factors, scale, into))
            yield
        finally:
            for owner, child, module in before:
                setattr(owner, child, module)

    def _wrapped(
        self, linear: nn.Linear, factors: tuple[Tensor, Tensor], scale: Tensor, gradients: tuple[Tensor, Tensor] | None
    ) -> nn.Module:
        merged = len(scale) * sum(s.inputs * s.outputs for s in self._sites) * linear.weight.element_size()
        if gradients is None and merged <= MAX_MERGED_BYTES:
            return _MergedLinear(linear, factors, scale)
        return _PackedLinear(linear, factors, scale, gradients)

    def select(self, slots: Sequence[int]) -> LoraPack:
        """A pack of some of the slots (copies)."""
        picked = LoraPack(self.model, [self.shapes[s] for s in slots])
        if picked.width != self.width:
            for name in self.names:
                for target, source in zip(picked.factors(name), self.factors(name), strict=True):
                    rows, columns = target.shape[1:]
                    target.copy_(source[list(slots), :rows, :columns])
        else:
            picked.parameters.copy_(self.parameters[list(slots)])
        return picked


class _PackedLinear(nn.Module):
    """A frozen linear and the adapters of all slots at it."""

    def __init__(self, linear: nn.Linear, factors: tuple[Tensor, Tensor], scale: Tensor, gradients: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.linear, self.factors, self.scale, self.gradients = linear, factors, scale, gradients
        self.in_features, self.out_features, self.weight = linear.in_features, linear.out_features, linear.weight
        self._fresh = True

    def keep(self, *gradients: Tensor) -> None:
        """Writes the factors' gradients; a linear that a model uses more than once adds them up."""
        assert self.gradients is not None
        for into, gradient in zip(self.gradients, gradients, strict=True):
            if self._fresh:
                into.copy_(gradient)
            else:
                into.add_(gradient)
        self._fresh = False

    def forward(self, x: Tensor) -> Tensor:
        (a, b), scale = (f.to(x.dtype) for f in self.factors), self.scale.to(x.dtype)
        by_slot = x.reshape(a.shape[0], -1, x.shape[-1])
        # Weights in 4 bits, and linears of a family's own, know best how they multiply.
        base = None if type(self.linear) is nn.Linear else self.linear(x).view(*by_slot.shape[:2], -1)
        # The anchor lets gradients flow to the factors even where the input itself needs none (the first layer).
        anchor = torch.empty(0, requires_grad=self.gradients is not None)
        apply: Any = _Update.apply  # carries no types
        out: Tensor = apply(by_slot, base, a, b, scale, self, anchor)
        return out.view(*x.shape[:-1], self.out_features)


class _MergedLinear(nn.Module):
    """A linear with each slot's update added to its weight: for asking only, where the weights of all slots fit in memory."""

    def __init__(self, linear: nn.Linear, factors: tuple[Tensor, Tensor], scale: Tensor) -> None:
        super().__init__()
        a, b = factors
        self.weights = torch.baddbmm(linear.weight.T.to(a), a.transpose(1, 2) * scale, b).to(linear.weight.dtype)
        self.bias, self.out_features = linear.bias, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        by_slot = x.reshape(self.weights.shape[0], -1, x.shape[-1])
        out = torch.bmm(by_slot, self.weights).view(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


class _Update(torch.autograd.Function):
    """`x W + scale * (x A) B` for all slots; its backward puts the factors' gradients where the pack wants them.

    Autograd would hold one gradient tensor a factor, and add up two gradients of each input; written by hand, all factors' gradients lie
    in the pack's one tensor, and products are added in place. The narrow products are written so that the rank is the number of rows:
    as the number of columns it makes them several times as slow on CPUs.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor | None, a: Tensor, b: Tensor, scale: Tensor, site: _PackedLinear, _anchor: Tensor
    ) -> Tensor:
        inner = torch.bmm(a, x.transpose(1, 2)).mul_(scale)
        ctx.save_for_backward(x, a, b, scale, inner)
        ctx.site, ctx.with_base = site, base is None
        if base is not None:
            return torch.baddbmm(base, inner.transpose(1, 2), b)
        return torch.nn.functional.linear(x, site.weight, site.linear.bias).baddbmm_(inner.transpose(1, 2), b)

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, scale, inner = ctx.saved_tensors
        back = torch.bmm(b, out.transpose(1, 2)).mul_(scale)
        ctx.site.keep(torch.bmm(back, x), torch.bmm(inner, out))
        if not ctx.needs_input_grad[0]:
            to_x = None
        elif ctx.with_base:
            to_x = torch.matmul(out, ctx.site.weight).baddbmm_(back.transpose(1, 2), a)
        else:
            to_x = torch.bmm(back.transpose(1, 2), a)
        return to_x, None if ctx.with_base else out, None, None, None, None, None


def _targets(model: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers but the output head; experts of a mixture see only some of the tokens and cannot be told by slot."""
    of_head: Any = getattr(model, "get_output_embeddings", None)
    head = of_head() if of_head else None
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and ".experts." not in name
        and name.rpartition(".")[2] not in ("router", "gate")
    }
    if not found:
        raise ModelError(f"{type(model).__name__} has no linear layers to put adapters on")
    return found


def _sites(linears: dict[str, nn.Linear], width: int) -> Iterator[_Site]:
    start = 0
    for name, linear in linears.items():
        yield _Site(name, linear.in_features, linear.out_features, start)
        start += width * (linear.in_features + linear.out_features)
