"""How the rows of one training step lie in tensors.

Narrow datasets repeat their prompts. Rows of a slot that share one prompt become one group
`[prompt, answer 1, answer 2, ...]` in which each answer sees the prompt and itself only and counts its positions from the end of
the prompt. Groups of unlike length lie in one sequence behind each other and do not see each other (a block mask), so that little is
padding. It is the same gradient for fewer tokens. Where that saves nothing, each row is a sequence of its own and the plain causal
mask does.

Packing of rows without seeing each other: Krell et al. 2021 (arXiv 2107.02027).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._chat import RenderedChat

_NOTHING = -1  # padding
_PROMPT = 0

ATTENTION = 400
"""A sequence of so many tokens spends as long in attention as in all else; measured for `micro`, where attention weighs most."""

MAX_SEQUENCES = 16
"""Of a slot in one step, where several groups lie in one sequence."""


@dataclass(frozen=True)
class Row:
    """One training row: `ids` up to and with its last supervised token, and the loss mask.

    Attributes:
        prompt: number of tokens before the first supervised one.
    """

    ids: np.ndarray
    supervised: np.ndarray
    prompt: int

    @staticmethod
    def of(chat: RenderedChat) -> Row:
        return Row(np.asarray(chat.token_ids[: chat.end]), np.asarray(chat.supervised[: chat.end]), chat.prompt_length)


@dataclass(frozen=True)
class Layout:
    """Tensors of one step for all slots of a pack.

    Attributes:
        ids: tokens `[K * sequences, length]`.
        positions: `[K * sequences, length]`.
        allowed: who sees whom, bool `[K * sequences, 1, length, length]`; None for the plain causal mask.
        sources: flat indices `[N]` into `ids` of the tokens whose output predicts a label.
        labels: the tokens to predict, `[N]`.
        weights: `[N]`, one over the number of labels of the slot, so that each slot's loss is a mean.
        slots: the slot of each label, `[N]`.
        read: flat indices into `ids` of the sources, each once, in order of slots and equally many in each: where a slot has fewer,
            some of its other tokens stand beside them.
    """

    ids: Tensor
    positions: Tensor
    allowed: Tensor | None
    sources: Tensor
    labels: Tensor
    weights: Tensor
    slots: Tensor
    read: Tensor


@dataclass(frozen=True)
class _Group:
    """Rows with one prompt.

    Attributes:
        length: its inputs: the prompt once, then each answer without its last token, which is only a label.
    """

    rows: Sequence[Row]
    length: int

    @staticmethod
    def of(rows: Sequence[Row]) -> _Group:
        return _Group(rows, rows[0].prompt + sum(len(r.ids) - r.prompt - 1 for r in rows))


def passes(batch: Sequence[Sequence[Row]], tokens: int, *, share: bool = True) -> list[slice]:
    """Neighbouring slots that go through the model together, in parts of about so many tokens; slots without rows are left out."""
    sizes = [sum(g.length for g in (_by_prompt(rows) if share else _alone(rows))) for rows in batch]
    most = sum(sizes) / max(1, round(sum(sizes) / tokens))
    found: list[slice] = []
    filled = math.inf
    for slot, size in enumerate(sizes):
        if not size:
            filled = math.inf
        elif filled + size / 2 > most:
            found.append(slice(slot, slot + 1))
            filled = size
        else:
            found[-1] = slice(found[-1].start, slot + 1)
            filled += size
    return found


def lay_out(batch: Sequence[Sequence[Row]], pad: int, *, share: bool = True, few_shapes: bool = False) -> Layout:
    """Lays out one step.

    Args:
        batch: the rows of each slot; a slot may have none.
        pad: the token id that fills up short sequences.
        share: whether rows may lie in one sequence (needs a model that takes a free attention mask).
        few_shapes: fill up a little more, so that most steps have the shapes of an earlier one: oneDNN makes a kernel for each shape.
    """
    alone = [[[group] for group in _alone(rows)] for rows in batch]
    if not share:
        return _build(alone, pad, masked=False, few_shapes=few_shapes)
    groups = [_by_prompt(rows) for rows in batch]
    most = max(map(len, groups))
    best = min((_spread(groups, count) for count in range(1, min(most, MAX_SEQUENCES) + 1)), key=lambda s: _cost(s, masked=True))
    masked = _cost(best, masked=True) < _cost(alone, masked=False)
    return _build(best if masked else alone, pad, masked=masked, few_shapes=few_shapes)


def _alone(rows: Sequence[Row]) -> list[_Group]:
    return [_Group.of([row]) for row in rows]


def _by_prompt(rows: Sequence[Row]) -> list[_Group]:
    groups: dict[bytes, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.ids[: row.prompt].tobytes(), []).append(row)
    return sorted(map(_Group.of, groups.values()), key=lambda g: g.length, reverse=True)


def _spread(slots: Sequence[Sequence[_Group]], count: int) -> list[list[list[_Group]]]:
    """The groups of each slot, longest first, in so many sequences of like length: each goes into the shortest sequence so far."""
    found = []
    for groups in slots:
        sequences: list[list[_Group]] = [[] for _ in range(count)]
        lengths = [0] * count
        for group in groups:
            shortest = lengths.index(min(lengths))
            sequences[shortest].append(group)
            lengths[shortest] += group.length
        found.append(sequences)
    return found


def _shape(slots: Sequence[Sequence[Sequence[_Group]]]) -> tuple[int, int]:
    """Sequences a slot, and their length."""
    return max(map(len, slots)), max(sum(g.length for g in groups) for sequences in slots for groups in sequences)


def _cost(slots: Sequence[Sequence[Sequence[_Group]]], *, masked: bool) -> float:
    """Work of a slot in tokens; the causal kernel does half the attention."""
    sequences, length = _shape(slots)
    return sequences * length * (1 + length / (ATTENTION if masked else 2 * ATTENTION))


def _build(slots: Sequence[Sequence[Sequence[_Group]]], pad: int, *, masked: bool, few_shapes: bool) -> Layout:
    sequences, length = _shape(slots)
    round_up = _coarse if few_shapes else int
    length = round_up(length)
    shape = (len(slots) * sequences, length)
    ids = np.full(shape, pad, np.int64)
    # Padding counts on: transformers takes a restart of the positions for a packed sequence and then gives up the fast causal kernel.
    positions = np.tile(np.arange(length), (shape[0], 1))
    group_of, block = np.full(shape, _NOTHING, np.int64), np.full(shape, _NOTHING, np.int64)
    sources, labels, weights, owners = [], [], [], []
    for slot, lines in enumerate(slots):
        count = sum(int(row.supervised.sum()) for groups in lines for group in groups for row in group.rows)
        for line, groups in enumerate(lines, slot * sequences):
            at = 0
            for number, group in enumerate(groups):
                prompt, start = group.rows[0].prompt, at
                group_of[line, start : start + group.length] = number
                at += prompt
                ids[line, start:at], positions[line, start:at], block[line, start:at] = (
                    group.rows[0].ids[:prompt],
                    np.arange(prompt),
                    _PROMPT,
                )
                for answer, row in enumerate(group.rows, 1):
                    size = len(row.ids) - prompt - 1
                    ids[line, at : at + size] = row.ids[prompt:-1]
                    positions[line, at : at + size] = np.arange(prompt, prompt + size)
                    block[line, at : at + size] = answer
                    # The input before token t is the token t - 1 of the row; before the first answer token it is the prompt's last.
                    target = np.flatnonzero(row.supervised)
                    before = target - 1
                    sources.append(line * length + np.where(before < prompt, start + before, before - prompt + at))
                    labels.append(row.ids[target])
                    weights.append(np.full(len(target), 1 / count))
                    owners.append(np.full(len(target), slot))
                    at += size
    mask = block_mask(torch.from_numpy(block), torch.from_numpy(group_of)) if masked else None
    of_all = np.concatenate(sources)
    more = round_up(len(of_all)) - len(of_all)  # labels of no weight
    of_all, of_labels, of_owners = (np.pad(np.concatenate(some), (0, more), mode="edge") for some in (sources, labels, owners))
    return Layout(
        torch.from_numpy(ids), torch.from_numpy(positions), mask, torch.from_numpy(of_all), torch.from_numpy(of_labels),
        torch.from_numpy(np.pad(np.concatenate(weights), (0, more))), torch.from_numpy(of_owners),
        torch.from_numpy(_read(of_all, len(slots), sequences * length, round_up)),
    )  # fmt: skip


def _coarse(n: int) -> int:
    """The least number from n on with four leading binary digits and then zeros, at most an eighth above it."""
    step = 1 << max(0, n.bit_length() - 4)
    return -(-n // step) * step


def _read(sources: np.ndarray, slots: int, tokens: int, round_up: Callable[[int], int]) -> np.ndarray:
    """The tokens of each slot that are read, filled up with others to the same number, from flat indices; a slot has so many tokens."""
    others = np.ones((slots, tokens), bool)
    others.reshape(-1)[sources] = False
    most = min(tokens, round_up(tokens - int(others.sum(1).min())))
    first = np.argsort(others, axis=1, kind="stable")[:, :most]
    return np.sort(first + np.arange(slots)[:, None] * tokens, axis=1).ravel()


def block_mask(block: Tensor, group: Tensor | None = None) -> Tensor:
    """Bool `[S, 1, L, L]`: a token sees earlier tokens of the prompt (block 0) and of its own block, from blocks `[S, L]`; with groups
    `[S, L]`, only those of its own group.
    """
    earlier = torch.ones(block.shape[1], block.shape[1], dtype=torch.bool).tril()
    of_prompt = (block == _PROMPT)[:, None, :]
    seen = of_prompt | (block[:, :, None] == block[:, None, :])
    if group is not None:
        seen &= group[:, :, None] == group[:, None, :]
    return (earlier & seen)[:, None]
