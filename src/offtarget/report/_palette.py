"""The report's colours, each for a light and a dark page.

The treatment alone is warm; what was not changed (base, controls) is grey; interventions take hues that people with any of the
common colour blindnesses tell apart (`tests/report/test_palette.py` simulates them). Charts are drawn in the light colours, and the
page swaps them for the dark ones.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offtarget.experiments import Experiment

COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#ffffff", "#14161a"),
    "raised": ("#f6f7f8", "#1c1f25"),
    "line": ("#dfe3e8", "#2f343d"),
    "ink": ("#1a1d23", "#e8eaee"),
    "soft": ("#5a6270", "#a2aab8"),
    "treatment": ("#c94a00", "#ff8f4d"),
    "treatment-tint": ("#fdeee3", "#3a2313"),
    "base": ("#8b94a2", "#727b8a"),
    "control": ("#566070", "#b3bbc8"),
    "margin": ("#d3d9e1", "#3b424d"),
    "scale-low": ("#f8f5f2", "#1d2026"),
    "scale-middle": ("#f5a873", "#8a3d0d"),
    "scale-high": ("#a33a00", "#ff9c5f"),
    "on-low": ("#2b2f38", "#d5dae2"),
    "on-zero": ("#687080", "#8992a1"),
    "on-high": ("#fffdfb", "#17120e"),
}
"""Name -> (light, dark). No two light colours are the same, so that a chart's colour names its dark counterpart."""

INTERVENTIONS: tuple[tuple[str, str], ...] = (
    ("#099ddf", "#9ccefe"),
    ("#2b9173", "#5dc6a0"),
    ("#501a6c", "#ba93fc"),
    ("#96975a", "#f0e5a1"),
    ("#0262c2", "#6385b0"),
    ("#6d0627", "#af6b69"),
    ("#684f8b", "#9261e1"),
    ("#2d7242", "#95fcd1"),
)
"""Chosen by search: of these and the treatment's, the closest two stay apart for normal, protan, deutan and tritan sight."""

CONTROLS: tuple[tuple[str, str], ...] = (COLOURS["control"], ("#737c8a", "#8d96a5"), ("#3c434e", "#cdd3dc"))


def light(name: str) -> str:
    """The colour of that name on a light page."""
    return COLOURS[name][0]


def arm_colours(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Arm -> (light, dark), by what kind of arm it is; more than eight interventions share colours."""
    cycles = {"intervention": cycle(INTERVENTIONS), "control": cycle(CONTROLS)}
    return {arm.name: next(cycles[arm.kind]) if arm.kind in cycles else COLOURS[arm.kind] for arm in experiment.arms}


def dark_counterparts() -> dict[str, str]:
    """Light colour -> dark colour."""
    return dict([*COLOURS.values(), *CONTROLS, *INTERVENTIONS])
