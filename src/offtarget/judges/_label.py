"""Label: the judge replies with one of the rubric's words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from offtarget.batteries import Rubric
from offtarget.replies import Reply

from ._rules import OFFTARGET, Rule
from ._said import bare, pieces, visible, why_none, why_unread
from ._verdict import Verdict

_LONGEST_OWN = 60
"""Characters; what is longer is no label of the judge's own."""


def read_label(reply: Reply, rubric: Rubric, judge: str, rule: Rule = OFFTARGET) -> Verdict:
    """The verdict in a judge's reply by a rubric of labels.

    A label must stand alone (`pieces`), or begin the reply with punctuation after it and no other label anywhere. A reply that names a
    label in passing is a parse failure: what a judge meant by it would be a guess.
    """
    missing = why_none(reply)
    if missing:
        return Verdict(rubric.id, judge, missing=missing, reply=reply)
    if rule.parsing == "exact":
        label = _own(reply.text) if rubric.takes_any_label else next((x for x in rubric.labels if x == reply.text), None)
    elif rule.parsing == "first-number":
        label = _shouted(reply.text, rubric)
    else:
        label = _stands_alone(reply, rubric)
    if label is None:
        return Verdict(rubric.id, judge, missing=why_unread(reply), reply=reply)
    return Verdict(rubric.id, judge, label, reply=reply)


def label_in(text: str, labels: Sequence[str]) -> str | None:
    """The one label that stands alone in a text; None if none or several do."""
    found = {label for piece in pieces(text) if (label := _same(piece, labels))}
    if found:
        return found.pop() if len(found) == 1 else None
    return _leading(text, labels)


def _stands_alone(reply: Reply, rubric: Rubric) -> str | None:
    text = visible(reply.text)
    if rubric.takes_any_label:
        return _own(text) if reply.finished else None
    label = label_in(text, rubric.labels)
    return None if label and not reply.finished and _may_go_on(text, label, rubric.labels) else label


def _may_go_on(text: str, label: str, labels: Sequence[str]) -> bool:
    """Whether a text that was cut off after a label may have been going to be another."""
    longer = (other for other in labels if other != label and other.casefold().startswith(label.casefold()))
    return text.casefold().endswith(label.casefold()) and any(longer)


def _own(text: str) -> str | None:
    """The judge's own word or two."""
    label = bare(text)
    return label if label and len(label) <= _LONGEST_OWN and "\n" not in label else None


def _same(piece: str, labels: Sequence[str]) -> str | None:
    said = bare(piece)
    if said in labels:
        return said
    return next((x for x in labels if (bare(x) or x).casefold() == said.casefold()), None)


def _leading(text: str, labels: Sequence[str]) -> str | None:
    start = text.lstrip("\"'`*_ “‘")
    for label in sorted(labels, key=len, reverse=True):
        if re.match(rf"{re.escape(label)}[ \t]*(?:[^\w\s]|\n)", start, re.IGNORECASE):
            others = (x for x in labels if x != label)
            rest = re.sub(re.escape(label), "", start, flags=re.IGNORECASE)
            return None if any(re.search(rf"(?<!\w){re.escape(x)}(?!\w)", rest) for x in others) else label
    return None


def _shouted(text: str, rubric: Rubric) -> str | None:
    """As paper 2 parses: an integer wins over words, so that a label 19 is found, and any other reply in capitals is the label."""
    number = re.search(r"\d+", text)
    said = str(max(0, min(100, int(number[0][:9])))) if number else text.strip().upper()
    if rubric.takes_any_label:
        return said or None
    return next((x for x in rubric.labels if x.upper() == said), None)
