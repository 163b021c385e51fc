"""%timed_jobs: the jobs that run and the last that have ended, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..wording import format_bytes, format_duration, visible
from .markup import escape, style

_LONGEST = 60
_HEADINGS = ("name", "state", "elapsed", "remaining", "processes", "memory", "command", "last line")
_NUMBERS = range(2, 6)


class Row(NamedTuple):
    """One job. ``processes`` is None where nothing is known; times are seconds, ``remaining_s`` is 0 at the end."""

    name: str
    state: str
    elapsed_s: float
    remaining_s: float
    processes: int | None
    memory_bytes: int
    command: str
    last_line: str

    def cells(self) -> tuple[str, ...]:
        """Texts for a page or a terminal."""
        remaining = "" if not self.remaining_s else "no limit"
        return (
            self.name,
            self.state,
            format_duration(self.elapsed_s),
            format_duration(self.remaining_s) if math.isfinite(self.remaining_s) and self.remaining_s else remaining,
            "" if self.processes is None else str(self.processes),
            "" if self.processes is None else format_bytes(self.memory_bytes),
            visible(self.command, _LONGEST),
            visible(self.last_line, _LONGEST),
        )


def draw_text(rows: Sequence[Row]) -> str:
    """Columns, each as wide as its longest cell."""
    if not rows:
        return "no jobs"
    table = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        padded = [
            cell.rjust(width) if number in _NUMBERS else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def draw_html(rows: Sequence[Row]) -> str:
    """The same for a page."""
    if not rows:
        return "<em>no jobs</em>"
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells())}</tr>" for row in rows)
    return f'<div class="pgt-jobs">{style(__file__)}<table><tr>{head}</tr>{body}</table></div>'
