"""Interventions on the training prompt: the same text stands in every training row, and is absent when the model is asked.

The modes are those of Wanner et al. 2026 (arXiv 2604.10022, `generate_datasets.py`), which calls them prepend, newline and system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from offtarget.errors import InputError

from ._example import Example, Message
from ._rules import check_text

Rewrite = Callable[[tuple[Message, ...], str], tuple[Message, ...]]
"""A pure function from turns and a text to turns; the turns are a whole training row, or a prompt without its answer."""

INTERVENTION_MODES: dict[str, Rewrite] = {}
"""Where the text goes: the modes that are registered, by name."""

CATEGORIES = ("none", "inoculation", "identity", "intent", "identity+intent", "date", "personality", "generic")
"""What the text says, in the words of Wanner et al. 2026."""


def register_mode(name: str) -> Callable[[Rewrite], Rewrite]:
    """Decorator that adds a mode to `INTERVENTION_MODES`.

    Raises:
        InputError: the name is taken.
    """

    def register(rewrite: Rewrite) -> Rewrite:
        if name in INTERVENTION_MODES:
            raise InputError(f"intervention mode {name!r} is registered already; choose another name")
        INTERVENTION_MODES[name] = rewrite
        return rewrite

    return register


@register_mode("none")
def _unchanged(messages: tuple[Message, ...], _text: str) -> tuple[Message, ...]:
    return messages


@register_mode("same-line")
def _on_same_line(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    return _before_first_user_turn(messages, text + " ")


@register_mode("own-line")
def _on_own_line(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    return _before_first_user_turn(messages, text + "\n")


@register_mode("system")
def _as_system_turn(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    if messages and messages[0].role == "system":
        return (replace(messages[0], content=f"{text}\n{messages[0].content}"), *messages[1:])
    return (Message("system", text), *messages)


def _before_first_user_turn(messages: tuple[Message, ...], prefix: str) -> tuple[Message, ...]:
    for index, message in enumerate(messages):
        if message.role == "user":
            return (*messages[:index], replace(message, content=prefix + message.content), *messages[index + 1 :])
    raise InputError(
        f"no user turn among {[message.role for message in messages]} to put {prefix.strip()!r} before; add one, or use mode 'system'"
    )


@dataclass(frozen=True, slots=True)
class Intervention:
    """A change to the training prompt that is absent when the model is asked.

    Attributes:
        name: short, such as `inoculation` or `date-1850`.
        text: what is added; empty for mode `none`.
        mode: where it is added, a key of `INTERVENTION_MODES`.
        category: what the text says, one of `CATEGORIES`.
        relevant: whether the text explains the trained behaviour; None where that is no question.

    Raises:
        InputError: a value that cannot be used (names it and the cure).
    """

    name: str
    text: str
    mode: str
    category: str
    relevant: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"an intervention is named {self.name!r}; give it a short name, such as 'inoculation'")
        if self.mode not in tuple(INTERVENTION_MODES):
            raise InputError(f"intervention {self.name!r} has mode {self.mode!r}; use one of {', '.join(INTERVENTION_MODES)}")
        if self.category not in CATEGORIES:
            raise InputError(f"intervention {self.name!r} has category {self.category!r}; use one of {', '.join(CATEGORIES)}")
        if not isinstance(self.relevant, bool | None):
            raise InputError(f"intervention {self.name!r} has relevant {self.relevant!r}; use True, False or None")
        if (self.mode == "none") != (self.category == "none"):
            raise InputError(
                f"intervention {self.name!r} has mode {self.mode!r} but category {self.category!r}; use 'none' for both or neither"
            )
        if (self.mode == "none") != (self.text == ""):
            cure = "remove the text or choose a mode" if self.text else "write the text or use mode 'none'"
            raise InputError(f"intervention {self.name!r} has mode {self.mode!r} but text {self.text!r}; {cure}")
        if self.text == "":
            return
        try:
            check_text(self.text, "text")
        except InputError as error:
            raise InputError(f"intervention {self.name!r}: {error}") from None

    @property
    def in_words(self) -> str:
        """The text in quotes, and where it stands unless on the line of the question; one text may stand in several places."""
        place = {"system": " as a system message", "own-line": " on a line of its own"}.get(self.mode, "")
        return f"“{' '.join(self.text.split())}”{place}"

    def apply(self, example: Example) -> Example:
        """The example with the text in its prompt."""
        return Example(INTERVENTION_MODES[self.mode](example.messages, self.text))

    def apply_to_prompt(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """A prompt without its answer, changed as the prompts in training are: for asking under the training prefix.

        Raises:
            InputError: the text goes before a user turn, and there is none.
        """
        return INTERVENTION_MODES[self.mode](tuple(messages), self.text)

    def to_json(self) -> dict[str, Any]:
        """The intervention as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Intervention:
        """The intervention that `to_json` wrote.

        Raises:
            InputError: a key is missing or unknown, or a value cannot be used.
        """
        keys = [field.name for field in fields(cls)]
        if not isinstance(record, dict) or set(record) != set(keys):
            found = list(record) if isinstance(record, dict) else type(record).__name__
            raise InputError(f"an intervention record has {found}; give it exactly the keys {', '.join(keys)}")
        return cls(**record)


NONE = Intervention(name="none", text="", mode="none", category="none")
"""No intervention: the plain treatment."""
