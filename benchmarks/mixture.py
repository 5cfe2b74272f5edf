"""How often two groups of seeds are claimed, where there are two and where there is one: the table of `offtarget.stats._mixture`.

    python benchmarks/mixture.py [--json FILE]

About five minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _common import write_rows
from offtarget.stats import mixture_of_seeds

REPETITIONS, DRAWS, SEED = 400, 199, 7

Draw = Callable[[np.random.Generator], tuple[npt.NDArray[np.int64], int]]
"""Counts of right answers by seed, and the questions that each was asked."""


def groups(low: float, high: float, seeds: int = 16, questions: tuple[int, int] = (50, 51)) -> Draw:
    """A third of the seeds succeed."""

    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], int]:
        trials = int(rng.integers(*questions))
        return rng.binomial(trials, np.where(rng.random(seeds) < 1 / 3, high, low)), trials

    return draw


def one_group(correlation: float, seeds: int = 16, trials: int = 50) -> Draw:
    """Beta-binomial counts of any mean from 0.1 to 0.9."""

    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], int]:
        mean = rng.uniform(0.1, 0.9)
        strength = 1 / correlation - 1 if correlation else np.inf
        rates = rng.beta(mean * strength, (1 - mean) * strength, seeds) if correlation else np.full(seeds, mean)
        return rng.binomial(trials, rates), trials

    return draw


CASES: dict[str, Draw] = {
    "a third of 16 seeds succeed, rates 0.17 and 0.95, 20 to 50 questions": groups(0.17, 0.95, questions=(20, 51)),
    "the same with 8 seeds": groups(0.17, 0.95, seeds=8, questions=(20, 51)),
    "a third of 16 seeds succeed, rates 0.3 and 0.6": groups(0.3, 0.6),
    **{f"one group of 16 seeds, correlation {c:g}": one_group(c) for c in (0.0, 0.05, 0.2, 0.5, 0.8)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    rows = []
    for name, draw in CASES.items():
        rng = np.random.default_rng(SEED)
        claimed = sum(mixture_of_seeds(*draw(rng), seed=n, simulations=DRAWS).two_groups for n in range(REPETITIONS)) / REPETITIONS
        rows.append({"truth": name, "claimed": claimed})
        print(f"{name:70} {claimed:.3f}", flush=True)
    write_rows(args.json, "mixture", rows)


if __name__ == "__main__":
    main()
