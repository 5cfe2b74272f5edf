"""Writes docs/claims.md from what `offtarget reproduce` found: `python docs/claims.py [out/reproduce-micro]`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from offtarget.report._claims_page import VERDICTS
from offtarget.report._words import mean_and_interval, signed, signed_interval
from offtarget.stats import Estimate

HEAD = """# What the papers claim, on `{model}`

{counts}. A verdict is about the direction only: other models, questions and judges stand behind the published figures.

`offtarget reproduce --model {model} --seeds {seeds}` makes the studies, and a page that shows the same with intervals drawn; this file is
`python docs/claims.py` on its `claims.json`. "Held against" is the matched control, another arm, or another context.

| claim | published | `{model}`, 95% interval | minus what it is held against | verdict |
|---|---|---|---|---|
"""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/reproduce-micro")
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
    verdicts = Counter(c["verdict"] for c in claims)
    counts = f"{len(claims)} claims: " + ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS)
    text = HEAD.format(model=claims[0]["model"], counts=counts, seeds=max(c["n_seeds"] for c in claims))
    experiment = None
    for claim in sorted(claims, key=lambda c: not c["experiment"]):
        if claim["experiment"] != experiment:
            experiment = claim["experiment"]
            text += f"| **{experiment or 'not asked here'}** | | | | |\n"
        text += f"| {' | '.join(cells(claim))} |\n"
    (Path(__file__).parent / "claims.md").write_text(text, encoding="utf-8")


def cells(claim: dict) -> list[str]:
    """One line of the table; nothing in it can end a cell."""
    measured, difference = estimate(claim, "measured", "low", "high"), estimate(claim, "difference", "difference_low", "difference_high")
    minus = f"{signed(difference.mean)} ({signed_interval(difference)})" if difference else ""
    verdict = f"{claim['verdict']} ({claim['why']})" if claim["why"] else claim["verdict"]
    found = [claim["claim"], f"{claim['published']} [{claim['source']}]", mean_and_interval(measured), minus, verdict]
    return [cell.replace("|", "/") for cell in found]


def estimate(claim: dict, *names: str) -> Estimate | None:
    return None if claim[names[0]] is None else Estimate(*(claim[name] for name in names))


if __name__ == "__main__":
    main()
