"""The results of one command on several engines, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..wording import format_seconds, last_line
from . import table
from .table import Column

_COLUMNS = (
    Column("engine", "number"),
    Column("", "name"),
    Column("how it ended", "wide"),
    Column("duration", "number"),
    Column("last line", "rest"),
)


class Row(NamedTuple):
    """One engine: whether all went well, the sentence that says how it ended, and what it has written."""

    engine: int
    ok: bool
    sentence: str
    duration_s: float
    stdout: str

    def cells(self) -> tuple[str, ...]:
        duration = format_seconds(self.duration_s)
        sentence = self.sentence.removesuffix(f" ({duration})")
        return str(self.engine), "✓" if self.ok else "✗", sentence, duration, last_line(self.stdout)


def draw_text(rows: Sequence[Row]) -> str:
    """For a terminal."""
    return table.draw_text(_COLUMNS, [row.cells() for row in rows])


def draw_html(rows: Sequence[Row]) -> str:
    """For a page."""
    return table.draw_html(_COLUMNS, [row.cells() for row in rows])
