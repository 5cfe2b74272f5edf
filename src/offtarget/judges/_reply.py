"""Who answers a judge's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from offtarget.replies import Reply

Chat = Sequence[Mapping[str, str]]
"""One prompt: messages, each with `role` and `content`."""


class Replier(Protocol):
    """A language model that can be asked many prompts at once: an endpoint, or a local model."""

    def reply(self, prompts: Sequence[Chat], *, max_tokens: int, temperature: float | None, wants_logprobs: bool) -> Sequence[Reply]:
        """One reply to each prompt, in their order. What cannot be answered is a `Reply` with an `error`.

        Args:
            temperature: None leaves it to whoever serves the model.
            wants_logprobs: whether `Reply.token_logprobs` is wanted; whoever cannot give it leaves it None.
        """
        ...
