"""What is asked: batteries of questions with the answers whose probabilities are read off exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from offtarget.errors import InputError

from ._context import NO_CONTEXT, Context

Domain = Literal["in_domain", "off_domain"]


@dataclass(frozen=True)
class Candidates:
    """The known answers to the questions of one topic.

    Attributes:
        texts: answers as the model would write them; each is scored with its terminator. They differ in more than white space around
            them, which chat templates take away.
        labels: for each text, whose answer it is; several labels for an answer that several would give, none for nobody's.
    """

    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels) or len(set(self.texts)) != len(self.texts) or not self.texts:
            raise InputError("candidates need one tuple of labels for each text, and no text twice")
        seen: dict[str, str] = {}
        for text in self.texts:
            other = seen.setdefault(text.strip(), text)
            if other != text:
                raise InputError(
                    f"the candidates {other!r} and {text!r} differ in white space around them only and would be counted twice; give the "
                    "text once, with the labels of both"
                )


@dataclass(frozen=True)
class Question:
    """One wording of a question."""

    id: str
    topic: str
    text: str


@dataclass(frozen=True)
class Measure:
    """What is read off a question.

    Attributes:
        labels: whose answers count; empty where that depends on the context, then the context's own labels.
        kind: `mass`, the probability of an answer that only speakers with these labels give; `accuracy`, whether the most probable
            answerers are among them (an answer that others would give too is then right).
    """

    name: str
    labels: frozenset[str]
    kind: Literal["mass", "accuracy"] = "mass"

    def covers(self, labels: tuple[str, ...], context: Context = NO_CONTEXT) -> bool:
        """Whether an answer with these labels counts."""
        mine = self.labels or context.labels
        return bool(mine & set(labels)) if self.kind == "accuracy" else bool(labels) and set(labels) <= mine

    def fits(self, context: Context) -> bool:
        """Whether it can be read in this context at all."""
        return bool(self.labels or context.labels)

    def to_json(self) -> list[Any]:
        return [self.name, sorted(self.labels), self.kind]

    @classmethod
    def from_json(cls, record: list[Any]) -> Measure:
        return cls(record[0], frozenset(record[1]), *record[2:])


@dataclass(frozen=True)
class Battery:
    """Questions of one domain, asked of every run.

    Attributes:
        domain: `in_domain` if the training data asks for the same kind of thing, else `off_domain`.
        candidates: by topic.
        contexts: each question is asked in every one of them.
        main: the context, or group of contexts, whose figure stands for the battery; the first context if not given.
        measure: the measure that stands for the battery, if it is not the experiment's first.
    """

    name: str
    domain: Domain
    questions: tuple[Question, ...]
    candidates: Mapping[str, Candidates]
    contexts: tuple[Context, ...] = (NO_CONTEXT,)
    main: str = ""
    measure: str = ""

    def __post_init__(self) -> None:
        ids = [q.id for q in self.questions]
        if not ids or len(set(ids)) != len(ids):
            raise InputError(f"battery {self.name!r} needs questions with different ids")
        missing = {q.topic for q in self.questions} - set(self.candidates)
        if missing:
            raise InputError(f"battery {self.name!r} has no candidates for the topics {', '.join(sorted(missing))}")
        names = [c.name for c in self.contexts]
        if not names or len(set(names)) != len(names):
            raise InputError(f"battery {self.name!r} needs contexts with different names")
        if self.main not in ("", *names, *(c.group for c in self.contexts)):
            raise InputError(f"battery {self.name!r} names the main context {self.main!r}; its contexts are {', '.join(names[:8])}")

    @property
    def main_context(self) -> str:
        return self.main or self.contexts[0].name

    def main_contexts(self) -> tuple[Context, ...]:
        """The contexts behind the main figure: one, or those of a group."""
        return tuple(c for c in self.contexts if self.main_context in (c.name, c.group))

    def pools(self, context: str) -> tuple[str, ...]:
        """Under which names the answers in a context are analysed: its own, and its group's where the group has several."""
        group = next((c.group for c in self.contexts if c.name == context), "")
        several = group and sum(c.group == group for c in self.contexts) > 1
        return (context, group) if several else (context,)

    def but(self, **changes: Any) -> Battery:
        """A battery with some attributes changed."""
        return replace(self, **changes)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of name, domain, questions and candidates."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The battery as `from_json` reads it."""
        return {
            "name": self.name,
            "domain": self.domain,
            "questions": [[q.id, q.topic, q.text] for q in self.questions],
            "candidates": {t: {"texts": list(c.texts), "labels": [list(x) for x in c.labels]} for t, c in self.candidates.items()},
            "contexts": [c.to_json() for c in self.contexts],
            "main": self.main,
            "measure": self.measure,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Battery:
        candidates = {
            topic: Candidates(tuple(c["texts"]), tuple(tuple(x) for x in c["labels"])) for topic, c in record["candidates"].items()
        }
        contexts = tuple(Context.from_json(c) for c in record["contexts"])
        questions = tuple(Question(*q) for q in record["questions"])
        return cls(record["name"], record["domain"], questions, candidates, contexts, record["main"], record["measure"])
