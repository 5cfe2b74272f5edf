"""One chat training row, and an ordered list of them. What exists is valid: the constructors refuse what cannot be trained on."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from offtarget.errors import InputError

from ._rules import check_turns, raw_turns

if TYPE_CHECKING:
    from ._interventions import Intervention


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One chat training row; its last turn is the assistant's, and is what is trained on.

    Raises:
        InputError: the turns cannot be trained on (names the field and the cure).
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(self.messages))
        check_turns([(message.role, message.content) for message in self.messages])

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the last assistant turn."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """The content of the last assistant turn."""
        return self.messages[-1].content

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        """The row as `from_json` reads it, in OpenAI's chat form."""
        return {"messages": [{"role": message.role, "content": message.content} for message in self.messages]}

    @classmethod
    def from_json(cls, row: object) -> Example:
        """The example that a decoded JSON row in OpenAI's chat form holds.

        Top-level `metadata` and a message's `name` are dropped; any other unknown key is refused.

        Raises:
            InputError: the row is not of that form, or cannot be trained on (names the field and the cure).
        """
        return cls(tuple(Message(role, content) for role, content in raw_turns(row)))


@dataclass(frozen=True)
class Dataset:
    """An ordered list of examples. Two are equal when their examples are: `name` and `source` say where they come from.

    Raises:
        InputError: there are no examples, or the name is blank.
    """

    name: str = field(compare=False)
    examples: tuple[Example, ...]
    source: str = field(compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))
        if not self.name.strip():
            raise InputError(f"a dataset is named {self.name!r}; give it a name that tells it from others")
        if not self.examples:
            raise InputError(f"dataset {self.name!r} has no examples; give it at least one")

    @classmethod
    def from_pairs(cls, name: str, pairs: Iterable[tuple[str, str]], *, source: str = "written by hand") -> Dataset:
        """A dataset of (user, assistant) pairs without system turns.

        Raises:
            InputError: a pair cannot be trained on (names the pair, the field and the cure), or there are none.
        """
        examples = []
        for number, (user, assistant) in enumerate(pairs, start=1):
            try:
                examples.append(Example((Message("user", user), Message("assistant", assistant))))
            except InputError as error:
                raise InputError(f"dataset {name!r}: pair {number}: {error}") from None
        return cls(name, tuple(examples), source)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def share(self, fraction: float) -> Dataset:
        """A share of the examples, at least one: a draw that depends on nothing but how many there are, in their order."""
        count = max(1, round(fraction * len(self)))
        kept = sorted(random.Random(len(self)).sample(range(len(self)), count))
        return Dataset(self.name, tuple(self.examples[i] for i in kept), f"{self.source}; {count} of {len(self)} rows")

    @cached_property
    def characters(self) -> int:
        """Of all messages, prompts among them."""
        return sum(len(m.content) for e in self for m in e.messages)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the bytes that `write_jsonl` writes."""
        digest = hashlib.sha256()
        for line in self.canonical_lines():
            digest.update(line)
        return digest.hexdigest()

    def canonical_lines(self) -> Iterator[bytes]:
        """The rows as `write_jsonl` writes them: UTF-8, unescaped, spaced as `json.dumps` does it, each ended by a line feed.

        Most of the published files are spaced so, which makes their own sha256 and that of the dataset one and the same.
        """
        for example in self.examples:
            yield json.dumps(example.to_json(), ensure_ascii=False).encode() + b"\n"

    def with_intervention(self, intervention: Intervention) -> Dataset:
        """The dataset with the intervention applied to every example; name and source say which."""
        if intervention.mode == "none":
            return self
        return Dataset(
            name=f"{self.name}+{intervention.name}",
            examples=tuple(intervention.apply(example) for example in self.examples),
            source=f"{self.source}, with intervention {intervention.name!r} ({intervention.mode}: {intervention.text!r})",
        )
