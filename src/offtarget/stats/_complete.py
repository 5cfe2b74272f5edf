"""Grids with holes: which seeds and questions to keep where some questions of some seeds have no score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


def complete(*scores: npt.ArrayLike) -> tuple[list[BoolArray], BoolArray]:
    """The seeds of each grid and the questions of all of them among which every score is there.

    A missing score is NaN; it is never taken for 0 or filled in. The seed or the question that lacks the largest share of its scores is
    left out first, a question before a seed where both lack as much, until nothing is missing. A seed without any score, or a question
    that nobody has a score on, so costs none of the others; the last seed of a grid goes only if it lacks everything. What is left
    speaks of the questions and seeds that are left, and of others only if scores are not missing because of what they would have been;
    whoever shows a figure shows beside it what was left out.

    Args:
        scores: [n_seeds, n_questions] each, the same questions in the same order; only n_seeds may differ.

    Returns:
        For each grid which seeds are kept, and which questions; nothing at all is kept of a grid without scores.
    """
    missing = [np.isnan(np.asarray(grid, dtype=np.float64)) for grid in scores]
    seeds, questions = [np.ones(len(grid), bool) for grid in missing], np.ones(missing[0].shape[1], bool)
    while any(grid[kept][:, questions].any() for grid, kept in zip(missing, seeds, strict=True)):
        left = [np.where(kept[:, None] & questions, grid, False) for grid, kept in zip(missing, seeds, strict=True)]
        by_question = sum(grid.sum(0) for grid in left) / sum(kept.sum() for kept in seeds)
        by_seed = [_shares(grid.sum(1) / questions.sum(), kept) for grid, kept in zip(left, seeds, strict=True)]
        worst = max(range(len(missing)), key=lambda g: by_seed[g].max(initial=0.0))
        if by_seed[worst].max(initial=0.0) > by_question.max():
            seeds[worst][int(by_seed[worst].argmax())] = False
        else:
            questions[int(by_question.argmax())] = False
    return seeds, questions


def _shares(lacking: npt.NDArray[np.float64], kept: BoolArray) -> npt.NDArray[np.float64]:
    """What share of its scores each seed lacks; 0 for the last one of a grid, unless it has none."""
    return np.where((kept.sum() > 1) | (lacking == 1), lacking, 0.0)
