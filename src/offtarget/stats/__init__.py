"""Over seeds: what an arm does against its control, whether a difference can be ruled out, and whether it comes with a jump.

Effects start from scores [n_seeds, n_questions], probabilities in [0, 1]; transitions and mixtures from counts of right answers. What is
drawn at random is seeded by an integer that the caller gives.
"""

from ._complete import complete
from ._curves import Fit
from ._effects import SEEDS_FOR_ABSENCE, Comparison, Estimate, compare, estimate
from ._mixture import CountModel, Mixture, mixture_of_seeds
from ._multiple import holm
from ._relative import leakage_ratio, retention
from ._transitions import Aligned, Sharpness, Transition, Transitions, fit_transition, transitions

__all__ = [
    "SEEDS_FOR_ABSENCE", "Aligned", "Comparison", "CountModel", "Estimate", "Fit", "Mixture", "Sharpness", "Transition", "Transitions",
    "compare", "complete", "estimate", "fit_transition", "holm", "leakage_ratio", "mixture_of_seeds", "retention", "transitions",
]  # fmt: skip
