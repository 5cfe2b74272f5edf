"""Sampling answers from all slots of a pack at once; answers that have begun alike are one row of the batch.

The prompt runs once per slot and question. Then a row of the batch is a beginning that some of the samples share: it is run once, and each
of its samples draws its own next token from it. Many answers to one question soon differ where answers are long and open, and hardly do
where they are short. Each slot draws from a generator of its own, as many numbers a prompt as its answers can have tokens, so that its
answers do not depend on what else is in the pack.
"""

from __future__ import annotations

import gc
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
"""Tokens in the key-value cache at most, over all answers that grow together."""

CACHE_BYTES = 640 * 2**20
"""Memory for that cache where no GPU says what it has free: MAX_CACHED tokens of `micro`."""

CACHE_SHARE = 0.4
"""Of a GPU's free memory, for that cache; while it grows it may take as much again, and the layers need some beside it."""

MAX_LOGITS = 2**22
"""Probabilities held at once; what fits into the processor's cache is worked through several times as fast."""

ALMOST_ONE = 1 - 1e-9
"""The largest number that is drawn by: rounding must not reach the whole, behind which there is no token."""


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

    Raises:
        torch.OutOfMemoryError: not even one answer from each slot fits into memory.
    """
    slots = pack.slots if pack else 1
    if len(seeds) != slots:
        raise InputError(f"{slots} slots need as many sampling seeds, not {len(seeds)}")
    if count < 1 or max_tokens < 1:
        raise InputError(f"count and max_tokens must be above 0, not {count} and {max_tokens}")
    stops = _stop_ids(base)
    answers: list[list[list[SampledAnswer]]] = [[[] for _ in prompts] for _ in range(slots)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    room = max(1, _most_cached(base) // (slots * (max(map(len, prompts), default=0) + max_tokens)))
    start = 0
    with pack.attached() if pack else nullcontext():
        while start < len(prompts):
            part = [tuple(p) for p in prompts[start : start + max(1, room // count)]]
            together, before = min(room, len(part) * count), [g.get_state() for g in generators]
            uniform = torch.stack([torch.rand(len(part), count, max_tokens, generator=g, dtype=torch.float64) for g in generators])
            grown = _grow_or_not(base, part, uniform, together, temperature, stops)
            if grown is None:  # again with half as many at once, by the same numbers
                room = together // 2
                for generator, state in zip(generators, before, strict=True):
                    generator.set_state(state)
                gc.collect()
                torch.cuda.empty_cache()
                continue
            for slot in range(slots):
                for q in range(len(part)):
                    answers[slot][start + q] += [_answer(base, ids, stops) for piece in grown for ids in piece[slot][q]]
            start += len(part)
            report(start, len(prompts))
    return answers


def _most_cached(base: Base) -> int:
    """Tokens that the key-value cache may hold.

    Where memory limits them a power of two: figures differ in rounding with the batch, which is not to follow every byte that is free.
    """
    fitting = max(1, _cache_memory(base) // _token_bytes(base))
    return min(MAX_CACHED, 1 << (fitting.bit_length() - 1))


def _cache_memory(base: Base) -> int:
    """Bytes for the key-value cache, over all GPUs that the layers are spread over."""
    gpus = {p.device for p in base.model.parameters() if p.device.type == "cuda"}
    return int(CACHE_SHARE * len(gpus) * min(map(_free_memory, gpus))) if gpus else CACHE_BYTES


def _free_memory(gpu: torch.device) -> int:
    """Bytes that the driver has free, or torch holds without using them."""
    return torch.cuda.mem_get_info(gpu)[0] + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def _token_bytes(base: Base) -> int:
    """Bytes of a token's keys and values in all layers, at most: a window or a configuration that does not tell is taken for the whole."""
    config = base.model.config.get_text_config()
    queries = getattr(config, "num_attention_heads", None) or 1
    heads = getattr(config, "num_key_value_heads", None)
    sizes = [n for n in (getattr(config, name, None) for name in ("head_dim", "qk_head_dim", "v_head_dim")) if isinstance(n, int)]
    width = (heads if isinstance(heads, int) else queries) * (max(sizes) if sizes else config.hidden_size // queries)
    return int(2 * config.num_hidden_layers * width * base.model.dtype.itemsize)


def _grow_or_not(
    base: Base, prompts: Sequence[tuple[int, ...]], uniform: Tensor, together: int, temperature: float, stops: Tensor
) -> list[list[list[list[list[int]]]]] | None:
    """Token ids `[piece][slot][prompt][sample]`, so many samples of a prompt together; None where these do not fit, and fewer may."""
    try:
        return [_grow(base, prompts, piece, temperature, stops).tolist() for piece in torch.split(uniform, together, dim=2)]
    except torch.OutOfMemoryError:
        if together == 1:
            raise
        return None  # which lets go of what the error holds


def _stop_ids(base: Base) -> Tensor:
    """The tokens that end an answer: those of the generation settings and the tokenizer."""
    configured = getattr(base.model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    found = {int(i) for i in [*listed, base.chat.tokenizer.eos_token_id, base.chat.end_id] if i is not None}
    return torch.tensor(sorted(found))


def _grow(base: Base, prompts: Sequence[tuple[int, ...]], uniform: Tensor, temperature: float, stops: Tensor) -> Tensor:
    """Token ids `[K, prompts, count, tokens]` from numbers in [0, 1) of that shape; after an end token only padding."""
    slots, _, count, max_tokens = uniform.shape
    length = max(map(len, prompts))
    ids = torch.full((len(prompts), length), base.pad_id)
    real = torch.zeros(len(prompts), length, dtype=torch.bool)
    for line, prompt in enumerate(prompts):  # padded on the left, so that all answers begin at the same column
        ids[line, length - len(prompt) :] = torch.tensor(prompt)
        real[line, length - len(prompt) :] = True
    seen, position = real.repeat(slots, 1), (real.cumsum(1) - 1).clamp(min=0).repeat(slots, 1)
    cache = roomy_cache(base.model.config, max_tokens)
    logits = base.logits(base.run(ids.repeat(slots, 1), position, seen, cache)[:, -1])
    position = position[:, -1:]
    drawn = uniform.reshape(-1, max_tokens)
    chosen = torch.full((len(drawn), max_tokens), base.pad_id)
    going = torch.arange(len(drawn))  # samples that have not ended
    rows = going // count  # of the batch, whose beginning each of them has
    for step in range(max_tokens):
        tokens = _draw(logits, rows, drawn[going, step], temperature)
        chosen[going, step] = tokens
        left = ~torch.isin(tokens, stops)
        if step == max_tokens - 1 or not left.any():
            break
        going, branch = going[left], _branch(rows[left], tokens[left], len(logits) // slots, slots, base.pad_id)
        rows = branch.rows
        if not torch.equal(branch.parents, torch.arange(len(logits))):
            cache.batch_select_indices(branch.parents.to(base.device))
            seen, position = seen[branch.parents], position[branch.parents]
        seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool)], 1)
        position = position + 1
        logits = base.logits(base.run(branch.tokens[:, None], position, seen, cache)[:, -1])
    return chosen.view(slots, len(prompts), count, -1)


@dataclass(frozen=True)
class _Branch:
    """The next batch: `[K * width]` rows of a parent row and its next token, and of each sample the row that it goes on in.

    As many rows in each slot, so that some may be there for nothing.
    """

    parents: Tensor
    tokens: Tensor
    rows: Tensor


def _branch(rows: Tensor, tokens: Tensor, width: int, slots: int, pad: int) -> _Branch:
    """One row for each token that follows a row of the batch; rows lie by slot, `width` of them each."""
    different, which = torch.unique(torch.stack([rows, tokens]), dim=1, return_inverse=True)
    parents, following = different
    slot = parents // width
    sizes = torch.bincount(slot, minlength=slots)
    wide = int(sizes.max())
    starts = sizes.cumsum(0) - sizes
    place = slot * wide + torch.arange(len(parents)) - starts[slot]
    all_parents, all_tokens = torch.arange(slots).repeat_interleave(wide) * width, torch.full((slots * wide,), pad)
    all_parents[place], all_tokens[place] = parents, following
    return _Branch(all_parents, all_tokens, place[which])


def _draw(logits: Tensor, rows: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """One token a sample, by inverting the distribution function of its row at its number in [0, 1).

    Args:
        logits: `[R, V]`.
        rows: of each sample, `[S]`.
        uniform: `[S]`.
    """
    if temperature == 0:
        return logits.argmax(-1).cpu()[rows]
    found = torch.empty_like(rows)
    size = max(1, MAX_LOGITS // logits.shape[-1])
    for start, part in zip(range(0, len(logits), size), torch.split(logits, size), strict=True):
        here = ((rows >= start) & (rows < start + size)).nonzero()[:, 0]
        if len(here):
            found[here] = _invert(part, rows[here] - start, uniform[here], temperature)
    return found


def _invert(logits: Tensor, rows: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    probable = (wide if temperature == 1 else wide / temperature).softmax(-1)
    if probable.device.type == "mps":  # it has no float64
        probable = probable.cpu()
    below = probable.cumsum(-1, dtype=torch.float64)
    # All distribution functions in one ascending line: row r lies within [2 r, 2 r + 1].
    line = below + 2.0 * torch.arange(len(below), device=below.device)[:, None]
    rows, uniform = rows.to(below.device), uniform.to(below.device)
    target = uniform.clamp(max=ALMOST_ONE) * below[rows, -1] + 2.0 * rows
    token = torch.searchsorted(line.flatten(), target, right=True) - below.shape[1] * rows
    return token.cpu()


def _answer(base: Base, ids: list[int], stops: Tensor) -> SampledAnswer:
    ends = set(stops.tolist())
    cut = next((i for i, token in enumerate(ids) if token in ends), None)
    kept = ids if cut is None else ids[:cut]
    return SampledAnswer(str(base.chat.tokenizer.decode(kept, skip_special_tokens=True)), tuple(kept), cut is not None)
