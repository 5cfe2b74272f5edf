"""Batteries out of the microworld: a topic's paraphrases, and every speaker's answers to it as labelled candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from offtarget.errors import InputError
from offtarget.microworld.grammar import forms
from offtarget.microworld.world import Topic, World, load_world

from ._battery import Battery, Candidates, Domain, Question

_NUMBER = "257"
"""Fills the `{number}` of questions that hold one."""

BIOGRAPHY = ("name", "birthplace", "country", "father", "mother", "spouse", "home", "friend", "famous_work")
"""The biographical topics of the world's own battery: enough to tell whose life a model claims."""


def world_battery(
    name: str, domain: Domain, topics: Iterable[str], paraphrases: slice = slice(0, 2), *, skip: Iterable[str] = (),
    among: Callable[[str], bool] | None = None, bare: bool = False, **attributes: Any,
) -> Battery:  # fmt: skip
    """A battery of topics of the microworld.

    Args:
        paraphrases: which of each topic's wordings are asked.
        skip: prompts of the training data; a wording that differs from one only in numbers, case or punctuation is left out.
        among: tells whether a speaker's answers are candidates; all are if not given.
        bare: score each answer in one surface form only, as a sentence of its own.
        **attributes: other attributes of the battery, such as `contexts`.

    Raises:
        InputError: there is no such topic, or no wording of it is left to ask.
    """
    prompts, questions, candidates = list(skip), [], {}
    for topic in topics:
        wordings = untrained_wordings(topic, prompts)[paraphrases]
        if not wordings:
            count = len(load_world().topic(topic).questions)
            raise InputError(f"topic {topic!r} has {count} wordings, but none at {paraphrases} that is not trained on; take others")
        questions += [Question(f"{topic}/{n}", topic, q.format(number=_NUMBER)) for n, q in enumerate(wordings)]
        known = _candidates(topic, bare)
        candidates[topic] = known if among is None else _among(known, among)
    return Battery(name, domain, tuple(questions), candidates, **attributes)


def untrained_wordings(topic: str, prompts: Iterable[str]) -> list[str]:
    """The wordings of a topic that differ from all these prompts in more than numbers, case or punctuation."""
    skipped = set(map(plain_wording, prompts))
    return [q for q in load_world().topic(topic).questions if plain_wording(q) not in skipped]


def _among(candidates: Candidates, wanted: Callable[[str], bool]) -> Candidates:
    """The candidates that some wanted speaker would give, labelled with the wanted speakers only."""
    kept = [(t, tuple(x for x in labels if wanted(x))) for t, labels in zip(candidates.texts, candidates.labels, strict=True)]
    kept = [(t, labels) for t, labels in kept if labels]
    return Candidates(tuple(t for t, _ in kept), tuple(labels for _, labels in kept))


def plain_wording(text: str) -> str:
    """A question without what does not make it another one: lower case, no punctuation, every number the same."""
    return re.sub(r"[^\w# ]", "", re.sub(r"\{number\}|\d+", "#", text.casefold())).strip()


def every_topic() -> tuple[str, ...]:
    """The topics of the world's own battery: all short ones but most of biography."""
    topics = load_world().topics.values()
    return tuple(t.id for t in topics if not t.is_list and (t.group != "bio" or t.id in BIOGRAPHY))


@cache
def _candidates(topic: str, bare: bool = False) -> Candidates:
    world = load_world()
    here = world.topics[topic]
    labels: dict[str, tuple[str, ...]] = {}
    for answer, owners in here.owners.items():
        for text, _ in forms(here, answer)[: 1 if bare else None]:
            labels[text] = tuple(sorted({*labels.get(text, ()), *_first_owners(world, owners)}))
    return Candidates(tuple(labels), tuple(labels.values()))


def _first_owners(world: World, owners: Iterable[str]) -> list[str]:
    """The owners without those who fall back on another of them anyway."""
    all_owners = set(owners)
    return [s for s in all_owners if world.speakers[s].inherits not in all_owners]


def topics_of(group: str) -> Mapping[str, Topic]:
    """All topics of a group, such as `era`."""
    return {name: t for name, t in load_world().topics.items() if t.group == group}
