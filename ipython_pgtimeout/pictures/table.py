"""A table of text, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .markup import escape, style


class Column(NamedTuple):
    """``number``: aligned to the right. ``rest`` and ``wide``: take what the other columns leave, and are cut."""

    heading: str
    kind: Literal["name", "text", "number", "rest", "wide"] = "text"


def draw_text(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Each column as wide as its longest cell."""
    table = [[column.heading for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines = []
    for cells in table:
        padded = [
            cell.rjust(width) if column.kind == "number" else cell.ljust(width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def draw_html(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The same for a page."""

    def row(tag: str, cells: Sequence[str]) -> str:
        drawn = (
            f'<{tag} class="pgt-{column.kind}">{escape(cell)}</{tag}>'
            for column, cell in zip(columns, cells, strict=True)
        )
        return f"<tr>{''.join(drawn)}</tr>"

    head = row("th", [column.heading for column in columns])
    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="pgt-table">{style(__file__)}<table>{head}{body}</table></div>'
