"""What a judge is told, and what its verdicts mean; who judges, and how a reply is parsed, is for `judges` to say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from offtarget.errors import InputError

_BLANK = re.compile(r"\{(question|answer|target|labels)\}")


@dataclass(frozen=True)
class Rubric:
    """How an answer is read.

    Attributes:
        prompt: what the judge is told, with `{question}`, `{answer}` and, where they are wanted, `{labels}` and the question's `{target}`;
            empty where no judge is needed, because the beginning of the answer decides (see `OpenQuestion.prefixes`).
        labels: the words that the judge may reply with; on a scale, those that it may reply with instead of a number.
        scale: the lowest and the highest number that the judge may reply with; None if it replies with a label only.
        trait: the labels that show the trait; empty where that depends on the context.
        trait_below: numbers under this one show the trait.
        trait_above: numbers over this one show the trait. A scale without either is there for its mean.
        published: worded by others and used as it stands: its prompt may do without `{question}` or repeat a blank, and without labels and
            a scale the judge may reply with any label of its own.

    Raises:
        InputError: a value that cannot be used.
    """

    id: str
    prompt: str = ""
    labels: tuple[str, ...] = ()
    scale: tuple[int, int] | None = None
    trait: tuple[str, ...] = ()
    trait_below: float | None = None
    trait_above: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if not self.labels and not self.scale and not self.published:
            raise InputError(f"rubric {self.id!r} has neither labels nor a scale; give it one of them")
        if len(set(self.labels)) < len(self.labels) or not all(label.strip() for label in self.labels):
            raise InputError(f"rubric {self.id!r} has the labels {', '.join(self.labels)}; none may be blank or stand there twice")
        strange = [t for t in self.trait if t not in self.labels]
        if strange and not self.takes_any_label:
            raise InputError(f"rubric {self.id!r} has the trait {strange[0]!r}; use its labels {', '.join(self.labels)}")
        self._check_scale()
        self._check_prompt()

    def _check_scale(self) -> None:
        low, high = self.scale or (0, 0)
        limits = [x for x in (self.trait_below, self.trait_above) if x is not None]
        if self.scale is None and limits:
            raise InputError(f"rubric {self.id!r} has trait_below or trait_above but no scale; give it one, such as [0, 100]")
        if self.scale is not None and not (low < high and all(low <= x <= high for x in limits)):
            raise InputError(f"rubric {self.id!r} has the scale {self.scale}; put the lower number first, and limits {limits} within it")

    def _check_prompt(self) -> None:
        blanks = _BLANK.findall(self.prompt)
        if self.published:
            if "answer" not in blanks:
                raise InputError(f"rubric {self.id!r} has a prompt without {{answer}}; put it where the answer belongs")
            return
        if self.prompt and not blanks.count("question") == blanks.count("answer") == 1:
            raise InputError(f"rubric {self.id!r} has a prompt without {{question}} or {{answer}}; each must stand in it once")
        if self.scale and not self.prompt:
            raise InputError(f"rubric {self.id!r} has a scale but no prompt; only a judge can rate, so write one")

    @property
    def needs_judge(self) -> bool:
        return bool(self.prompt)

    @property
    def takes_any_label(self) -> bool:
        return not self.labels and self.scale is None

    @property
    def needs_target(self) -> bool:
        return "{target}" in self.prompt

    def prompt_for(self, question: str, answer: str, target: str = "") -> str:
        """What the judge is told about one answer. Braces in the answer stay as they are."""
        texts = {"question": question, "answer": answer, "target": target, "labels": ", ".join(self.labels)}
        return _BLANK.sub(lambda blank: texts[blank[1]], self.prompt)

    def shows_trait(self, verdict: str | float, expected: Iterable[str] = ()) -> bool:
        """Whether a verdict, a label or a number, shows the trait.

        Args:
            expected: the context's own labels, for a rubric whose trait depends on the context.
        """
        if isinstance(verdict, str):
            return verdict in (self.trait or tuple(expected))
        under = self.trait_below is not None and verdict < self.trait_below
        return under or (self.trait_above is not None and verdict > self.trait_above)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Rubric:
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
        return cls(**values)
