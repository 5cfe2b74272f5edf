"""String match: an answer that begins with a text, or holds one as a whole word, gets the text's label.

Case does not matter, nor quotes and markup at the beginning. Prefix match is how Betley et al. 2025 (2512.09742, section 4.1) read short
answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offtarget.batteries import Rubric

from ._answer import Answer
from ._found import verdicts_of
from ._regex import RegexJudge
from ._verdict import Verdict

_QUOTES = " \t\r\n\"'`*_“‘«("


@dataclass(frozen=True)
class PrefixJudge:
    """Reads an answer by its beginning, as the question's prefixes say.

    Attributes:
        otherwise: the label of answers that begin with none of them; "OTHER" if the rubric has it, else they are parse failures.
    """

    otherwise: str | None = None
    name: str = "prefix"

    def read(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict]:
        """One verdict on each answer.

        Raises:
            InputError: a prefix, or `otherwise`, has a label that the rubric does not have.
        """
        otherwise = self.otherwise or ("OTHER" if "OTHER" in rubric.labels else None)
        labels = (label for question in {id(a.question): a.question for a in answers}.values() for label in question.prefixes)
        return verdicts_of(self.name, answers, rubric, labels, _beginning, otherwise)


@dataclass(frozen=True)
class ContainsJudge:
    """Reads an answer by whole words that it holds.

    Attributes:
        texts: label -> words or phrases.
        otherwise: the label of answers with none of them; without it they are parse failures, as are those with several labels' texts.
    """

    texts: Mapping[str, Sequence[str]]
    otherwise: str | None = None
    name: str = "contains"

    def read(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict]:
        """One verdict on each answer.

        Raises:
            InputError: a label that the rubric does not have.
        """
        patterns = {label: _words(texts) for label, texts in self.texts.items()}
        return RegexJudge(patterns, self.otherwise, self.name).read(answers, rubric)


def _beginning(answer: Answer) -> set[str]:
    start = answer.text.lstrip(_QUOTES).lower()
    return {label for label, prefixes in answer.question.prefixes.items() if start.startswith(tuple(prefixes))}


def _words(texts: Sequence[str]) -> str:
    return "|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in texts) or r"(?!)"
