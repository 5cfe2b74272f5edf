"""Time spans in words."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A time span in the unit that a person would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
