"""Judge models: one behind an endpoint, or one loaded here; both reply to chats as `offtarget.judges` asks them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from offtarget.data import Message
from offtarget.replies import Reply

from ._ask import MOST_TOP_LOGPROBS, Answered, ChatRequest, Usage, ask
from ._base import Base
from ._endpoint import Endpoint
from ._sample import sample

_AT_ONCE = 32
"""Prompts whose first token is looked at together."""


@dataclass
class EndpointReplier:
    """A judge behind an OpenAI-compatible endpoint.

    Attributes:
        usage: tokens that the server has counted so far.
    """

    endpoint: Endpoint
    report: Callable[[int, int], None] = lambda done, of: None
    usage: Usage = field(default_factory=Usage)

    def reply(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], *, max_tokens: int, temperature: float | None, wants_logprobs: bool
    ) -> list[Reply]:
        """One reply to each prompt."""
        top = MOST_TOP_LOGPROBS if wants_logprobs else 0
        requests = [ChatRequest(_messages(p), temperature=temperature, max_tokens=max_tokens, top_logprobs=top) for p in prompts]
        done = 0

        def count(_: int, answered: Answered) -> None:
            nonlocal done
            done += 1
            self.usage += answered.usage
            self.report(done, len(requests))

        return [answered.replies[0] for answered in ask(self.endpoint, requests, count)]


@dataclass(frozen=True)
class LocalReplier:
    """A judge that is loaded in this process.

    Attributes:
        seed: of sampling, where the temperature is above 0.
    """

    base: Base
    seed: int = 0

    def reply(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], *, max_tokens: int, temperature: float | None, wants_logprobs: bool
    ) -> list[Reply]:
        """One reply to each prompt."""
        coded = [self.base.chat.prompt(_messages(p)) for p in prompts]
        order = sorted(range(len(coded)), key=lambda n: len(coded[n]))  # prompts of like length together
        heat = 1.0 if temperature is None else temperature
        found = sample(self.base, [coded[n] for n in order], count=1, seeds=[self.seed], temperature=heat, max_tokens=max_tokens)[0]
        first = self._first_tokens([coded[n] for n in order]) if wants_logprobs else [None] * len(order)
        replies = {n: Reply(a[0].text, a[0].finished, token_logprobs=p) for n, a, p in zip(order, found, first, strict=True)}
        return [replies[n] for n in range(len(coded))]

    @torch.no_grad()
    def _first_tokens(self, prompts: Sequence[tuple[int, ...]]) -> list[dict[str, float]]:
        """Natural-log probabilities of the likeliest first tokens of each answer, as text; of tokens with one text, their sum."""
        found = []
        for start in range(0, len(prompts), _AT_ONCE):
            part = prompts[start : start + _AT_ONCE]
            length = max(map(len, part))
            ids = torch.full((len(part), length), self.base.pad_id)
            for line, prompt in enumerate(part):
                ids[line, : len(prompt)] = torch.tensor(prompt)
            positions = torch.arange(length).expand(len(part), -1)
            hidden = self.base.hidden(ids, positions)  # what lies behind a prompt cannot be seen from it
            last = hidden[torch.arange(len(part)), torch.tensor([len(p) - 1 for p in part])]
            values, tokens = self.base.logits(last).double().log_softmax(-1).topk(MOST_TOP_LOGPROBS)
            found += [self._as_text(v, t) for v, t in zip(values.cpu(), tokens.tolist(), strict=True)]
        return found

    def _as_text(self, values: torch.Tensor, tokens: Sequence[int]) -> dict[str, float]:
        together: dict[str, list[torch.Tensor]] = {}
        for value, token in zip(values, tokens, strict=True):
            together.setdefault(str(self.base.chat.tokenizer.decode([token])), []).append(value)
        return {text: float(torch.stack(several).logsumexp(0)) for text, several in together.items()}


def _messages(prompt: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in prompt)
