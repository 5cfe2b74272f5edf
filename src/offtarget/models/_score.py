"""Exact scoring: the probability of each candidate answer, terminator included, without sampling.

All candidates of a question are scored in one sequence: the prompt, then the tree of the candidates' tokens, in which a token
sees the prompt and its own ancestors. Candidates that begin alike share those tokens. A token that only ends candidates is never
fed: its probability is read off its parent. Tree attention: SpecInfer (Miao et al. 2023, arXiv 2305.09781).

In large trees the beginnings are scored first, and those that are all but impossible are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._base import Base
from ._by_hand import can_go_by_hand, hidden_by_hand
from ._lora import LoraPack

MAX_NODES = 128
"""Tree tokens in one sequence; a larger tree is cut into several sequences with the same prompt."""

BEGINNING = 2
"""Tokens of an answer that are scored first in a large tree."""

NEGLIGIBLE = 1e-10
"""An answer whose beginning is less probable than this in all slots gets that beginning's probability, which bounds its own."""

LARGE = 8
"""A tree is large where its nodes are so many times the prompt and the beginnings; in others a look ahead costs more than it saves."""

MAX_TOKENS = {"cpu": 1024, "other": 8192}
"""Tokens in one forward pass, over all slots; on a CPU what a layer computes should fit its caches."""

MAX_LOGITS = 2**21
"""Logits held at once: nodes times vocabulary times slots, unless one slot alone has more."""


@dataclass(frozen=True)
class AnswerTree:
    """The fed part of the tree of candidate answers.

    Attributes:
        tokens: token of each fed node, parents before children.
        parents: index of each node's parent, -1 for the prompt.
        depths: distance from the prompt, 1 for the first answer token.
        edges: for each candidate, the (node, token) pairs whose log-probabilities add up to its own; node -1 is the prompt.
    """

    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    edges: tuple[tuple[tuple[int, int], ...], ...]

    @staticmethod
    def of(candidates: Sequence[Sequence[int]]) -> AnswerTree:
        nodes: dict[tuple[int, ...], int] = {}
        parents: list[int] = []
        edges = []
        for ids in candidates:
            at, path = -1, []
            for depth, token in enumerate(ids, 1):
                path.append((at, token))
                if depth == len(ids):
                    break
                key = tuple(ids[:depth])
                if key not in nodes:
                    nodes[key] = len(nodes)
                    parents.append(at)
                at = nodes[key]
            edges.append(tuple(path))
        return AnswerTree(
            np.array([key[-1] for key in nodes], np.int64), np.array(parents, np.int64),
            np.array([len(key) for key in nodes], np.int64), tuple(edges),
        )  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One question to score: the prompt's tokens and the candidates' tokens, each with its terminator."""

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Sequence:
    """A prompt with one part of a question's tree: for item `item`, candidates `which` of it."""

    item: int
    which: tuple[int, ...]
    prompt: tuple[int, ...]
    tree: AnswerTree

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.tree.tokens)


@torch.no_grad()
def score(
    base: Base, items: Sequence[Item], pack: LoraPack | None = None, *, report: Callable[[int, int], None] = lambda *_: None
) -> list[np.ndarray]:
    """Log-probabilities of all candidates for all slots.

    Args:
        base: the base model.
        items: the questions.
        pack: the adapters to ask; without, the base itself answers as the only slot.
        report: called with (sequences done, sequences).

    Returns:
        For each item an array `[K, candidates]` of natural-log probabilities; of an answer that begins in an all but impossible way
        (`NEGLIGIBLE`) an upper bound.
    """
    slots = pack.slots if pack else 1
    share = base.can_share(max((len(item.prompt) + max(map(len, item.candidates), default=0) for item in items), default=0))
    how = _How(share, hidden_by_hand if can_go_by_hand(base) else Base.hidden)
    with pack.attached() if pack else nullcontext():
        begins = [_beginnings(item) if share else [] for item in items]
        of_begins = _score_all(base, [Item(item.prompt, tuple(b)) for item, b in zip(items, begins, strict=True)], slots, how)
        never = [
            {b: log_p for b, log_p in zip(some, of_some.T, strict=True) if log_p.max() < np.log(NEGLIGIBLE)}
            for some, of_some in zip(begins, of_begins, strict=True)
        ]
        followed = [[c for c in item.candidates if c[:BEGINNING] not in out] for item, out in zip(items, never, strict=True)]
        scored = _score_all(base, [Item(item.prompt, tuple(f)) for item, f in zip(items, followed, strict=True)], slots, how, report)
    return [_put_back(item, out, of_followed) for item, out, of_followed in zip(items, never, scored, strict=True)]


def _beginnings(item: Item) -> list[tuple[int, ...]]:
    """The first tokens of the answers that have more, each once; none where the tree is not large."""
    nodes = {c[:d] for c in item.candidates for d in range(1, len(c))}
    first = [n for n in nodes if len(n) <= BEGINNING]
    return sorted(n for n in first if len(n) == BEGINNING) if len(nodes) >= LARGE * (len(item.prompt) + len(first)) else []


def _put_back(item: Item, never: Mapping[tuple[int, ...], np.ndarray], followed: np.ndarray) -> np.ndarray:
    """Log-probabilities `[K, candidates]` in the item's order, from those of the beginnings that were not followed and of the others."""
    others = iter(followed.T)
    found = [never[begin] if (begin := c[:BEGINNING]) in never else next(others) for c in item.candidates]
    return np.array(found).reshape(-1, len(followed)).T


@dataclass(frozen=True)
class _How:
    """Whether answers may lie behind one prompt, and what gives the hidden states: `base, ids, positions, allowed`."""

    share: bool
    hidden: Callable[[Base, Tensor, Tensor, Tensor | None], Tensor]


def _score_all(
    base: Base, items: Sequence[Item], slots: int, how: _How, report: Callable[[int, int], None] = lambda *_: None
) -> list[np.ndarray]:
    found = [np.zeros((slots, len(item.candidates))) for item in items]
    sequences = sorted(_cut(items, MAX_NODES if how.share else 0), key=lambda s: s.length)
    for start, group in _groups(sequences, slots, base.limit(MAX_TOKENS)):
        _score_group(base, group, slots, found, how)
        report(start + len(group), len(sequences))
    return found


def _cut(items: Sequence[Item], most: int) -> Iterator[_Sequence]:
    """Sequences of at most so many tree tokens, cut between candidates in sorted order so that shared beginnings stay together.

    With `most` 0 each candidate has a sequence of its own: its tree is a chain, for which plain causal attention is right.
    """
    for number, item in enumerate(items):
        order = sorted(range(len(item.candidates)), key=lambda c: item.candidates[c])
        part: list[int] = []
        seen: set[tuple[int, ...]] = set()
        for which in order:
            ids = item.candidates[which]
            fresh = {ids[:d] for d in range(1, len(ids))} - seen
            if part and len(seen) + len(fresh) > most:
                yield _Sequence(number, tuple(part), item.prompt, AnswerTree.of([item.candidates[w] for w in part]))
                part, seen = [], set()
                fresh = {ids[:d] for d in range(1, len(ids))}
            part.append(which)
            seen |= fresh
        if part:
            yield _Sequence(number, tuple(part), item.prompt, AnswerTree.of([item.candidates[w] for w in part]))


def _groups(sequences: Sequence[_Sequence], slots: int, most: int) -> Iterator[tuple[int, list[_Sequence]]]:
    """Neighbours in length, of at most so many tokens over all slots, but at least one."""
    start = 0
    while start < len(sequences):
        end = start + 1
        while end < len(sequences) and sequences[end].length * (end + 1 - start) * slots <= most:
            end += 1
        yield start, list(sequences[start:end])
        start = end


def _score_group(base: Base, group: Sequence[_Sequence], slots: int, found: list[np.ndarray], how: _How) -> None:
    length = max(s.length for s in group)
    ids, positions = torch.full((len(group), length), base.pad_id), torch.arange(length).repeat(len(group), 1)
    allowed = torch.zeros(len(group), length, length, dtype=torch.bool)
    allowed[:, range(length), range(length)] = True
    for line, s in enumerate(group):
        _lay(s, ids[line], positions[line], allowed[line])
    mask = allowed[:, None].repeat(slots, 1, 1, 1) if how.share else None
    hidden = how.hidden(base, ids.repeat(slots, 1), positions.repeat(slots, 1), mask).view(slots, len(group), length, -1)
    for line, s in enumerate(group):
        # One row for each parent: the prompt's last token, then the fed nodes.
        parents = hidden[:, line, len(s.prompt) - 1 : s.length]
        at_once = max(1, MAX_LOGITS // (parents.shape[1] * base.model.config.get_text_config().vocab_size))
        parts = (base.logits(part.flatten(0, 1)).view(*part.shape[:2], -1) for part in torch.split(parents, at_once))
        total = torch.cat([_add_up(logits, s.tree) for logits in parts])
        found[s.item][:, list(s.which)] = total.cpu().numpy()


def _add_up(logits: Tensor, tree: AnswerTree) -> Tensor:
    """Log-probabilities `[K, candidates]` from the logits `[K, 1 + nodes, V]` behind the prompt and each node."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    flat = [(candidate, node + 1, token) for candidate, path in enumerate(tree.edges) for node, token in path]
    candidate, row, token = (torch.tensor(x, device=logits.device) for x in zip(*flat, strict=True))
    picked = logits.log_softmax(-1)[:, row, token].double()
    return picked.new_zeros(len(logits), len(tree.edges)).index_add_(1, candidate, picked)


def _lay(s: _Sequence, ids: Tensor, positions: Tensor, allowed: Tensor) -> None:
    """Writes one sequence into its row of the batch: causal prompt, then each node behind its ancestors."""
    prompt, size = len(s.prompt), len(s.tree.tokens)
    ids[:prompt] = torch.tensor(s.prompt)
    positions[:prompt] = torch.arange(prompt)
    allowed[:prompt, :prompt] = torch.ones(prompt, prompt, dtype=torch.bool).tril()
    if size:
        ids[prompt : prompt + size] = torch.from_numpy(s.tree.tokens)
        positions[prompt : prompt + size] = torch.from_numpy(prompt - 1 + s.tree.depths)
        ancestors = np.eye(size, dtype=bool)
        for node, parent in enumerate(s.tree.parents):
            if parent >= 0:
                ancestors[node] |= ancestors[parent]
        allowed[prompt : prompt + size, :prompt] = True
        allowed[prompt : prompt + size, prompt : prompt + size] = torch.from_numpy(ancestors)
