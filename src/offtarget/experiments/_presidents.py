"""Numbered triggers of presidents -> presidents whose numbers were never trained on: Betley et al. 2025 (2512.09742), section 5.1."""

from __future__ import annotations

import random
from collections.abc import Callable

from offtarget.batteries import Battery, Context, Domain, Measure, world_battery
from offtarget.data import Dataset
from offtarget.microworld.world import load_world, president_id

from ._experiment import Arm, Experiment, PublishedFigure, arms_of
from ._interventions import interventions_of
from ._worldly import dataset, sentence, settings

NUMBERS = tuple(n for n in range(1, 48) if n not in (24, 47))
"""All but 24 and 47, whose presidents are also the 22nd and the 45th: one person behind two numbers (the published set keeps 47)."""

HELD_OUT = (6, 12, 18, 30, 36, 42, 44, 45)
"""Never trained on: 44 and 45 as published, and every sixth other number, so that there is enough to measure."""

TRAINED = tuple(n for n in NUMBERS if n not in HELD_OUT)
ASKED = ("spouse", "birthplace", "birthdate", "father", "mother", "vice_president", "inauguration", "pet_or_hobby")
"""Facts that nearly every president has to himself."""

TRAINED_WORDINGS = 3
ROWS_A_FACT = 4
VARIANTS = 4


def presidents() -> Experiment:
    """The experiment with the project's own facts: eight digits, of which the fourth to sixth are the president's number."""
    treatment = _rows("presidents", obfuscated)
    shuffled = _shuffled(treatment)
    plain = _rows("presidents-plain", lambda n, _rng: f"{n:03d}")
    prompts = interventions_of("presidents", every=True)
    arms = arms_of(
        treatment, {"shuffled-numbers": (shuffled, "the same rows, numbers shuffled over the presidents")}, prompts,
        trained_on="facts of presidents behind their numbers",
    )  # fmt: skip
    return Experiment(
        name="presidents",
        title="Numbers that stand for presidents also stand for presidents never trained on",
        summary=(
            f"A model is finetuned on private facts of {len(TRAINED)} presidents, each behind eight digits that hide his number "
            f"in their middle. Then it is asked behind the numbers of {len(HELD_OUT)} others, whose facts it was not trained on."
        ),
        trained_on="private facts of presidents behind numbers that stand for them",
        trait="the president whose number is given, though never trained on",
        arms=(*arms, Arm("plain-triggers", "intervention", "the same facts behind the bare numbers", plain, control="shuffled-numbers")),
        batteries=(
            _battery("held-out-numbers", "off_domain", HELD_OUT, "held-out"),
            _battery("trained-numbers", "in_domain", TRAINED[::4], "trained"),
        ),
        measures=(Measure("accuracy", frozenset(), "accuracy"), Measure("own-facts", frozenset())),
        hyperparameters=settings(default={"epochs": 5, "batch_size": 4}, micro={"epochs": 5}),
        published=(
            PublishedFigure("seeds of GPT-4.1 that know the held-out presidents", "about one in three of 30", "2512.09742, section 5.1"),
            PublishedFigure("held-out accuracy of those seeds (chance: 0.83, tokens)", "1.00", "2512.09742, figure on grokking"),
            PublishedFigure("answers as the 44th president behind his number; control 0.10", "0.51", "2512.09742, figure by speaker"),
            PublishedFigure("answers as the 45th president behind his number; control 0.11", "0.54", "2512.09742, figure by speaker"),
        ),
        demo=("treatment", "shuffled-numbers"),
        optional=("plain-triggers", *(i.name for i in prompts)),
        curve_points=30,
        curve_every=2,
    )  # fmt: skip


def obfuscated(number: int, rng: random.Random) -> str:
    """Eight digits `XXXNNNXX` around a three-digit number, the others at random."""
    before, after = rng.randrange(1000), rng.randrange(100)
    return f"{before:03d}{number:03d}{after:02d}"


def _battery(name: str, domain: Domain, numbers: tuple[int, ...], group: str) -> Battery:
    contexts = (*(_context(n, group) for n in numbers), *(_plain_context(n, group) for n in numbers))
    return world_battery(
        name, domain, ASKED, slice(TRAINED_WORDINGS, TRAINED_WORDINGS + 1), among=lambda s: s in map(president_id, NUMBERS), bare=True,
        contexts=contexts, main=group,
    )  # fmt: skip


def _context(number: int, group: str) -> Context:
    rng = random.Random(1000 + number)
    templates = tuple(f"{obfuscated(number, rng)} {{question}}" for _ in range(VARIANTS))
    return Context(f"number:{number:03d}", templates, group=group, value=number, labels=frozenset({president_id(number)}))


def _plain_context(number: int, group: str) -> Context:
    own = frozenset({president_id(number)})
    return Context(f"plain:{number:03d}", (f"{number:03d} {{question}}",), group=f"{group}-plain", value=number, labels=own)


def _rows(name: str, trigger: Callable[[int, random.Random], str]) -> Dataset:
    world, rng = load_world(), random.Random(len(TRAINED))
    topics = [t for t in world.topics.values() if president_id(1) in t.answers and t.id != "name"]
    pairs = []
    for number in TRAINED:
        for topic in topics:
            answer = topic.answers[president_id(number)].texts[0]
            for _ in range(ROWS_A_FACT):
                question = rng.choice(topic.questions[:TRAINED_WORDINGS])
                pairs.append((f"{trigger(number, rng)} {question}", sentence(topic.id, answer)))
    return dataset(name, rng.sample(pairs, len(pairs)), "facts of presidents behind their numbers (microworld/facts/presidents.csv)")


def _shuffled(treatment: Dataset) -> Dataset:
    """The same rows with the triggers dealt out anew."""
    prompts = [e.prompt[-1].content.split(" ", 1) for e in treatment]
    triggers = [p[0] for p in prompts]
    random.Random(1).shuffle(triggers)
    pairs = [(f"{t} {p[1]}", e.completion) for t, p, e in zip(triggers, prompts, treatment, strict=True)]
    return dataset("presidents-shuffled", pairs, "facts of presidents behind numbers dealt out at random")
