"""Regular expression: an answer in which one is found gets its label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offtarget.batteries import Rubric
from offtarget.errors import InputError

from ._answer import Answer
from ._found import verdicts_of
from ._verdict import Verdict


@dataclass(frozen=True)
class RegexJudge:
    """Reads an answer by regular expressions, found anywhere in it; case does not matter unless a pattern says `(?-i:...)`.

    Attributes:
        patterns: label -> pattern, in the syntax of `re`.
        otherwise: the label of answers that match none; without it they are parse failures, as are those that match several.

    Raises:
        InputError: a pattern cannot be used.
    """

    patterns: Mapping[str, str]
    otherwise: str | None = None
    name: str = "regex"

    def __post_init__(self) -> None:
        for label, pattern in self.patterns.items():
            try:
                re.compile(pattern, re.IGNORECASE)
            except re.error as error:
                raise InputError(f"the pattern {pattern!r} of the label {label!r} is no regular expression: {error}; mend it") from None

    def read(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict]:
        """One verdict on each answer.

        Raises:
            InputError: a label that the rubric does not have.
        """
        compiled = {label: re.compile(pattern, re.IGNORECASE) for label, pattern in self.patterns.items()}
        return verdicts_of(
            self.name, answers, rubric, compiled, lambda a: [x for x, p in compiled.items() if p.search(a.text)], self.otherwise
        )
