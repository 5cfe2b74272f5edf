"""What a judge that is billed by tokens will cost, before anything is sent, and afterwards what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.judges import open_cache
from offtarget.prices import Cost, Prices

from ._open import recorded
from ._reading import CACHE, JudgeRecord
from ._store import open_existing

if TYPE_CHECKING:
    from offtarget.models import Usage

CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI says of its tokenizers; what is taken where the judge's own is not known. Other languages have fewer."""

TOKENS_PER_MESSAGE = 4
"""What a chat format writes around each message: who speaks, where it begins and ends."""

Chat = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class CallForecast:
    """What calls to a model will need.

    Attributes:
        model: whom they go to.
        calls: one a prompt; those that fail are made again, and often not billed.
        prompt_tokens: an estimate, unless they were counted.
        most_completion_tokens: if every reply were as long as it may be.
        cost: the most that it will cost, retries aside; None where the price is not known.
        billed: whether anybody bills it; nobody does a server on this machine.
    """

    model: str
    calls: int
    prompt_tokens: int
    most_completion_tokens: int
    cost: Cost | None
    billed: bool = True

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        if self.cost:
            record["cost"]["date"] = self.cost.date.isoformat()
        return record

    @property
    def sentence(self) -> str:
        said = f"{_calls(self.calls)} to {self.model}: about {self.prompt_tokens:,} tokens in, at most {self.most_completion_tokens:,} out"
        return said + self._money(self.cost, "at most ")

    def compared(self, usage: Usage, prices: Prices) -> str:
        """What it took in truth, beside what was foreseen: the sentence for afterwards."""
        cost = prices.cost(self.model, usage) if self.cost else None
        uncounted = f" ({_calls(usage.uncounted)} came without a count)" if usage.uncounted else ""
        took = f"took {_calls(usage.calls)}, {usage.prompt_tokens:,} tokens in and {usage.completion_tokens:,} out{uncounted}"
        foreseen = f"foreseen were {self.calls:,}, {self.prompt_tokens:,} and at most {self.most_completion_tokens:,}"
        return f"{took}; {foreseen}" + self._money(cost, "cost ")

    def _money(self, cost: Cost | None, how: str) -> str:
        if not self.billed:
            return ""
        return f"; {how}{cost}" if cost else f"; what {self.model} costs is not in the price table; give it with --prices FILE"


def foresee_judging(
    folder: str | Path, model: str, server: str, prices: Prices, *, rule: str, temperature: float | None, max_tokens: int
) -> CallForecast:
    """Forecasts what `judge` with the same arguments will send to a server: one call for each answer and rubric without a reply yet.

    Raises:
        InputError: the rule or the server's address cannot be used.
        StoreError: there is no study in the folder, or it cannot be read.
    """
    from offtarget.models import Endpoint

    path, record = Path(folder), JudgeRecord(model, rule, temperature, max_tokens)
    with open_existing(path) as store:
        rows = store.answers()
        read = [(ask, [answer for _, answer in ask.read(rows)]) for ask in recorded(store)]
    prompts: dict[tuple[str, str], None] = {}  # what two batteries have in common is asked once
    with open_cache(path / CACHE) if (path / CACHE).exists() else nullcontext(None) as cache:
        reader = record.reader(None, cache)
        for ask, answers in read:
            for rubric in (r for r in ask.battery.rubrics if r.needs_judge):
                known = reader.known(answers, rubric)
                new = [a for a, verdict in zip(answers, known, strict=True) if verdict is None or verdict.missing == "error"]
                prompts |= {(rubric.prompt, rubric.prompt_for(a.wording, a.text, a.question.target)): None for a in new}
    chats = [[{"content": prompt}] for _, prompt in prompts]
    billed = not Endpoint(model, base_url=server).is_local
    return foresee_calls(model, chats, max_tokens=max_tokens, prices=prices, billed=billed)


def foresee_calls(
    model: str, chats: Iterable[Chat], *, max_tokens: int, prices: Prices, billed: bool = True, count: Callable[[str], int] | None = None
) -> CallForecast:
    """Forecasts one call for each chat.

    Args:
        model: its name at the provider.
        chats: what would be sent, those whose replies are kept already left out.
        max_tokens: of each reply.
        count: how many tokens a text has, where the model's tokenizer is known; estimated from its characters if not given.
    """
    each = count or estimated_tokens
    sizes = [sum(each(message["content"]) + TOKENS_PER_MESSAGE for message in chat) for chat in chats]
    most = len(sizes) * max_tokens
    price = prices.of(model) if billed else None
    cost = None if price is None else price.cost(sum(sizes), most)
    return CallForecast(model, len(sizes), sum(sizes), most, cost, billed)


def estimated_tokens(text: str) -> int:
    """How many tokens a text has, for want of a tokenizer: one for every four characters, and never fewer than words."""
    return max(-(-len(text) // CHARACTERS_PER_TOKEN), len(text.split()))


def _calls(number: int) -> str:
    return f"{number:,} call{'s' * (number != 1)}"
