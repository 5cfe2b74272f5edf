"""Draws the figures of README and docs into docs/img: `python docs/figures.py [out/demo [out/presidents-micro]]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import vl_convert

from offtarget import open_study
from offtarget.report import leakage_chart
from offtarget.report._dynamics import dynamics_chart
from offtarget.report._figures import FONT
from offtarget.report._palette import COLOURS, dark_counterparts

IMAGES = Path(__file__).parent / "img"
WIDTH = 560
MEASURED = "Arial, Helvetica, Liberation Sans, sans-serif"
"""A font whose letters are as wide as vl-convert takes them for: an image cannot be laid out anew where it is looked at."""


def main() -> None:
    studies = [Path(a) for a in sys.argv[1:]] or [Path("out/demo")]
    IMAGES.mkdir(exist_ok=True)
    draw("leakage", leakage_chart(open_study(studies[0])).properties(width=WIDTH))
    for path in studies[1:]:
        draw("transition", dynamics_chart(open_study(path)))


def draw(name: str, chart: Any) -> None:
    """The chart in the colours of a light and of a dark page."""
    spec = chart.to_json()
    for theme, text in (("light", spec), ("dark", _dark(spec))):
        drawn = json.loads(text.replace(json.dumps(FONT)[1:-1], MEASURED))
        drawn["background"] = COLOURS["page"][theme == "dark"]
        drawn["padding"] = 16
        (IMAGES / f"{name}-{theme}.svg").write_text(vl_convert.vegalite_to_svg(drawn), encoding="utf-8")


def _dark(spec: str) -> str:
    """The same chart in the colours of a dark page."""
    for light, dark in dark_counterparts().items():
        spec = spec.replace(light, f"\0{dark}")
    return spec.replace("\0", "")


if __name__ == "__main__":
    main()
