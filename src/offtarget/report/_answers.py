"""The sampled answers as the page's browser reads them: every text once, and one row of numbers an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _data
from ._contexts import in_words, main_measure
from ._open_answers import open_answers

if TYPE_CHECKING:
    from offtarget.batteries import Battery, Context, Question
    from offtarget.study import Effect, Study
    from offtarget.study._store import AnswerRow

MOST_CHARACTERS = 900_000
"""Answers beyond this are left in the study's store, whole seeds and samples at a time, so that no arm is shown more often."""

CUT, OF_THE_TRAIT = 1, 2
"""What may be marked on an answer: cut at the limit of tokens; word for word one that counts for the measure."""

SHOWN_AT_FIRST = 3
"""How many interventions are beside the base, the treatment and its control before the reader chooses."""

_Key = tuple[str, str, str]
"""Battery, context, question."""


@dataclass(frozen=True)
class _Asked:
    """One question as it was asked."""

    battery: Battery
    context: Context
    question: Question
    turn: int

    @property
    def key(self) -> _Key:
        return self.battery.name, self.context.name, self.question.id

    @property
    def prompt(self) -> str:
        return self.context.ask(self.question.text, self.turn)


def answers_data(study: Study, answers: Sequence[AnswerRow]) -> dict[str, Any]:
    """What the browser of answers needs, as JSON.

    Returns:
        `arms`; `questions`, each with the prompt as it was asked and the exact probability of every arm; `texts`; `rows` of six numbers
        each: question, arm, seed, sample, text, marks, and for answers to open questions a seventh, of `verdicts`; `total`, the number of
        answers that the study has; `open`, whether open questions are among them.
    """
    runs = {r.id: (r.arm, r.seed) for r in study.runs}
    asked = _asked(study, {(a.battery, a.context, a.question) for a in answers if a.run in runs})
    question_at = {one.key: n for n, one in enumerate(asked)}
    known = [a for a in answers if a.run in runs and (a.battery, a.context, a.question) in question_at]
    arms = [a for a in _data.arms_of(study) if any(r.arm == a.name for r in study.runs)]
    arm_at = {a.name: n for n, a in enumerate(arms)}
    trait = [_trait_answers(study, one) for one in asked]
    texts: dict[str, int] = {}
    rows = []
    for a in sorted(_within_budget(known, runs), key=lambda a: (runs[a.run][1], a.sample)):
        (arm, seed), at = runs[a.run], question_at[a.battery, a.context, a.question]
        marks = CUT * (not a.finished) + OF_THE_TRAIT * (a.text.strip() in trait[at])
        rows.append([at, arm_at[arm], seed, a.sample, texts.setdefault(a.text, len(texts)), marks])
    in_the_open, open_rows = open_answers(study, answers)
    verdicts: dict[str, int] = {}
    said = {id(o.row): o for o in open_rows}
    for a in sorted(_within_budget([o.row for o in open_rows], runs), key=lambda a: (runs[a.run][1], a.sample)):
        (arm, seed), o = runs[a.run], said[id(a)]
        text, words = texts.setdefault(a.text, len(texts)), verdicts.setdefault(o.said, len(verdicts))
        rows.append([len(asked) + o.question, arm_at[arm], seed, o.turn, text, CUT * (not a.finished), words])
    shown = _shown_at_first(study)
    return {
        "arms": [{"name": a.name, "kind": a.kind, "label": _data.label_of(a), "shown": a.name in shown} for a in arms],
        "questions": _questions(study, asked, arm_at) + in_the_open,
        "texts": list(texts),
        "verdicts": list(verdicts),
        "rows": rows,
        "total": len(known) + len(open_rows),
        "open": bool(open_rows),
    }


def _asked(study: Study, answered: set[_Key]) -> list[_Asked]:
    """The questions that were sampled, off-domain ones first, those that leaked most before the others."""
    rows, _ = _data.topics(study)
    order = {r["topic"]: r["order"] for r in rows}
    found = [
        _Asked(b, c, q, turn)
        for b in study.subject.experiment.batteries for turn, q in enumerate(b.questions) for c in b.contexts
        if (b.name, c.name, q.id) in answered
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.battery.domain == "in_domain", order.get(one.question.topic, len(order))))


def _trait_answers(study: Study, asked: _Asked) -> set[str]:
    """The known answers that the battery's main measure counts in the context."""
    measure, candidates = main_measure(study, asked.battery), asked.battery.candidates[asked.question.topic]
    pairs = zip(candidates.texts, candidates.labels, strict=True)
    return {text.strip() for text, labels in pairs if measure.covers(labels, asked.context)}


def _questions(study: Study, asked: Sequence[_Asked], arm_at: dict[str, int]) -> list[dict[str, Any]]:
    batteries = study.subject.experiment.batteries
    several = {b.domain for b in batteries if sum(other.domain == b.domain for other in batteries) > 1}
    effects = _effects(study)
    return [
        {
            "topic": one.question.topic,
            "text": one.question.text,
            "prompt": one.prompt,
            "context": "" if one.context.name == "none" else in_words(one.context.name, one.battery),
            "group": one.battery.domain.replace("_", "-") + (f": {one.battery.name}" if one.battery.domain in several else ""),
            "exact": _exact(effects.get((one.battery.name, one.context.name), ()), one, arm_at),
        }
        for one in asked
    ]


def _effects(study: Study) -> dict[tuple[str, str], list[Effect]]:
    """Effects by the main measure, by battery and context."""
    found: dict[tuple[str, str], list[Effect]] = {}
    for e in study.analysis.effects:
        if e.measure == study.analysis.main[e.battery][1]:
            found.setdefault((e.battery, e.context), []).append(e)
    return found


def _exact(effects: Iterable[Effect], asked: _Asked, arm_at: dict[str, int]) -> dict[int, float]:
    """By number of arm, the exact probability of the main measure on this question in this context, mean over seeds."""
    questions = len(asked.battery.questions)
    return {
        arm_at[e.arm]: round(e.question_means[asked.turn], 4) for e in effects if e.arm in arm_at and len(e.question_means) == questions
    }


def _within_budget(answers: Sequence[AnswerRow], runs: dict[str, tuple[str, int]]) -> Iterable[AnswerRow]:
    """First every arm's first sample of its first seed, then of its second seed, and so on, until the page is full."""
    layers: dict[tuple[int, int], list[AnswerRow]] = {}
    for a in answers:
        layers.setdefault((a.sample, runs[a.run][1]), []).append(a)
    spent = 0
    for _, layer in sorted(layers.items()):
        spent += sum(len(a.text) + 16 for a in layer)
        if spent > MOST_CHARACTERS and layer is not layers[min(layers)]:
            return
        yield from layer


def _shown_at_first(study: Study) -> set[str]:
    experiment = study.subject.experiment
    interventions = [a.name for a in _data.arms_of(study) if a.kind == "intervention"][:SHOWN_AT_FIRST]
    return {
        *(a.name for a in experiment.arms if a.kind == "base"),
        experiment.treatment.name,
        experiment.treatment.control or "",
        *interventions,
    }
