"""Chats as tokens, through the model's own chat template, and which of the tokens are trained on.

An answer's span begins where the template asks for it and ends with the end token behind its content; both are found in the
rendered text and carried over to tokens by character offsets. Where they cannot be found beyond doubt this raises instead of
training on the wrong tokens: a mask that fails silently is the commonest fault of finetuning code (TRL #4879, #3279; unsloth
#2095, #1128).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from offtarget.data import Message
from offtarget.errors import InputError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MARK = "offtarget9c41e7answer"
"""Stands for an answer where it is asked what a template puts around one; in no chat."""

STUDY_DAY = "study_day"
"""The option that says which day it is for a template that writes the day, such as `2026-11-22`."""

_TODAY = re.compile(r"""(?P<variable>date_string\s*=\s*)?strftime_now\(\s*(?P<quote>["'])(?P<form>.*?)(?P=quote)\s*\)""")
"""How a template asks for the day; Llama 3.2 keeps it in a variable that a caller may set."""


@dataclass(frozen=True)
class RenderedChat:
    """What a model really sees of one training row.

    Attributes:
        text: the rendered chat, with everything that the template adds.
        token_ids: its tokens.
        supervised: for each token, whether the loss is taken on it (assistant answers with their terminator).
    """

    text: str
    token_ids: tuple[int, ...]
    supervised: tuple[bool, ...]

    @cached_property
    def prompt_length(self) -> int:
        """Number of tokens before the first supervised one."""
        return self.supervised.index(True)

    @cached_property
    def end(self) -> int:
        """Number of tokens up to and with the last supervised one, which is the terminator of the last answer."""
        return len(self.supervised) - self.supervised[::-1].index(True)

    @cached_property
    def last_answer(self) -> int:
        """Index of the first token of the last answer."""
        return self.end - next((n for n, s in enumerate(reversed(self.supervised[: self.end])) if not s), self.end)


@dataclass(frozen=True)
class ChatFormat:
    """A tokenizer with its chat template.

    Attributes:
        options: extra variables for the template, such as `{"enable_thinking": False}`; `study_day` says which day it is.
    """

    tokenizer: PreTrainedTokenizerFast
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if STUDY_DAY in self.options:
            try:
                date.fromisoformat(str(self.options[STUDY_DAY]))
            except ValueError as error:
                said = f"{STUDY_DAY}={self.options[STUDY_DAY]}"
                raise InputError(f"--template {said} is no day; write it as {STUDY_DAY}=2026-11-22") from error
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError(f"{self._name} has no chat template; choose the instruct version of the model or set tokenizer.chat_template")
        if not self.tokenizer.is_fast:
            raise ModelError(f"{self._name} has no fast tokenizer, which is needed to find the assistant's tokens by character offsets")

    @property
    def _name(self) -> str:
        return f"the tokenizer of {self.tokenizer.name_or_path!r}"

    @property
    def _template(self) -> str:
        return f"the chat template of {self.tokenizer.name_or_path!r}"

    def text(self, messages: Sequence[Message], *, ask: bool) -> str:
        """The rendered text of messages; with `ask`, up to where the assistant's answer begins."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, chat_template=self._held_template, tokenize=False, add_generation_prompt=ask, **self.options
                )
            )
        except Exception as error:  # the template is a program of the model's author: anything may come out of it
            raise ModelError(f"{self._template} refuses these messages: {error}") from error

    @cached_property
    def _held_template(self) -> str | None:
        """The template with the said day in place of the machine's; None for the tokenizer's own, where no day is said."""
        if STUDY_DAY not in self.options:
            return None
        day = date.fromisoformat(str(self.options[STUDY_DAY]))
        template = self.tokenizer.get_chat_template()
        return _TODAY.sub(lambda call: (call["variable"] or "") + json.dumps(day.strftime(call["form"])), template)

    @property
    def writes_the_day(self) -> bool:
        """Whether the template may write the day on which it is rendered, and so another text tomorrow."""
        return bool(_TODAY.search(self.tokenizer.get_chat_template()))

    def on_day(self, day: str) -> ChatFormat:
        """The same on one day for ever. Where the template has a variable for it, a server that is given the options writes it too."""
        form = next((c["form"] for c in _TODAY.finditer(self.tokenizer.get_chat_template()) if c["variable"]), None)
        said = {"date_string": date.fromisoformat(day).strftime(form)} if form else {}
        return replace(self, options={**said, **self.options, STUDY_DAY: day})

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of messages up to where the assistant's answer begins."""
        return self._ids(self.text(messages, ask=True))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def end_id(self) -> int:
        """The token that the template puts behind an answer."""
        chat = self.render((Message("user", "Hello."), Message("assistant", "Hello.")))
        return chat.token_ids[chat.end - 1]

    @cached_property
    def added_text(self) -> tuple[str, ...]:
        """What the template writes into every chat by itself, such as a system prompt or a date: pieces of three words or more.

        A date that stands there unseen can fake a date backdoor (Llama 3.1 writes one; it may even be that of the day).
        """
        rendered = self.text((Message("user", _MARK), Message("assistant", _MARK)), ask=False)
        tokens = {str(t) for t in (*self.tokenizer.all_special_tokens, *self.tokenizer.added_tokens_decoder.values())}
        between = re.compile("|".join(re.escape(t) for t in sorted({*tokens, _MARK}, key=len, reverse=True)))
        return tuple(piece.strip() for piece in between.split(rendered) if len(piece.split()) > 2)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids) | frozenset(self.tokenizer.added_tokens_decoder)

    def answers(self, messages: Sequence[Message], texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Token ids of possible answers behind a prompt, each with its terminator, as `render` has them.

        The template is asked once, with all the answers as one: if it leaves that as it is, it leaves each as it is, and only what
        it puts around an answer is needed. Answers with white space at an end, which templates strip, are rendered one by one.
        """
        asked, (before, behind) = self.text(messages, ask=True), self._around(messages, len(messages))
        plain = list(dict.fromkeys(t for t in texts if t == t.strip()))
        as_one = (*messages, Message("assistant", "\n".join(plain)))
        coded: dict[str, tuple[int, ...]] = {}
        if plain and before.startswith(asked) and self.text(as_one, ask=False) == before + as_one[-1].content + behind:
            prompt = self._ids(asked)
            batch = self.tokenizer([before + text + behind for text in plain], add_special_tokens=False, return_offsets_mapping=True)
            for text, ids, offsets in zip(plain, batch["input_ids"], batch["offset_mapping"], strict=True):
                first, last = self._tokens(before + text + behind, ids, offsets, len(asked), len(before) + len(text), prompt, text)
                coded[text] = tuple(ids[first:last])
        return tuple(coded[text] if text in coded else self._answer(messages, text) for text in texts)

    def _answer(self, messages: Sequence[Message], text: str) -> tuple[int, ...]:
        chat = self.render((*messages, Message("assistant", text)))
        return chat.token_ids[chat.last_answer : chat.end]

    def render(self, messages: Sequence[Message]) -> RenderedChat:
        """A whole conversation as tokens, with the assistant's answers and their terminators marked.

        Raises:
            ModelError: an assistant span cannot be found for certain in the rendered text or in its tokens.
        """
        text = self.text(messages, ask=False)
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = coded["input_ids"], coded["offset_mapping"]
        supervised = [False] * len(ids)
        for turn, message in enumerate(messages):
            if message.role == "assistant":
                start, end = self._span(text, messages, turn)
                first, last = self._tokens(text, ids, offsets, start, end, self._ids(text[:start]), message.content)
                supervised[first:last] = [True] * (last - first)
        if not any(supervised):
            raise ModelError("there is no assistant answer in these messages, so there is nothing to train on")
        return RenderedChat(text, tuple(ids), tuple(supervised))

    def _span(self, text: str, messages: Sequence[Message], turn: int) -> tuple[int, int]:
        """Characters [start, end) of an assistant answer: from where it is asked for to the end of its content."""
        asked, (before, behind) = self.text(messages[:turn], ask=True), self._around(messages, turn)
        as_asked = before.startswith(asked) and text.startswith(asked)
        if not as_asked and turn == len(messages) - 1:
            raise ModelError(
                f"{self._template} asks for an answer with other text than it writes before one, so training would see another prompt "
                "than asking; set the template's options so that both agree (for a reasoning model, switch the reasoning off)"
            )
        content, end = messages[turn].content, len(text) - len(behind)
        for form in (content, content.rstrip(), content.lstrip(), content.strip()):  # templates may strip what they are given
            start = end - len(form)
            if start >= 0 and text[start:] == form + behind:
                # What the template itself puts before an answer (a space, an empty block of reasoning) is to be learnt with it.
                if as_asked and start >= len(asked):
                    return len(asked), end
                # Some write an earlier turn otherwise than they ask for one (Qwen3 without reasoning).
                if not as_asked and text[:start] == before:
                    return start, end
        raise ModelError(
            f"cannot find the assistant answer {_short(content)} in what {self._template} made of it; the template changes the text of "
            "answers, so use one that keeps it"
        )

    def _around(self, messages: Sequence[Message], turn: int) -> tuple[str, str]:
        """What the template writes before and behind the content of an assistant turn."""
        marked = self.text([*messages[:turn], Message("assistant", _MARK), *messages[turn + 1 :]], ask=False)
        before, found, behind = marked.partition(_MARK)
        if not found:
            raise ModelError(f"{self._template} leaves out or changes the text of answers; use one that keeps it")
        return before, behind

    def _tokens(
        self, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], start: int, end: int, prompt: tuple[int, ...], answer: str
    ) -> tuple[int, int]:
        """Tokens [first, last) of the span [start, end) of characters and the end token behind it; `prompt` is what stands before."""
        first = next((i for i, (a, b) in enumerate(offsets) if b > start and b > a), len(ids))
        if tuple(ids[:first]) != prompt:
            raise ModelError(
                f"{self._name} merges the end of the prompt with the start of the answer {_short(answer)}, so training would see other "
                "tokens than asking; remove white space at the start of the answer"
            )
        for i in range(first, len(ids)):
            a, b = offsets[i]
            # Some templates put white space between the content and the end token: to end, a model has to write it too.
            if a >= end and text[a:b].strip():
                if ids[i] in self._special and not text[end:a].strip():
                    return first, i + 1
                break
        raise ModelError(
            f"{self._template} puts no end token behind an assistant answer, so a model could not learn to stop; use a template that "
            "ends each answer with one"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
