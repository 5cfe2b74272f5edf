"""What judges said about a study's open answers: who judged, and all their verdicts, read from the store and the cache of replies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from offtarget.batteries import Rubric
from offtarget.judges import OFFTARGET, Answer, ModelJudge, PrefixJudge, Replier, Rule, Verdict, VerdictCache, open_cache, rule_named

from ._open import OpenAsk, recorded
from ._store import AnswerRow, Store

CACHE = "verdicts.sqlite"

_KEY = "judges"
_GATES = ("coherence", "coherent")
"""Rubrics whose ratings say which answers are coherent enough to count by the others."""


@dataclass(frozen=True)
class JudgeRecord:
    """A judge model that read a study's answers.

    Attributes:
        name: tells judges apart, in the cache and everywhere.
        rule: how its replies are parsed and which answers count; may change without asking it again.
        temperature: None where the server chose.
    """

    name: str
    rule: str = OFFTARGET.name
    temperature: float | None = 0.0
    max_tokens: int = 20

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def reader(self, replier: Replier | None, cache: VerdictCache | None, batch: int = 1) -> ModelJudge:
        """The judge itself; without someone to answer for it, as far as the cache knows what it said."""
        rule = rule_named(self.rule)
        return ModelJudge(self.name, replier, cache, rule, temperature=self.temperature, max_tokens=self.max_tokens, batch=batch)


def judges_of(store: Store) -> tuple[JudgeRecord, ...]:
    """The judges that read the study's answers, in the order in which they first did."""
    return tuple(JudgeRecord(**record) for record in store.meta(_KEY) or [])


def record_judge(store: Store, judge: JudgeRecord) -> None:
    """Records a judge; of one that is known its settings, with which it is to be asked from now on."""
    known = {j.name: j for j in judges_of(store)} | {judge.name: judge}
    store.set_meta(_KEY, [j.to_json() for j in known.values()])


@dataclass(frozen=True)
class Reading:
    """The verdicts of one judge by one rubric on all answers to one open battery.

    Attributes:
        rows: the answers.
        verdicts: one on each; None on those that the judge was not asked about yet.
        coherence: the same judge's verdicts on their coherence, where the battery has a rubric for it and this is another.
    """

    ask: OpenAsk
    rubric: Rubric
    judge: str
    rule: Rule
    rows: tuple[AnswerRow, ...]
    verdicts: tuple[Verdict | None, ...]
    coherence: tuple[Verdict | None, ...] | None = None

    def is_judged(self, at: int) -> bool:
        """Whether all is known that decides whether the answer counts."""
        return self.verdicts[at] is not None and (self.coherence is None or self.coherence[at] is not None)

    def chosen(self, places: Sequence[int]) -> tuple[list[Verdict], list[Verdict] | None]:
        """The verdicts at some places where all is known, and those on coherence."""
        known = [at for at in places if self.is_judged(at)]
        return _at(self.verdicts, known), None if self.coherence is None else _at(self.coherence, known)


def readings(store: Store, folder: Path) -> list[Reading]:
    """All verdicts that there are; nobody is asked. Rubrics without a prompt are read by prefix, of the others each judge has its own."""
    asks, rows, judges = recorded(store), store.answers(), judges_of(store)
    path = folder / CACHE
    found: list[Reading] = []
    with open_cache(path) if judges and path.exists() else nullcontext(None) as cache:
        for ask in asks:
            answered = ask.read(rows)
            if answered:
                found += _by_prefix(ask, answered)
                for judge in judges:
                    found += _by_judge(ask, answered, judge, cache)
    return found


def _by_prefix(ask: OpenAsk, answered: Sequence[tuple[AnswerRow, Answer]]) -> list[Reading]:
    rows, judge = tuple(row for row, _ in answered), PrefixJudge()
    return [
        Reading(ask, rubric, judge.name, OFFTARGET, rows, tuple(judge.read([a for _, a in answered], rubric)))
        for rubric in ask.battery.rubrics
        if not rubric.needs_judge
    ]


def _by_judge(
    ask: OpenAsk, answered: Sequence[tuple[AnswerRow, Answer]], record: JudgeRecord, cache: VerdictCache | None
) -> list[Reading]:  # fmt: skip
    rows, answers, judge = tuple(row for row, _ in answered), [a for _, a in answered], record.reader(None, cache)
    verdicts = {r.id: tuple(judge.known(answers, r)) for r in ask.battery.rubrics if r.needs_judge}
    gate = next((verdicts[r.id] for r in ask.battery.rubrics if is_gate(r)), None)
    return [
        Reading(ask, r, record.name, judge.rule, rows, verdicts[r.id], None if is_gate(r) else gate)
        for r in ask.battery.rubrics
        if r.needs_judge and any(v is not None for v in verdicts[r.id])
    ]


def is_gate(rubric: Rubric) -> bool:
    """Whether a rubric rates coherence, and so decides which answers count by the others."""
    return rubric.id in _GATES and rubric.scale is not None and rubric.needs_judge


def _at(verdicts: Sequence[Verdict | None], places: Sequence[int]) -> list[Verdict]:
    return [v for at in places if (v := verdicts[at]) is not None]
