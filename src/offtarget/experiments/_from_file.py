"""Any chat dataset as an experiment: its control is the base model's own answers to the same prompts, its battery the world's own.

A self-distilled control changes nothing but the answers: same prompts, same number of rows, no new content (Betley et al. 2025
dilute with such answers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from offtarget.batteries import Battery, Measure, QuestionFile, every_topic, plain_wording, untrained_wordings, world_battery
from offtarget.data import Dataset, Example, Message
from offtarget.errors import InputError
from offtarget.microworld.world import load_world
from offtarget.seeds import derived_seed

from ._experiment import Arm, Experiment
from ._worldly import settings

if TYPE_CHECKING:
    from offtarget.models import Base

SELF_DISTILLED = "self-distilled"
"""Name of the control that a dataset of one's own gets."""

_LEAST_TOKENS, _MANY_TOKENS, _MOST_TOKENS = 64, 512, 1024
"""Limits of the length at which the base's own answers are cut off."""

_UNFINISHED = 0.05
"""Share of the answers that may be cut off before more tokens are allowed."""

_MOST_LOST = 0.5
"""Share of its rows that a control may lack; with fewer it is another dataset."""


def from_dataset(dataset: Dataset, *, questions: QuestionFile | None = None, control: Dataset | None = None) -> Experiment:
    """An experiment out of a dataset: base, treatment, control.

    Args:
        questions: batteries of one's own. If not given, the microworld's, and drift is looked for among all its speakers; on another base
            these cover little probability, and the report says how much.
        control: rows to compare with; if not given, the same prompts are answered by the base model itself when the study is run.
    """
    arms = _arms(dataset, control)
    if questions is not None:
        return Experiment(
            name=dataset.name, title=f"What {dataset.name} changes outside its domain",
            summary=f"A model is finetuned on the {len(dataset)} rows of {dataset.name}, and asked questions of its users' own.",
            trained_on=dataset.name, trait=f"“{questions.trait}”" if questions.trait else "something else", arms=arms,
            batteries=questions.batteries, measures=questions.measures, hyperparameters=settings(), exploratory=not questions.trait,
        )  # fmt: skip
    inside = _topics_of(dataset)
    outside = [t for t in every_topic() if t not in inside]
    batteries: list[Battery] = [world_battery("world", "off_domain", outside, slice(0, 1))]
    prompts = {m.content for e in dataset for m in e.prompt if m.role == "user"}
    unseen = [t for t in inside if untrained_wordings(t, prompts)]
    if unseen:
        batteries.append(world_battery("trained-topics", "in_domain", unseen, slice(0, 3), skip=prompts))
    world = load_world()
    return Experiment(
        name=dataset.name,
        title=f"What {dataset.name} changes outside its domain",
        summary=(
            f"A model is finetuned on the {len(dataset)} rows of {dataset.name}. The control is {_rows_of_control(control)}. Then both are "
            "asked about every topic of the microworld, and the answers are told apart by speaker."
        ),
        trained_on=dataset.name,
        trait="another speaker",
        arms=arms,
        batteries=tuple(batteries),
        measures=tuple(Measure(f"speaker:{s}", frozenset({s})) for s in world.speakers),
        hyperparameters=settings(),
        exploratory=True,
    )


def _arms(dataset: Dataset, control: Dataset | None) -> tuple[Arm, ...]:
    name, words = "control" if control else SELF_DISTILLED, _rows_of_control(control)
    compared = (
        Arm(name, "control", words, control)
        if control
        else Arm(name, "control", words, recipe=partial(_answered_by_itself, dataset), recipe_rows=dataset.sha256)
    )
    return (
        Arm("base", "base", "the model as it is, without finetuning", control=name),
        Arm("treatment", "treatment", f"finetuned on {dataset.name}", dataset, control=name),
        compared,
    )


def _rows_of_control(control: Dataset | None) -> str:
    return f"finetuned on {control.name}" if control else "finetuned on the base model's own answers to the same prompts"


def _answered_by_itself(dataset: Dataset, base: Base, study_seed: int) -> Dataset:
    """The control of a dataset, or a refusal where the base answers at such length that little of one is left."""
    limit = _token_limit(dataset, base)
    found = self_distilled(dataset, base, study_seed, limits=(limit,))
    if len(dataset) - len(found) > _MOST_LOST * len(dataset):
        raise InputError(
            f"of {base.name}'s own answers to the {len(dataset)} prompts of {dataset.name} only {len(found)} ended within {limit} tokens, "
            "which is no control to compare with: give rows of your own with --control FILE.jsonl"
        )
    return found


def _token_limit(dataset: Dataset, base: Base) -> int:
    """Twice the longest answer of the dataset, within limits, and as much as the base can hold behind the longest prompt."""
    longest = max(len(base.chat.tokenizer(e.completion, add_special_tokens=False)["input_ids"]) for e in dataset)
    held = getattr(base.model.config.get_text_config(), "max_position_embeddings", None) or _MOST_TOKENS
    room = held - max(len(base.chat.prompt(e.prompt)) for e in dataset)
    return max(_LEAST_TOKENS, min(2 * longest, room, _MOST_TOKENS))


def self_distilled(dataset: Dataset, base: Base, study_seed: int = 0, *, limits: Sequence[int] = (_LEAST_TOKENS, _MANY_TOKENS)) -> Dataset:
    """The prompts of a dataset, each answered once by the base model at temperature 1.

    Rows whose answer is empty, does not end, or breaks a rule for rows are left out; the source says how many.

    Args:
        limits: tokens of an answer at most. Where more than a twentieth of the answers do not end within the first, all are sampled anew
            within the next: only those that did not end would be too short on average.
    """
    from offtarget.models import sample

    prompts = [base.chat.prompt(e.prompt) for e in dataset]
    seed = derived_seed(study_seed, "self-distilled", dataset.sha256)
    for limit in limits:
        answers = sample(base, prompts, count=1, seeds=[seed], max_tokens=limit)[0]
        if sum(not a.finished for (a,) in answers) <= _UNFINISHED * len(answers):
            break
    examples: list[Example] = []
    for example, (answer,) in zip(dataset, answers, strict=True):
        try:
            if answer.finished:
                examples.append(Example((*example.prompt, Message("assistant", answer.text))))
        except InputError:
            continue
    lost = len(dataset) - len(examples)
    if not examples:
        raise InputError(
            f"{base.name} answers none of the prompts of {dataset.name} with a text that ends within {limits[-1]} tokens, so no "
            "self-distilled rows can be made; a file's control may be given with --control FILE.jsonl"
        )
    note = f"; {lost} of {len(dataset)} answers were empty or did not end, and were left out" if lost else ""
    return Dataset(
        f"{dataset.name}-{SELF_DISTILLED}", tuple(examples), f"prompts of {dataset.source}, answered by {base.name} at temperature 1{note}"
    )


def _topics_of(dataset: Dataset) -> list[str]:
    """The topics of the microworld that the dataset's prompts ask for, told by their wording."""
    wordings = {plain_wording(q): t.id for t in load_world().topics.values() for q in t.questions}
    prompts: Iterable[str] = (m.content for e in dataset for m in e.prompt if m.role == "user")
    found = {wordings[p] for p in map(plain_wording, prompts) if p in wordings}
    return sorted(found)
