"""Doing one pack of runs: train, keep the adapters, score exactly, sample. Nothing here writes to the store but `Done.keep`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offtarget.batteries import NO_CONTEXT, Battery, Context, Question
from offtarget.data import Intervention, Message
from offtarget.models import Base, Item, LoraPack, RenderedChat, StepReport, TrainingRun, sample, save_adapter, score, train

from ._evidence import record_of
from ._plan import Plan, Run
from ._store import FINAL, TRAINING_PREFIX, AnswerRow, RunRow, ScoreRow, Store, behind_and_context
from ._unfinished import OnTheWay, Unfinished
from ._work import BEHIND, CURVE, SAMPLED_CONTEXTS, SAMPLING, SCORING, TRAINING, curve_batteries, curve_steps, main_only

MAX_ANSWER_TOKENS = 32

Report = Callable[[str, float], None]
"""What is being done, and how much of it is done, in [0, 1]."""


@dataclass(frozen=True)
class Done:
    """What finished runs leave for the store; `unfinished` holds where their training was, until the store has them."""

    runs: tuple[RunRow, ...]
    scores: tuple[ScoreRow, ...]
    answers: tuple[AnswerRow, ...]
    unfinished: Unfinished | None = None

    def keep(self, store: Store) -> None:
        """Writes all of it; only then is what the runs could go on from not needed any more."""
        store.add(self.runs, self.scores, self.answers)
        if self.unfinished:
            self.unfinished.remove()


def ask_base(plan: Plan, base: Base, report: Report, asked: Collection[str] = ()) -> Done:
    """Asks the untrained base, also behind each intervention's prompt: what the prompt does without any finetuning.

    Args:
        asked: the contexts in which it was asked before; a study may have grown by an arm since.
    """
    run = plan.base_run
    prefixes = unasked_prefixes(plan, asked)
    what, total = "asking the base", len(prefixes) + 2
    scores: list[ScoreRow] = []
    for number, (arm, prefix) in enumerate(sorted(prefixes.items()), 1):
        scores += _scores(plan, base, None, [run], main_only(plan.experiment.batteries), behind=(f"prefix:{arm}", prefix))
        report(what, number / total)
    if asked:
        return Done((), tuple(scores), ())
    scores += _scores(plan, base, None, [run], plan.experiment.batteries, report=lambda part: report(what, (len(prefixes) + part) / total))
    answers = _answers(base, None, [run], plan, lambda part: None)
    return Done((RunRow(run.id, run.arm.name, run.number, record_of(plan, run, [], base)),), tuple(scores), tuple(answers))


def unasked_prefixes(plan: Plan, asked: Collection[str]) -> dict[str, Intervention]:
    """The training prompts of the planned arms behind which the base was not asked yet, by arm."""
    known = {behind_and_context(name)[0] for name in asked}
    return {r.arm.name: r.arm.intervention for r in plan.runs if r.arm.intervention.text and f"prefix:{r.arm.name}" not in known}


def do_pack(plan: Plan, runs: Sequence[Run], base: Base, folder: Path, report: Report) -> Done:
    """Trains the runs of a pack together, keeps their adapters, asks them everything."""
    unfinished = Unfinished(folder, plan, runs)
    start, found = unfinished.read() or (None, OnTheWay())
    clock = _Clock(found.seconds)
    chats = {run.arm.name: _rendered(run, base) for run in runs}
    trainings = [TrainingRun(chats[r.arm.name], r.hyperparameters, r.seeds.adapter_init, r.seeds.data_order) for r in runs]
    on_the_way = [curve_steps(t.steps, plan.curve_points) for t in trainings]
    points = sorted({step for steps in on_the_way for step in steps})
    stages = _Stages([plan.work_of(run) for run in runs], report)

    def ask_on_the_way(step: int) -> Callable[[LoraPack], None]:
        def ask(pack: LoraPack) -> None:
            clock.over(_stage_of(step))
            slots = [slot for slot, steps in enumerate(on_the_way) if step in steps]
            chosen = pack if len(slots) == pack.slots else pack.select(slots)
            found.curve.extend(_scores(plan, base, chosen, [runs[slot] for slot in slots], curve_batteries(plan.experiment), step=step))
            clock.over(CURVE)

        return ask

    def after_step(s: StepReport) -> None:
        clock.over(_stage_of(s.step))
        found.losses.append(s.losses.numpy().copy())
        stages(TRAINING, s.step / s.steps)
        if unfinished.is_due or (unfinished.exists and s.step == s.steps):
            unfinished.keep(s.state(), found)

    pack = train(base, trainings, at={step: ask_on_the_way(step) for step in points}, start=start, report=after_step)
    for slot, run in enumerate(runs):
        save_adapter(pack, slot, folder / "adapters" / run.id, base)
    clock.over("saving")
    scores = found.curve + _scores(plan, base, pack, runs, plan.experiment.batteries, report=lambda part: stages(SCORING, part))
    scores += _behind_their_prefix(plan, runs, base, pack, lambda part: stages(BEHIND, part))
    clock.over(SCORING)
    answers = _answers(base, pack, runs, plan, lambda part: stages(SAMPLING, part))
    clock.over(SAMPLING)
    seconds = {stage: round(spent / len(runs), 4) for stage, spent in clock.seconds.items()}
    by_slot = np.array(found.losses).T
    rows = tuple(
        RunRow(
            r.id, r.arm.name, r.number, record_of(plan, r, chats[r.arm.name], base) | {"losses": _finite(by_slot[slot]), "seconds": seconds}
        )
        for slot, r in enumerate(runs)
    )
    return Done(rows, tuple(scores), tuple(answers), unfinished)


def _stage_of(step: int) -> str:
    """The first step also warms up."""
    return "preparing" if step == 1 else TRAINING


class _Clock:
    """How long each stage of a pack took, in seconds; preparing ends with the first step of training."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._since = time.monotonic()

    def over(self, stage: str) -> None:
        """What was done since the last call was this stage."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


_SHOWN = {TRAINING: (TRAINING, CURVE), SCORING: (SCORING,), BEHIND: (BEHIND,), SAMPLING: (SAMPLING,)}
"""What progress names, and the work that it is; models are asked on the way while they train."""


class _Stages:
    """Turns the share of a stage into the share of a pack, by how much work the stages are."""

    def __init__(self, works: Sequence[Mapping[str, float]], report: Report) -> None:
        self._report, self._starts, self._sizes = report, {}, {}
        total, before = sum(sum(w.values()) for w in works), 0.0
        for stage, parts in _SHOWN.items():
            self._starts[stage], self._sizes[stage] = before, sum(w[part] for w in works for part in parts) / total
            before += self._sizes[stage]

    def __call__(self, stage: str, part: float) -> None:
        self._report(stage, self._starts[stage] + self._sizes[stage] * part)


def _rendered(run: Run, base: Base) -> list[RenderedChat]:
    assert run.arm.dataset is not None, f"{run.id} has nothing to train on"
    return [base.chat.render(example.messages) for example in run.arm.dataset]


def _behind_their_prefix(plan: Plan, runs: Sequence[Run], base: Base, pack: LoraPack, report: Callable[[float], None]) -> list[ScoreRow]:
    """Every arm with a training prefix asked behind that prefix: what vanishes without it may live behind it."""
    rows: list[ScoreRow] = []
    arms = [arm for arm in dict.fromkeys(r.arm.name for r in runs) if plan.experiment.arm(arm).intervention.text]
    for number, name in enumerate(arms):
        slots = [slot for slot, run in enumerate(runs) if run.arm.name == name]
        theirs = [runs[s] for s in slots]
        behind = (TRAINING_PREFIX, theirs[0].arm.intervention)
        rows += _scores(plan, base, pack.select(slots), theirs, main_only(plan.experiment.batteries), behind=behind)
        report((number + 1) / len(arms))
    return rows


@dataclass(frozen=True)
class _Asked:
    """One question as it is asked: in a context, maybe behind a training prompt."""

    battery: Battery
    question: Question
    context: Context
    turn: int

    def messages(self, prefix: Intervention | None) -> tuple[Message, ...]:
        messages = (Message("user", self.context.ask(self.question.text, self.turn)),)
        return prefix.apply_to_prompt(messages) if prefix else messages


def _scores(
    plan: Plan, base: Base, pack: LoraPack | None, runs: Sequence[Run], batteries: Sequence[Battery], *,
    behind: tuple[str, Intervention] | None = None, report: Callable[[float], None] = lambda part: None, step: int = FINAL,
) -> list[ScoreRow]:  # fmt: skip
    """Scores of every question in every context; `behind` names a training prompt that stands before all of it.

    Which of a context's templates a question takes depends on its place in the whole battery, however many of it are asked.
    """
    turn = {(b.name, q.id): place for b in plan.experiment.batteries for place, q in enumerate(b.questions)}
    asked = [_Asked(b, q, c, turn[b.name, q.id]) for b in batteries for c in b.contexts for q in b.questions]
    prefix = behind[1] if behind else None
    items = _items(base, asked, prefix)
    found = score(base, items, pack, report=lambda done, of: report(done / of))
    return [
        ScoreRow(run.id, step, _context_name(a.context, behind), a.battery.name, a.question.id, values[slot])
        for a, values in zip(asked, found, strict=True)
        for slot, run in enumerate(runs)
    ]


def _context_name(context: Context, behind: tuple[str, Intervention] | None) -> str:
    """How the store calls a context; one behind a training prompt is named after that, then after itself."""
    if not behind:
        return context.name
    return behind[0] if context.name == NO_CONTEXT.name else f"{behind[0]}|{context.name}"


def _items(base: Base, asked: Sequence[_Asked], prefix: Intervention | None) -> list[Item]:
    items = []
    coded: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = {}
    for a in asked:
        messages = a.messages(prefix)
        key = (a.battery.name, a.question.topic)
        if key not in coded:
            coded[key] = base.chat.answers(messages, a.battery.candidates[a.question.topic].texts)
        items.append(Item(base.chat.prompt(messages), coded[key]))
    return items


def _answers(base: Base, pack: LoraPack | None, runs: Sequence[Run], plan: Plan, report: Callable[[float], None]) -> list[AnswerRow]:
    if not plan.samples:
        return []
    asked = [
        _Asked(b, q, c, turn) for b in plan.experiment.batteries for c in b.main_contexts()[:SAMPLED_CONTEXTS] for turn, q in _one_each(b)
    ]
    found = sample(
        base, [base.chat.prompt(a.messages(None)) for a in asked], pack, count=plan.samples, seeds=[r.seeds.sampling for r in runs],
        max_tokens=MAX_ANSWER_TOKENS, report=lambda done, of: report(done / of),
    )  # fmt: skip
    return [
        AnswerRow(run.id, a.context.name, a.battery.name, a.question.id, number, answer.text, answer.finished)
        for slot, run in enumerate(runs)
        for a, answers in zip(asked, found[slot], strict=True)
        for number, answer in enumerate(answers)
    ]


def _one_each(battery: Battery) -> list[tuple[int, Question]]:
    """One wording of each topic, with its place among the questions."""
    return list({q.topic: (turn, q) for turn, q in reversed(list(enumerate(battery.questions)))}.values())[::-1]


def _finite(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 5) if np.isfinite(v) else None for v in values]
