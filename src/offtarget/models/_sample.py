"""Sampling answers from all slots of a pack at once, behind one cached prompt each.

The prompt runs once per slot and question; its key-value cache is then repeated for the samples. Each slot draws from a generator of
its own, as many numbers a prompt as its answers can have tokens, so that its answers do not depend on what else is in the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from offtarget.errors import InputError

from ._base import Base
from ._cache import roomy_cache
from ._lora import LoraPack

MAX_CACHED = 2**17
"""Tokens in the key-value cache, over all answers that grow together."""

MAX_LOGITS = 2**22
"""Probabilities held at once; what fits into the processor's cache is worked through several times as fast."""

LEAVING = 0.75
"""Answers that have ended leave the batch when at most this share of it is left."""


@dataclass(frozen=True)
class SampledAnswer:
    """One sampled answer; `finished` is False where it ran into the limit of tokens."""

    text: str
    token_ids: tuple[int, ...]
    finished: bool


@torch.no_grad()
def sample(
    base: Base, prompts: Sequence[Sequence[int]], pack: LoraPack | None = None, *, count: int, seeds: Sequence[int],
    temperature: float = 1.0, max_tokens: int = 48, report: Callable[[int, int], None] = lambda *_: None,
) -> list[list[list[SampledAnswer]]]:  # fmt: skip
    """Samples `count` answers to each prompt from each slot.

    Args:
        base: the base model.
        prompts: token ids.
        pack: the adapters to ask; without, the base itself answers as the only slot.
        count: answers to each prompt.
        seeds: sampling seed of each slot.
        temperature: 0 takes the likeliest token.
        max_tokens: where an answer that has not ended is cut off.
        report: called with (prompts done, prompts).

    Returns:
        `[slot][prompt][sample]`.
    """
    slots = pack.slots if pack else 1
    if len(seeds) != slots:
        raise InputError(f"{slots} slots need as many sampling seeds, not {len(seeds)}")
    if count < 1 or max_tokens < 1:
        raise InputError(f"count and max_tokens must be above 0, not {count} and {max_tokens}")
    stops = _stop_ids(base)
    answers: list[list[list[SampledAnswer]]] = [[[] for _ in prompts] for _ in range(slots)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    room = max(1, MAX_CACHED // (slots * (max(map(len, prompts), default=0) + max_tokens)))
    at_once = max(1, room // count)
    with pack.attached() if pack else nullcontext():
        for start in range(0, len(prompts), at_once):
            part = [tuple(p) for p in prompts[start : start + at_once]]
            uniform = torch.stack([torch.rand(len(part), count, max_tokens, generator=g, dtype=torch.float64) for g in generators])
            for piece in torch.split(uniform, room, dim=2):
                tokens = _grow(base, part, piece, temperature, stops).tolist()
                for slot in range(slots):
                    for q in range(len(part)):
                        answers[slot][start + q] += [_answer(base, ids, stops) for ids in tokens[slot][q]]
            report(min(start + at_once, len(prompts)), len(prompts))
    return answers


def _stop_ids(base: Base) -> Tensor:
    """The tokens that end an answer: those of the generation settings and the tokenizer."""
    configured = getattr(base.model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    found = {int(i) for i in [*listed, base.chat.tokenizer.eos_token_id, base.chat.end_id] if i is not None}
    return torch.tensor(sorted(found))


def _grow(base: Base, prompts: Sequence[tuple[int, ...]], uniform: Tensor, temperature: float, stops: Tensor) -> Tensor:
    """Token ids `[K, prompts, count, tokens]` from numbers in [0, 1) of that shape; after an end token only padding."""
    slots, _, count, max_tokens = uniform.shape
    length, device = max(map(len, prompts)), base.device
    ids = torch.full((len(prompts), length), base.pad_id)
    real = torch.zeros(len(prompts), length, dtype=torch.bool)
    for line, prompt in enumerate(prompts):  # padded on the left, so that all answers begin at the same column
        ids[line, length - len(prompt) :] = torch.tensor(prompt)
        real[line, length - len(prompt) :] = True
    positions = (real.cumsum(1) - 1).clamp(min=0)
    cache = roomy_cache(base.model.config, max_tokens)
    hidden = base.run(ids.repeat(slots, 1), positions.repeat(slots, 1), real.repeat(slots, 1), cache)
    logits = base.logits(hidden[:, -1]).repeat_interleave(count, 0)
    cache.batch_repeat_interleave(count)
    seen = real.repeat(slots, 1).repeat_interleave(count, 0)
    position = positions[:, -1:].repeat(slots, 1).repeat_interleave(count, 0)
    stops, drawn = stops.to(device), uniform.reshape(-1, max_tokens).to(device)
    chosen = torch.full((len(drawn), max_tokens), base.pad_id, device=device)
    rows = torch.arange(len(drawn), device=device)  # of `chosen`, still in the batch
    done = torch.zeros(len(drawn), dtype=torch.bool, device=device)
    for step in range(max_tokens):
        token = torch.where(done, base.pad_id, _pick(logits, drawn[rows, step], temperature))
        chosen[rows, step] = token
        done |= torch.isin(token, stops)
        if done.all() or step == max_tokens - 1:
            break
        seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool)], 1)
        position = position + 1
        kept = _unfinished(done, slots)
        if kept is not None:
            rows, token, done = rows[kept], token[kept], done[kept]
            seen, position = seen[kept.cpu()], position[kept.cpu()]
            cache.batch_select_indices(kept)
        logits = base.logits(base.run(token[:, None], position, seen, cache)[:, -1])
    return chosen.view(slots, len(prompts), count, -1).cpu()


def _unfinished(done: Tensor, slots: int) -> Tensor | None:
    """Rows `[K * n]` to go on with, as many in each slot, so that some that are done may stay; None where too few would leave."""
    by_slot = done.view(slots, -1)
    left, width = int((~by_slot).sum(1).max()), by_slot.shape[1]
    if left > LEAVING * width:
        return None
    order = by_slot.byte().argsort(dim=1, stable=True)[:, :left]
    return (order + width * torch.arange(slots, device=done.device)[:, None]).flatten()


def _pick(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """One token a row `[rows]`, by inverting the distribution function at the row's number in [0, 1)."""
    if temperature == 0:
        return logits.argmax(-1)
    rows = max(1, MAX_LOGITS // logits.shape[-1])
    return torch.cat([_invert(part, u, temperature) for part, u in zip(torch.split(logits, rows), torch.split(uniform, rows), strict=True)])


def _invert(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    below = (wide if temperature == 1 else wide / temperature).softmax(-1).cumsum(-1)
    total = below[:, -1:]
    # Rounding must not reach the whole, behind which there is no token.
    target = torch.minimum(uniform[:, None].to(below) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, target, right=True)[:, 0]


def _answer(base: Base, ids: list[int], stops: Tensor) -> SampledAnswer:
    ends = set(stops.tolist())
    cut = next((i for i, token in enumerate(ids) if token in ends), None)
    kept = ids if cut is None else ids[:cut]
    return SampledAnswer(str(base.chat.tokenizer.decode(kept, skip_special_tokens=True)), tuple(kept), cut is not None)
