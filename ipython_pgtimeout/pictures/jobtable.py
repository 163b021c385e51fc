"""%timed_jobs: the jobs that run and the last that have ended, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..wording import format_bytes, format_duration, visible
from . import table
from .table import Column

_LONGEST = 60
_COLUMNS = (
    Column("name", "name"),
    Column("state"),
    *(Column(heading, "number") for heading in ("elapsed", "remaining", "processes", "memory")),
    Column("command", "rest"),
    Column("last line", "rest"),
)


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
    """For a terminal."""
    return table.draw_text(_COLUMNS, [row.cells() for row in rows]) if rows else "no jobs"


def draw_html(rows: Sequence[Row]) -> str:
    """For a page."""
    return table.draw_html(_COLUMNS, [row.cells() for row in rows]) if rows else "<em>no jobs</em>"
