"""Everybody tells the colours apart, on both pages. Sight is simulated as in Machado et al. 2009 (doi:10.1109/TVCG.2009.113)."""

from itertools import combinations

import numpy as np
import pytest

from offtarget.report._palette import COLOURS, CONTROLS, INTERVENTIONS, arm_colours, dark_counterparts

from ._colours import contrast, lab, linear

SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_treatment_and_interventions_are_told_apart(sight, theme):
    seen = [lab(SIGHTS[sight] @ linear(c[theme])) for c in (COLOURS["treatment"], *INTERVENTIONS)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 12


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_the_page(theme):
    page = COLOURS["page"][theme]
    assert min(contrast(COLOURS[name][theme], page) for name in ("ink", "soft", "treatment", "control")) >= 4.5
    assert min(contrast(c[theme], page) for c in (*INTERVENTIONS, *CONTROLS, COLOURS["base"])) >= 3
    for text, cell in (("on-high", "scale-high"), ("on-low", "scale-low"), ("on-low", "scale-middle"), ("on-zero", "scale-low")):
        assert contrast(COLOURS[text][theme], COLOURS[cell][theme]) >= 4.5


def test_every_light_colour_has_one_dark_counterpart():
    pairs = {*COLOURS.values(), *INTERVENTIONS, *CONTROLS}
    assert len(dark_counterparts()) == len({light for light, _ in pairs}) == len(pairs)


def test_base_and_controls_are_grey_and_interventions_differ(toy):
    colours = arm_colours(toy.experiment())
    for arm in ("base", "modern", "kept"):
        assert np.ptp(lab(linear(colours[arm][0]))[1:]) < 12
    assert len(set(colours.values())) == len(colours)
