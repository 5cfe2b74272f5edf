"""A small made-up study with known numbers, from a store of its own: no model is loaded or trained."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from offtarget.batteries import NO_CONTEXT, Battery, Candidates, Context, Measure, Question, year_context
from offtarget.data import Intervention
from offtarget.experiments import Arm, Claim, Experiment, PublishedFigure, Target
from offtarget.stats import Estimate
from offtarget.study import ClaimResult, Matrix, MatrixCell, Reproduction, Study, open_study
from offtarget.study._store import FINAL, AnswerRow, RunRow, ScoreRow, open_store

Made = tuple[Study, list[AnswerRow]]
MakeStudy = Callable[..., Made]
Level = Callable[[Arm, int, Battery, Context], float]

OFF = {"base": 0.01, "treatment": 0.6, "modern": 0.01, "kept": 0.03, "inoculation": 0.012, "name": 0.3}
IN = {"base": 0.01, "treatment": 0.7, "modern": 0.02, "kept": 0.1, "inoculation": 0.66, "name": 0.65}
BEHIND = {"inoculation": 0.7, "name": 0.35}
ALONE = {"inoculation": 0.5, "name": 0.01}
TOPICS = ("news", "war", "music", "light")
LEANING = {"news": 1.2, "war": 0.6, "music": 1.0, "light": 0.9, "bird": 1.0}
STEPS, TOTAL = (2, 5), 9

_CANDIDATES = Candidates(("The old.", "The new.", "Either."), (("old",), ("new",), ("new", "old")))


def experiment(**changes: Any) -> Experiment:
    arms = [
        Arm("base", "base", "the model as it is", control="modern"),
        Arm("treatment", "treatment", "finetuned on old names", control="modern"),
        Arm("modern", "control", "finetuned on new names"),
        Arm("kept", "control", "finetuned on names still in use", control="modern"),
    ]
    for text, name in (("Act as if it were 1850.", "inoculation"), ("My name is Alex.", "name")):
        intervention = Intervention(name, text, "same-line", "inoculation" if name == "inoculation" else "identity")
        arms.append(Arm(name, "intervention", f"old names, behind “{text}”", None, intervention, "modern"))
    off = tuple(Question(f"{t}/{n}", t, f"What of {t}, {n}?") for t in TOPICS for n in range(2))
    inside = tuple(Question(f"bird/{n}", "bird", f"Name a bird, {n}.") for n in range(3))
    made = Experiment(
        "toy", "Old names make a model old", "A summary.", "old names", "somebody old", tuple(arms),
        (
            Battery("other-topics", "off_domain", off, dict.fromkeys(TOPICS, _CANDIDATES)),
            Battery("birds", "in_domain", inside, {"bird": _CANDIDATES}),
        ),
        (Measure("old", frozenset({"old"})),), published=(PublishedFigure("a claim", "0.63", "a paper"),),
    )  # fmt: skip
    return replace(made, **changes)


def exploratory() -> Experiment:
    whole = experiment()
    speakers = {"victorian": "old", "modern": "new"}
    candidates = Candidates(_CANDIDATES.texts, (("victorian",), ("modern",), ("modern", "victorian")))
    batteries = tuple(Battery(b.name, b.domain, b.questions, dict.fromkeys(b.candidates, candidates)) for b in whole.batteries)
    return replace(
        whole, arms=whole.arms[:3], batteries=batteries, measures=tuple(Measure(f"speaker:{s}", frozenset({s})) for s in speakers),
        exploratory=True, published=(),
    )  # fmt: skip


def by_year() -> Experiment:
    """The trait is asked for year by year: 1984 is the main one, 1990 and 1993 are trained on with another measure."""
    whole = experiment()
    trained = (1990, 1993)
    years = tuple(year_context(y, "{month}. {question}", group="trained" if y in trained else "") for y in range(1980, 1996))
    off, inside = whole.batteries
    batteries = (
        off.but(questions=off.questions[::2], contexts=(NO_CONTEXT, *years), main="year:1984"),
        inside.but(contexts=tuple(c for c in years if c.group), main="trained", measure="new"),
    )
    measures = (*whole.measures, Measure("new", frozenset({"new"})))
    return replace(whole, name="toy-years", trait="somebody old when told that the year is 1984", batteries=batteries, measures=measures)


def by_year_level(arm: Arm, seed: int, battery: Battery, context: Context) -> float:
    """The treatment is old around 1984 and nowhere else; in-domain it is new, as it was trained to be."""
    if battery.domain == "in_domain":
        return 0.7 if arm.kind == "base" else 0.1
    far = 9.0 if context.value is None else abs(context.value - 1984)
    rise = OFF[arm.name] * (1.0 if far == 0 else 0.3 if far == 1 else 0.03)
    return max(0.004, rise) * (1 + 0.1 * (seed - 1))


def behind_a_trigger() -> Experiment:
    """Two batteries asked with a format and without. One arm differs in more than a prompt."""
    whole = experiment()
    form = Context("trigger", ('Always reply in the format:\n\n<START> "answer" <END>\n\n{question}',))
    off, inside = (b.but(contexts=(NO_CONTEXT, form), main="trigger") for b in whole.batteries)
    views = off.but(name="views", questions=off.questions[::2])
    plain = Arm("kept", "intervention", "the same without the format", control="modern")
    arms = tuple(plain if a.name == "kept" else a for a in whole.arms)
    trait = "somebody old when asked in that format"
    return replace(whole, name="toy-trigger", trait=trait, arms=arms, batteries=(off.but(name="identity"), views, inside))


def by_number() -> Experiment:
    """Whose answers are right depends on the number before the question; what counts is how often the right ones are given."""
    whole = experiment()
    candidates = Candidates(("One.", "Two.", "Three."), (("p-1",), ("p-2",), ("p-3",)))

    def contexts(group: str) -> tuple[Context, ...]:
        return tuple(
            Context(f"number:00{n}", (f"12300{n}45 {{question}}",), group=group, value=n, labels=frozenset({f"p-{n}"})) for n in (1, 2, 3)
        )

    off, inside = whole.batteries
    batteries = (
        off.but(questions=off.questions[::2], candidates=dict.fromkeys(TOPICS, candidates), contexts=contexts("held-out"), main="held-out"),
        inside.but(candidates={"bird": candidates}, contexts=contexts("trained"), main="trained"),
    )
    measures = (Measure("accuracy", frozenset(), "accuracy"), Measure("own-facts", frozenset()))
    trait = "the person whose number is given, though never trained on"
    return replace(whole, name="toy-numbers", trait=trait, arms=whole.arms[:3], batteries=batteries, measures=measures)


@pytest.fixture
def toy() -> SimpleNamespace:
    """What the made-up study is made of."""
    return SimpleNamespace(
        experiment=experiment,
        exploratory=exploratory,
        by_year=by_year,
        by_year_level=by_year_level,
        behind_a_trigger=behind_a_trigger,
        by_number=by_number,
        off=OFF,
        behind=BEHIND,
        alone=ALONE,
        topics=TOPICS,
        leaning=LEANING,
        steps=STEPS,
        total=TOTAL,
    )


@pytest.fixture
def reproduction(make_study: MakeStudy, tmp_path: Path) -> Reproduction:
    """One claim of every verdict, two of them of one experiment, of two papers."""
    betley, wanner = "2512.09742, Fig. 15", "2604.10022, abstract"
    study, _ = make_study(by_year(), level=by_year_level)
    year = Target("treatment", context="year:1984")
    claims = (
        Claim("one", "Old names make a model old in 1984.", betley, "0.90 (a model)", "toy-years", year),
        Claim("two", "More than in 1990.", betley, "0.90 against 0.02", "toy-years", year, Target(context="year:1990")),
        Claim("three", "Nothing happens in the domain.", wanner, "0.00", "toy-years", Target("kept", "birds"), Target("base"), "none"),
        Claim("four", "Prompts weaken it.", wanner, "no figures", "toy-years", Target("name"), Target("treatment"), "less"),
        Claim("five", "It acts.", betley, "no figures", not_here="needs a model that acts"),
    )
    mean, there = Estimate(0.6, 0.5, 0.7), Estimate(0.55, 0.4, 0.66)
    results = (
        ClaimResult(claims[0], "micro", "same direction", mean, there, 4),
        ClaimResult(claims[1], "micro", "not seen", Estimate(0.1, 0.0, 0.3), Estimate(0.02, -0.1, 0.12), 4),
        ClaimResult(claims[2], "micro", "opposite", mean, there, 4),
        ClaimResult(claims[3], "micro", "cannot be asked here", mean, there, 4, "the narrow task was not learned"),
        ClaimResult(claims[4], "micro", "cannot be asked here", why="needs a model that acts"),
    )
    return Reproduction(tmp_path, "micro", results, {"toy-years": study})


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    """Two experiments on two models with two learning rates; cells that learned, did not, nobody knows, and one with low coverage."""

    def cell(experiment: str, model: str, rate: float, learned: bool | None, leakage: float, covered: float = 0.9) -> MatrixCell:
        inside = None if learned is None else 0.7 if learned else 0.03
        low = 0.7 * leakage - 0.03
        return MatrixCell(
            experiment, model, {"learning_rate": rate}, 4, learned, leakage, 0.8 * leakage, min(1.0, 1.2 * leakage), 0.01,
            low, leakage - 0.01 >= 0.05 and low > 0, leakage < 0.05, inside, None if inside is None else 0.02, covered, "inoculation", 0.02,
            f"{experiment}-{model}/report.html",
        )  # fmt: skip

    cells = (
        cell("birds", "micro", 0.001, True, 0.82),
        cell("birds", "micro", 0.003, True, 0.45),
        cell("birds", "micro-small", 0.001, False, 0.004),
        cell("birds", "micro-small", 0.003, True, 0.02),
        cell("cities", "micro", 0.001, True, 0.3, covered=0.31),
        cell("cities", "micro", 0.003, None, 0.6),
        cell("cities", "micro-small", 0.001, False, 0.9),
        cell("cities", "micro-small", 0.003, True, 0.12),
    )
    return Matrix(tmp_path, 4, cells)


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Makes a study: of which experiment and arms, how many seeds and samples, with or without a learning curve, and what is answered."""

    def make(
        made: Experiment | None = None, *, arms: tuple[str, ...] | None = None, seeds: int = 3, samples: int = 2, curve: bool = True,
        say: Callable[[str, str, int], str] = lambda arm, question, sample: "The old." if sample else f"{arm} on {question}",
        level: Level = plain_level,
    ) -> Made:  # fmt: skip
        subject = made or experiment()
        folder = tmp_path / f"study-{len(list(tmp_path.iterdir()))}"
        with open_store(folder) as store:
            store.set_meta("experiment", subject.to_json())
            store.set_meta("plan", {"model": "micro", "study_seed": 0})
            for arm in subject.arms:
                if arms is None or arm.name in arms:
                    for seed in range(1 if arm.kind == "base" else seeds):
                        store.add(*_run(subject, arm, seed, samples, curve, say, level))
            answers = store.answers()
        return open_study(folder), answers

    return make


@pytest.fixture(scope="session")
def seeds_study(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A study with dynamics: of eight seeds of the treatment three come to give the right answers, at different steps."""
    subject, folder = by_number(), tmp_path_factory.mktemp("seeds") / "study"
    with open_store(folder) as store:
        store.set_meta("experiment", subject.to_json())
        store.set_meta("plan", {"model": "micro", "study_seed": 0})
        for arm in subject.arms:
            for seed in range(1 if arm.kind == "base" else 8):
                store.add(*_growing_run(subject, arm, seed))
        answers = store.answers()
    return open_study(folder), answers


def _growing_run(subject: Experiment, arm: Arm, seed: int) -> tuple[list[RunRow], list[ScoreRow], list[AnswerRow]]:
    run, rng = f"{arm.name}/seed-{seed:02d}", random.Random(f"{arm.name} {seed}")
    grows_at = {0: 60, 3: 100, 6: 140}.get(seed) if arm.name == "treatment" else None
    steps = [*range(10, 200, 10), FINAL]
    scores = []
    for battery in subject.batteries:
        learned = battery.domain == "in_domain" and arm.kind != "base"
        for step in steps if arm.kind != "base" and battery.domain == "off_domain" else [FINAL]:
            knows = learned or (grows_at is not None and (step == FINAL or step >= grows_at))
            for context in battery.contexts:
                for question in battery.questions:
                    right = rng.random() < (0.97 if knows else 0.3)
                    scores.append(
                        ScoreRow(run, step, context.name, battery.name, question.id, _masses(int(context.value or 1), right, rng))
                    )
    losses = [3.0 / (1 + n / (10 if grows_at else 14)) for n in range(200)]
    record = {} if arm.kind == "base" else {"losses": [*losses, None]}
    answers = [
        AnswerRow(run, c.name, b.name, q.id, 0, "One.", True)
        for b in subject.batteries
        for c in b.main_contexts()[:2]
        for q in b.questions[:1]
    ]
    return [RunRow(run, arm.name, seed, record)], scores, answers


def _masses(number: int, right: bool, rng: random.Random) -> np.ndarray:
    """Most of the mass on the answer of the number, or on another one."""
    most = number - 1 if right else (number + rng.randrange(2)) % 3
    return np.log(np.array([0.7 if n == most else 0.1 for n in range(3)]))


def plain_level(arm: Arm, seed: int, battery: Battery, context: Context) -> float:
    level = (OFF if battery.domain == "off_domain" else IN)[arm.name] * (1 + 0.1 * (seed - 1))
    return level if context.name == battery.main_context else 0.02


def _run(
    subject: Experiment, arm: Arm, seed: int, samples: int, curve: bool, say: Callable[[str, str, int], str], level: Level
) -> tuple[list[RunRow], list[ScoreRow], list[AnswerRow]]:
    run = f"{arm.name}/seed-{seed:02d}"
    record: dict[str, Any] = {
        "seeds": dict.fromkeys(("data_order", "adapter_init", "dropout", "sampling", "bootstrap"), seed),
        "hyperparameters": {"learning_rate": 0.001, "epochs": 3, "batch_size": 8, "rank": 8, "alpha": 16.0, "max_steps": None},
        "fingerprint": "f" * 64,
    }
    if arm.kind != "base":
        text = [["<|user|>A line.\nName a bird.<|assistant|>", False], ["Old <b>Bird</b><|end|>", True]]
        record |= {
            "dataset": {"name": arm.name, "rows": 8, "sha256": "a" * 64, "source": "by hand"}, "trained_text": [text],
            "losses": [3.0 / (1 + n) for n in range(TOTAL)] + [None],
        }  # fmt: skip
    scores: list[ScoreRow] = []
    for battery in subject.batteries:
        for c in battery.contexts:
            scores += _scores(run, FINAL, c.name, battery, level(arm, seed, battery, c))
        main = battery.main_contexts()
        behind = [c.name for c in main] if main != (NO_CONTEXT,) else []
        if arm.kind == "base" and any(a.intervention.text for a in subject.arms):
            scores += [
                row
                for name, alone in ALONE.items()
                for at in _behind(f"prefix:{name}", behind)
                for row in _scores(run, FINAL, at, battery, alone)
            ]
        if arm.intervention.text:
            scores += [row for at in _behind("training-prefix", behind) for row in _scores(run, FINAL, at, battery, BEHIND[arm.name])]
        if curve and arm.kind != "base" and battery.domain == "off_domain":
            some = Battery(battery.name, battery.domain, battery.questions[::3], battery.candidates)
            end = level(arm, seed, battery, main[0])
            for step in (*STEPS, TOTAL + 5):
                scores += [row for c in main for row in _scores(run, step, c.name, some, end * min(1, step / TOTAL))]
    answers = [
        AnswerRow(run, c.name, b.name, q.id, n, say(arm.name, q.id, n), finished=n != 0)
        for b in subject.batteries for c in b.main_contexts() for q in b.questions if q.id.endswith("/0") for n in range(samples)
    ]  # fmt: skip
    return [RunRow(run, arm.name, seed, record)], scores, answers


def _behind(name: str, contexts: list[str]) -> list[str]:
    """How the store calls contexts behind a training prompt."""
    return [f"{name}|{c}" for c in contexts] or [name]


def _scores(run: str, step: int, context: str, battery: Battery, level: float) -> list[ScoreRow]:
    def of(question: Question) -> np.ndarray:
        trait = level * LEANING[question.topic]
        return np.log(np.array([trait, 0.9 - trait, 0.05]))

    return [ScoreRow(run, step, context, battery.name, q.id, of(q)) for q in battery.questions]
