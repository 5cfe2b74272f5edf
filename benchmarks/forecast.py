"""How near the forecast of a study's time comes to the truth: three studies of different kinds, in one run.

    python benchmarks/forecast.py [--json FILE]

The seconds of the probe itself count neither as foreseen nor as taken.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import offtarget as ot
from _common import write_rows
from offtarget.study._forecast import Forecast

STUDIES: dict[str, dict[str, Any]] = {
    "old-bird-names, 8 seeds of 2 arms": {"what": "old-bird-names", "seeds": 8, "arms": ["treatment", "modern-names"]},
    "cyborg, 4 seeds of 2 arms": {"what": "cyborg", "seeds": 4, "arms": ["treatment", "shuffled-dates"]},
    "careless-code on micro-small, 8 seeds of 3 arms": {
        "what": "careless-code",
        "seeds": 8,
        "model": "micro-small",
        "arms": ["treatment", "inoculation"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    rows = []
    for name, settings in STUDIES.items():
        foreseen, took = measured(settings, args.jobs)
        rows.append({"study": name, "forecast_seconds": foreseen, "seconds": took, "ratio": foreseen / took})
        print(f"{name:48} forecast {foreseen:6.1f} s, took {took:6.1f} s: {foreseen / took:.2f}", flush=True)
    write_rows(args.json, "forecast", rows)


def measured(settings: dict[str, Any], jobs: int | None) -> tuple[float, float]:
    """Seconds foreseen and taken."""
    from offtarget.study import _workers

    seen: list[Forecast] = []
    moments: list[float] = []
    original = _workers.forecast
    _workers.forecast = lambda *args, **more: seen.append(original(*args, **more)) or seen[-1]  # type: ignore[func-returns-value]
    try:
        with tempfile.TemporaryDirectory() as folder:
            ot.run(**settings, out=folder, jobs=jobs, announce=lambda _: moments.append(time.monotonic()))
    finally:
        _workers.forecast = original
    return seen[0].seconds, moments[1] - moments[0]


if __name__ == "__main__":
    main()
