"""The memory of all processes of a command together, over time: a line of the timeline."""

from __future__ import annotations

from collections.abc import Sequence

from ..shared.records import MemorySample
from ..wording import format_bytes

_FEWEST = 3
_SMALLEST_PEAK_BYTES = 20_000_000
"""Below that, and of fewer samples, there is nothing to see."""
_LEVELS = " ▁▂▃▄▅▆▇█"


def is_worth_drawing(samples: Sequence[MemorySample]) -> bool:
    return len(samples) >= _FEWEST and _peak(samples) >= _SMALLEST_PEAK_BYTES


def label(samples: Sequence[MemorySample]) -> str:
    """What the line shows, in words."""
    at_s, used_bytes = max(samples, key=lambda sample: sample.used_bytes)
    return f"up to {format_bytes(used_bytes)} at {at_s:.1f} s"


def draw_text(samples: Sequence[MemorySample], total_s: float, width: int) -> str:
    """A level for each column: the most that was found in its time, or what was found before."""
    most = [-1] * width
    for at_s, used_bytes in samples:
        column = min(width - 1, int(width * at_s / total_s))
        most[column] = max(most[column], used_bytes)
    top = _peak(samples)
    drawn, level = "", 0
    for used_bytes in most:
        level = level if used_bytes < 0 else round((len(_LEVELS) - 1) * used_bytes / top)
        drawn += _LEVELS[level]
    return drawn


def draw_svg(samples: Sequence[MemorySample], total_s: float) -> str:
    """The same as an area, in a picture of 100 x 100 that is stretched to its place."""
    top = _peak(samples)
    points = [f"{100 * at_s / total_s:.1f},{100 - 95 * used_bytes / top:.1f}" for at_s, used_bytes in samples]
    end = f"{100 * samples[-1].at_s / total_s:.1f},100"
    return (
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="0,100 {" ".join(points)} {end}"></polygon></svg>'
    )


def _peak(samples: Sequence[MemorySample]) -> int:
    return max(sample.used_bytes for sample in samples)
