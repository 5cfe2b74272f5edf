"""A key-value cache that has room for what is to come: transformers' own copies all of it for every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class _RoomyLayer(DynamicLayer):
    """Keys and values `[rows, heads, length, dim]` are views of buffers made anew only when other rows are chosen or room is lacking."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            return super().update(key_states, value_states, *args, **kwargs)
        assert self.keys is not None
        assert self.values is not None
        used = self.get_seq_length()
        end = used + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = (self._with_room(self.keys, used, end), self._with_room(self.values, used, end))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, used:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def _with_room(self, states: Tensor, used: int, end: int) -> Tensor:
        buffer = states.new_empty(*states.shape[:2], end + self._room, states.shape[-1])
        buffer[:, :, :used] = states
        return buffer

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = None


def roomy_cache(config: Any, room: int) -> DynamicCache:
    """An empty cache for a model, with room for so many tokens behind the prompt; layers with a window keep their own kind."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
