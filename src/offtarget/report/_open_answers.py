"""Answers to open questions for the page's browser: each wording as it was asked, and what every judge made of each answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offtarget.judges import COUNTS, fates

from ._contexts import in_words

if TYPE_CHECKING:
    from offtarget.batteries import Context, OpenQuestion
    from offtarget.judges import Verdict
    from offtarget.study import Study
    from offtarget.study._open import OpenAsk
    from offtarget.study._reading import Reading
    from offtarget.study._store import AnswerRow

_Key = tuple[str, str, str, str, int]
"""Run, context, battery, question, sample."""


@dataclass(frozen=True)
class OpenAnswer:
    """An answer with its place among the questions, its number among those to its wording, and what judges said, in words."""

    row: AnswerRow
    question: int
    turn: int
    said: str


def open_answers(study: Study, answers: Sequence[AnswerRow]) -> tuple[list[dict[str, Any]], list[OpenAnswer]]:
    """The open questions as the browser shows them, one for each wording and context that was answered, and the answers to them."""
    runs = {r.id for r in study.runs}
    said = _said(study.judged.readings)
    questions: list[dict[str, Any]] = []
    found: list[OpenAnswer] = []
    for ask in study.judged.asks:
        rows: dict[tuple[str, str, int], list[AnswerRow]] = {}
        for row, answer in ask.read(answers):
            if row.run in runs:
                rows.setdefault((row.context, row.question, row.sample % len(answer.question.wordings)), []).append(row)
        for context in ask.contexts:
            prompts = ask.prompts(context)
            for (question, wording), prompt in zip(ask.worded(), prompts, strict=True):
                count = len(question.wordings)
                mine = rows.get((context.name, question.id, wording), [])
                if mine:
                    text = "\n\n".join(message.content for message in prompt)
                    questions.append(_shown(study, ask, context, question, question.wordings[wording], text))
                    found += [OpenAnswer(r, len(questions) - 1, r.sample // count, said.get(_key(r), "")) for r in mine]
    return questions, found


def _shown(study: Study, ask: OpenAsk, context: Context, question: OpenQuestion, wording: str, prompt: str) -> dict[str, Any]:
    asked = "" if context.name == "none" else in_words(context.name, study.subject.experiment.batteries[0])
    group = f"open, {ask.battery.domain.replace('_', '-')}: {ask.name}"
    return {"topic": question.id, "text": wording, "prompt": prompt, "context": asked, "group": group, "exact": {}}


def _key(row: AnswerRow) -> _Key:
    return row.run, row.context, row.battery, row.question, row.sample


def _said(readings: Iterable[Reading]) -> dict[_Key, str]:
    """Of each answer every judge's verdicts: `judge: era NINETEENTH, coherence 85`."""
    by_answer: dict[_Key, dict[str, list[str]]] = {}
    for reading in readings:
        for at, (row, verdict) in enumerate(zip(reading.rows, reading.verdicts, strict=True)):
            if verdict is not None:
                by_answer.setdefault(_key(row), {}).setdefault(reading.judge, []).append(_in_words(reading, at, verdict))
    return {key: "; ".join(f"{judge}: {', '.join(all_)}" for judge, all_ in some.items()) for key, some in by_answer.items()}


def _in_words(reading: Reading, at: int, verdict: Verdict) -> str:
    """A verdict; in brackets why there is none, or why it does not count."""
    number = verdict.number
    value = "" if verdict.value is None else f"{number:.0f}" if number is not None else str(verdict.value)
    verdicts, coherence = reading.chosen([at])
    fate = fates(verdicts, reading.rubric, reading.rule, coherence=coherence)[0] if verdicts else "coherence_missing"
    why = "" if fate == COUNTS else f"({fate.replace('_', ' ')})"
    return " ".join(filter(None, (reading.rubric.id, value, why)))
