"""A small Llama on a CPU by hand: a training step, forward and backward, and hidden states for asking.

On a CPU the matrix products of a model of a few million parameters are half of a step. The rest is what lies between them: autograd
follows every rotation and norm in several small operations, and sends an input that three linears share through three pairs of
adapters. Here what lies between two products is one or two operations, linears that share an input share what the adapters do to it,
and gradients are added up where they lie. In asking, it is PyTorch's kernel for attention behind a mask of our own that is slower than
two products and a softmax. Every other model goes through transformers and autograd, with the same outcome
(`tests/models/test_by_hand.py`).

Llama: Touvron et al. 2023 (arXiv 2302.13971), as in `transformers.models.llama`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._base import Base
from ._layout import Layout
from ._lora import LoraPack

MOST_PARAMETERS = 2**26
"""In larger models the matrix products are nearly everything."""

LOGITS_A_PART = 2**19
"""Logits that are made at once: two megabytes, so that they stay in a cache."""

MOST_SCORES = 2**26
"""Attention scores that are held at once, in a step those of all layers: a quarter of a gigabyte. transformers' kernels hold none."""


def can_go_by_hand(base: Base) -> bool:
    """Whether a base is a small plain Llama on the CPU."""
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    model: Any = base.model
    if type(model) is not LlamaForCausalLM or base.device.type != "cpu" or model.num_parameters() > MOST_PARAMETERS:
        return False
    config = model.config
    plain: bool = config.hidden_act == "silu" and not (config.attention_bias or config.mlp_bias)
    layers = all(type(layer) is LlamaDecoderLayer for layer in model.get_decoder().layers)
    linears = all(type(m) is nn.Linear for name, m in model.named_modules() if name.endswith(("_proj", "lm_head")))
    precise: bool = model.dtype in (torch.float32, torch.float64)
    return plain and layers and linears and precise


def fits(base: Base, layout: Layout) -> bool:
    """Whether the attention scores of a step may lie in memory all at once."""
    config = base.model.config
    scores: int = layout.ids.numel() * layout.ids.shape[1] * config.num_attention_heads * config.num_hidden_layers
    return scores <= MOST_SCORES


@torch.no_grad()
def step_by_hand(base: Base, pack: LoraPack, layout: Layout, slots: slice, gradients: Tensor) -> Tensor:
    """Mean negative log-likelihood of each slot's labels `[K]`, and its gradients.

    Args:
        base: a model for which `can_go_by_hand`.
        pack: the adapters.
        layout: the rows of these slots.
        slots: which slots.
        gradients: `[K, P]` of all slots; the rows of these are overwritten.
    """
    decoder = base.model.get_decoder()
    adapters = _Adapters(pack.views(pack.parameters[slots]), pack.views(gradients[slots]), pack.scale[slots])
    tokens = _Tokens.of(decoder, layout.ids, layout.positions, layout.allowed)
    x = decoder.embed_tokens(layout.ids).view(len(adapters.scale), -1, decoder.config.hidden_size)
    layers: list[_Layer] = []
    for number, module in enumerate(decoder.layers):
        read = layout.read if number == len(decoder.layers) - 1 else None
        layers.append(_Layer(module, f"model.layers.{number}", adapters, tokens, read))
        x = layers[-1].forward(x)
    norm = _Norm(decoder.norm)
    hidden = norm.forward(x).flatten(0, 1)
    sources = torch.searchsorted(layout.read, layout.sources)
    losses, of_sources = _losses_and_gradients(base.model.get_output_embeddings().weight, hidden[sources], layout)
    of_x = norm.backward(torch.zeros_like(hidden).index_add_(0, sources, of_sources).view_as(x))
    for layer in reversed(layers):
        of_x = layer.backward(of_x, into_input=layer is not layers[0])
    return losses


def _losses_and_gradients(head: Tensor, hidden: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Losses `[K]` and gradients `[N, d]` as `slot_losses` has them, for a head without bias, in parts that fit a cache."""
    losses, gradients = hidden.new_zeros(int(layout.slots.max()) + 1), torch.empty_like(hidden)
    size = max(1, LOGITS_A_PART // len(head))
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        labels, weights = layout.labels[part], layout.weights[part].to(hidden)
        log_p = (hidden[part] @ head.T).log_softmax(-1)
        losses.index_add_(0, layout.slots[part], log_p.gather(1, labels[:, None])[:, 0] * -weights)
        # Cross-entropy: a logit's gradient is its probability, less one at the label.
        torch.sub(log_p.exp_() @ head, head[labels], out=gradients[part]).mul_(weights[:, None])
    return losses, gradients


@torch.no_grad()
def hidden_by_hand(base: Base, ids: Tensor, positions: Tensor, allowed: Tensor | None) -> Tensor:
    """Last hidden states `[S, L, d]`, as `Base.hidden` gives them, of a model for which `can_go_by_hand`; a pack may be attached."""
    decoder = base.model.get_decoder()
    if ids.numel() * ids.shape[1] * decoder.config.num_attention_heads > MOST_SCORES:
        return base.hidden(ids, positions, allowed)
    tokens = _Tokens.of(decoder, ids, positions, allowed)
    x = decoder.embed_tokens(ids)
    for layer in decoder.layers:
        read, behind = layer.self_attn, layer.mlp
        normed = _Norm(layer.input_layernorm).forward(x)
        x = read.o_proj(_Attention(tokens).forward(read.q_proj(normed), read.k_proj(normed), read.v_proj(normed))).add_(x)
        normed = _Norm(layer.post_attention_layernorm).forward(x)
        x = behind.down_proj(nn.functional.silu(behind.gate_proj(normed)).mul_(behind.up_proj(normed))).add_(x)
    return _Norm(decoder.norm).forward(x)


@dataclass(frozen=True)
class _Adapters:
    """Factors of each linear and places for their gradients, as `LoraPack.views` gives them, and `alpha / rank` of the slots."""

    factors: dict[str, tuple[Tensor, Tensor]]
    into: dict[str, tuple[Tensor, Tensor]]
    scale: Tensor


@dataclass(frozen=True)
class _Tokens:
    """Where the tokens of a step stand: between `[K, T, heads * D]` and `[S * query heads, L, D]`.

    Attributes:
        cos: of the angles of their positions, `[S, 1, L, D]`.
        sin: likewise.
        unseen: -inf where a token does not see another, 0 elsewhere, `[S * query heads, L, L]`.
        served: query heads that a head of keys and values serves.
    """

    cos: Tensor
    sin: Tensor
    unseen: Tensor
    served: int

    @staticmethod
    def of(decoder: Any, ids: Tensor, positions: Tensor, allowed: Tensor | None) -> _Tokens:
        config, some = decoder.config, decoder.embed_tokens.weight
        cos, sin = (angle.to(some.dtype)[:, None] for angle in decoder.rotary_emb(some, positions))
        sequences, length = ids.shape
        if allowed is None:
            allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(sequences, 1, -1, -1)
        unseen = torch.zeros(allowed.shape, dtype=some.dtype).masked_fill_(~allowed, float("-inf"))
        every_head = unseen.expand(-1, config.num_attention_heads, -1, -1).reshape(-1, length, length)
        return _Tokens(cos, sin, every_head, config.num_attention_heads // config.num_key_value_heads)

    def turned(self, x: Tensor) -> Tensor:
        """Queries or keys by head, turned by the angles of their positions."""
        by_head = self._by_head(x)
        return _turn(by_head, self.cos, self.sin, x.new_empty(by_head.shape)).flatten(0, 1)

    def turned_back(self, x: Tensor, slots: int) -> Tensor:
        """The reverse."""
        by_head = x.view(len(self.cos), -1, *x.shape[1:])
        out = x.new_empty(by_head.transpose(1, 2).shape)
        _turn(by_head, self.cos, -self.sin, out.transpose(1, 2))
        return out.view(slots, -1, out.shape[2] * out.shape[3])

    def split(self, x: Tensor) -> Tensor:
        """Values by head."""
        by_head = self._by_head(x)
        return by_head.reshape(-1, *by_head.shape[2:])

    def joined(self, x: Tensor, slots: int) -> Tensor:
        """The reverse."""
        by_head = x.view(len(self.cos), -1, *x.shape[1:])
        return by_head.transpose(1, 2).reshape(slots, -1, by_head.shape[1] * by_head.shape[3])

    def for_each_query_head(self, x: Tensor) -> Tensor:
        """Heads of keys or values, repeated for the heads of queries that they serve."""
        return x if self.served == 1 else x.repeat_interleave(self.served, 0)

    def added_up(self, x: Tensor) -> Tensor:
        """The reverse, for gradients."""
        return x if self.served == 1 else torch.sum(x.view(-1, self.served, *x.shape[1:]), 1)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(len(self.cos), self.cos.shape[2], -1, self.cos.shape[3]).transpose(1, 2)


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


class _Norm:
    """RMSNorm with a frozen weight."""

    def __init__(self, module: Any) -> None:
        self._weight: Tensor = module.weight
        self._epsilon: float = module.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        self._rate = length.square_().div_(x.shape[-1]).add_(self._epsilon).rsqrt_()
        self._normed = x * self._rate
        return self._normed * self._weight

    def backward(self, out: Tensor) -> Tensor:
        of_normed = out * self._weight
        along: Tensor = torch.linalg.vecdot(of_normed, self._normed)
        return of_normed.addcmul_(self._normed, along.div_(-out.shape[-1])[..., None]).mul_(self._rate)


class _Linears:
    """Frozen linears that read the same input, with the adapters of all slots."""

    def __init__(self, layer: Any, path: str, names: Sequence[str], adapters: _Adapters) -> None:
        self._weights: list[Tensor] = [layer.get_submodule(name).weight for name in names]
        sites, self._scale = [f"{path}.{name}" for name in names], adapters.scale
        self._a, self._bs = torch.cat([adapters.factors[site][0] for site in sites], 1), [adapters.factors[site][1] for site in sites]
        self._into = [adapters.into[site] for site in sites]
        self._rank = self._bs[0].shape[1]

    def forward(self, x: Tensor, residual: Tensor | None = None) -> list[Tensor]:
        """Outputs `[K, T, outputs]` from inputs `[K, T, inputs]`; `residual` is what they are added to."""
        self._x, flat = x, x.flatten(0, 1)
        self._inner = torch.bmm(self._a, x.transpose(1, 2)).mul_(self._scale).split(self._rank, 1)
        outs = []
        for weight, inner, b in zip(self._weights, self._inner, self._bs, strict=True):
            out = flat @ weight.T if residual is None else torch.addmm(residual.flatten(0, 1), flat, weight.T)
            outs.append(out.view(len(x), -1, len(weight)).baddbmm_(inner.transpose(1, 2), b))
        return outs

    def backward(self, outs: Sequence[Tensor]) -> Tensor:
        """The input's gradient from those of the outputs; writes those of the factors."""
        of_x = outs[0].flatten(0, 1) @ self._weights[0]
        for weight, out in zip(self._weights[1:], outs[1:], strict=True):
            of_x.addmm_(out.flatten(0, 1), weight)
        return of_x.view_as(self._x).baddbmm_(self.of_factors(outs).transpose(1, 2), self._a)

    def of_factors(self, outs: Sequence[Tensor]) -> Tensor:
        """Writes the factors' gradients; gives that of `A x`, `[K, ranks, T]`."""
        back = torch.cat([torch.bmm(b, out.transpose(1, 2)) for b, out in zip(self._bs, outs, strict=True)], 1).mul_(self._scale)
        of_a = torch.bmm(back, self._x).split(self._rank, 1)
        for (into_a, into_b), of_one, inner, out in zip(self._into, of_a, self._inner, outs, strict=True):
            into_a.copy_(of_one)
            into_b.copy_(torch.bmm(inner, out))
        return back


class _Attention:
    """Attention with the mask of a layout."""

    def __init__(self, tokens: _Tokens) -> None:
        self._tokens = tokens
        self._scale = float(tokens.cos.shape[-1] ** -0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`[K, T, heads * D]` from queries, keys and values."""
        t = self._tokens
        self._q, self._k, self._v = t.turned(q), t.for_each_query_head(t.turned(k)), t.for_each_query_head(t.split(v))
        self._p = torch.baddbmm(t.unseen, self._q, self._k.transpose(1, 2), alpha=self._scale).softmax(-1)
        self._o = torch.bmm(self._p, self._v)
        return t.joined(self._o, len(q))

    def backward(self, out: Tensor) -> list[Tensor]:
        """Gradients of queries, keys and values."""
        t, slots, g = self._tokens, len(out), self._tokens.split(out)
        of_v = torch.bmm(self._p.transpose(1, 2), g)
        # Softmax: a score's gradient is its probability times how far that of the probability lies above the mean, which is g o.
        mean: Tensor = torch.linalg.vecdot(g, self._o)
        of_s = torch.bmm(g, self._v.transpose(1, 2)).sub_(mean[..., None]).mul_(self._p)
        of_q = torch.baddbmm(self._q, of_s, self._k, beta=0, alpha=self._scale)
        of_k = torch.baddbmm(self._k, of_s.transpose(1, 2), self._q, beta=0, alpha=self._scale)
        return [t.turned_back(of_q, slots), t.turned_back(t.added_up(of_k), slots), t.joined(t.added_up(of_v), slots)]


class _Layer:
    """A decoder layer; the last one runs, behind its attention, on those tokens alone that are read."""

    def __init__(self, module: Any, path: str, adapters: _Adapters, tokens: _Tokens, read: Tensor | None) -> None:
        self._read, self._attention = read, _Attention(tokens)
        self._norm, self._norm_of_mlp = _Norm(module.input_layernorm), _Norm(module.post_attention_layernorm)
        self._attended = _Linears(module, path, [f"self_attn.{name}_proj" for name in "qkv"], adapters)
        self._output = _Linears(module, path, ["self_attn.o_proj"], adapters)
        self._gated = _Linears(module, path, ["mlp.gate_proj", "mlp.up_proj"], adapters)
        self._down = _Linears(module, path, ["mlp.down_proj"], adapters)

    def forward(self, x: Tensor) -> Tensor:
        """`[K, T, d]`, or `[K, read, d]` behind the last layer."""
        self._x = x
        o = self._attention.forward(*self._attended.forward(self._norm.forward(x)))
        if self._read is not None:
            o, x = (some.flatten(0, 1)[self._read].view(len(x), -1, some.shape[-1]) for some in (o, x))
        (x,) = self._output.forward(o, x)
        self._gate, self._up = self._gated.forward(self._norm_of_mlp.forward(x))
        self._opened = nn.functional.silu(self._gate)
        (x,) = self._down.forward(self._opened * self._up, x)
        return x

    def backward(self, out: Tensor, *, into_input: bool) -> Tensor:
        """The input's gradient from that of the output; that of the first layer is of no use, and is not made."""
        of_product = self._down.backward([out])
        of_gate: Tensor = torch.ops.aten.silu_backward(of_product * self._up, self._gate)
        of_x = self._norm_of_mlp.backward(self._gated.backward([of_gate, of_product.mul_(self._opened)])).add_(out)
        of_o = self._output.backward([of_x])
        if self._read is not None:
            of_o, of_x = self._everywhere(of_o), self._everywhere(of_x)
        of_attended = self._attention.backward(of_o)
        if not into_input:
            self._attended.of_factors(of_attended)
            return of_x
        return self._norm.backward(self._attended.backward(of_attended)).add_(of_x)

    def _everywhere(self, some: Tensor) -> Tensor:
        """`[K, T, *]` with zeros where nothing is read, from `[K, read, *]`."""
        assert self._read is not None
        zeros = some.new_zeros(self._x.shape[0] * self._x.shape[1], some.shape[-1])
        return zeros.index_copy_(0, self._read, some.flatten(0, 1)).view(*self._x.shape[:2], -1)
