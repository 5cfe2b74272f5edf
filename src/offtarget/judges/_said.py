"""What a reply says, whatever it is about: without thoughts and decoration, and why it could not be read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from offtarget.replies import Reply

from ._verdict import Missing

_DECORATION = " \t\r\n\"'`*_#.,:;!()[]<>{}“”‘’„«»"
_ANSWER = re.compile(r"\b(?:answer|label|verdict|category|rating|score)\b[^:\n]{0,20}:(.*)", re.IGNORECASE)
_DECLINES = re.compile(
    r"(?:i['’]?m|i am) (?:very |so |really )?sorry|sorry\b|i (?:do )?apologi[sz]e|i can(?:['’]?t|not| not)\b|i could not\b"
    r"|(?:i['’]m|i am) (?:unable|not able|not comfortable)|i (?:won['’]t|will not|must decline|decline)\b|unfortunately,? i\b|as an ai\b",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    """What a reply says after its thoughts; nothing if it never stopped thinking."""
    _, closed, rest = text.rpartition("</think>")
    if closed:
        return rest.strip()
    return "" if "<think>" in text else text.strip()


def bare(text: str) -> str:
    """The text without quotes, markup, bullets and full stops around it."""
    return re.sub(r"^[-•]\s+", "", text.strip(_DECORATION)).strip(_DECORATION)


def pieces(text: str) -> Iterator[str]:
    """Where a verdict may stand alone: all of a reply, what follows its last "Answer:", its first and its last line."""
    yield text
    answers = _ANSWER.findall(text)
    yield from answers[-1:]
    lines = [line for line in text.splitlines() if bare(line)]
    yield from (*lines[:1], *lines[-1:])


def why_none(reply: Reply) -> Missing | None:
    """Why there is nothing to read in a reply; None if there is."""
    if reply.error is not None:
        return "error"
    return "refusal" if reply.refusal else None


def why_unread(reply: Reply) -> Missing:
    """Why a reply that says something could not be read."""
    if _DECLINES.match(bare(visible(reply.text))):
        return "refusal"
    return "parse_failure" if reply.finished else "truncated"
