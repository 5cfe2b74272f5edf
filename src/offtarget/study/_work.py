"""What a run has to do, and how much work each of its stages is: what progress and the time left go by.

Work is counted in known answers scored; only its ratios matter. They were read off the seconds that runs of `offtarget reproduce` on
`micro` record (`offtarget show` tells those of a run), and shift with the size of the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from offtarget.batteries import Battery
from offtarget.experiments import Arm, Experiment, rows_of

if TYPE_CHECKING:
    from offtarget.models import Hyperparameters

SAMPLED_CONTEXTS = 4
"""Of a group of contexts, answers are sampled in so many, for reading."""

PROMPT_WORK = 4
"""Scoring a prompt takes about as long as scoring so many answers."""

TRAINED_CHARACTERS = 9
"""Training on so many characters, prompts among them, takes about as long as scoring one answer."""

ANSWER_WORK = 4
"""Sampling an answer takes about as long as scoring so many."""

ROW_CHARACTERS = 60
"""Of a row that is not made yet."""

CURVE, TRAINING, SCORING, BEHIND, SAMPLING = "learning curve", "training", "scoring", "scoring behind the training prompts", "sampling"


def work_of_run(
    experiment: Experiment, arm: Arm, hyperparameters: Hyperparameters, *, curve_points: int, samples: int
) -> dict[str, float]:  # fmt: skip
    """Work of each stage of one run; the base has nothing to train."""
    batteries, steps = experiment.batteries, hyperparameters.steps(rows_of(arm))
    return {
        TRAINING: steps * hyperparameters.batch_size * _characters_a_row(arm) / TRAINED_CHARACTERS,
        CURVE: len(curve_steps(steps, curve_points)) * scored_items(curve_batteries(experiment)) * bool(steps),
        SCORING: scored_items(batteries),
        BEHIND: scored_items(main_only(batteries)) * bool(arm.intervention.text),
        SAMPLING: sampled_prompts(batteries) * samples * ANSWER_WORK,
    }


def curve_batteries(experiment: Experiment) -> list[Battery]:
    """What is asked on the way: some questions of the battery behind the headline."""
    first = [b for b in main_only(experiment.batteries) if b.domain == "off_domain"][:1]
    return [b.but(questions=b.questions[:: experiment.curve_every]) for b in first]


def main_only(batteries: Sequence[Battery]) -> list[Battery]:
    """Batteries asked only in the contexts behind their main figure."""
    return [b.but(contexts=b.main_contexts()) for b in batteries]


def curve_steps(steps: int, points: int) -> list[int]:
    """Steps of the learning curve between the start (the base) and the end (scored in full anyway); denser at the start."""
    fractions = np.linspace(0, 1, points + 2)[1:-1] ** 1.5
    return sorted({max(1, round(steps * f)) for f in fractions} - {steps})


def scored_items(batteries: Sequence[Battery]) -> int:
    """Work of scoring: known answers, and a few for each prompt, in all contexts."""
    return sum(len(b.contexts) * (len(b.candidates[q.topic].texts) + PROMPT_WORK) for b in batteries for q in b.questions)


def sampled_prompts(batteries: Sequence[Battery]) -> int:
    """Prompts that answers are sampled to."""
    return sum(len({q.topic for q in b.questions}) * min(SAMPLED_CONTEXTS, len(b.main_contexts())) for b in batteries)


def _characters_a_row(arm: Arm) -> float:
    return arm.dataset.characters / len(arm.dataset) if arm.dataset else ROW_CHARACTERS
