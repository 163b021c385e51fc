"""Lines of a log that are shown on a click."""

from __future__ import annotations

from collections.abc import Iterable

from .markup import escape, style

_LONGEST = 2_000


def draw_html(lines: Iterable[str], count: int) -> str:
    """The lines are the last of ``count``."""
    shown = [escape(line.expandtabs(), _LONGEST) for line in lines]
    cut = f", the last {len(shown):,}" if len(shown) < count else ""
    text = "\n".join(shown)
    summary = f"<summary>{title(count)}{cut}</summary>"
    return f'<details class="pgt-fold">{style(__file__)}{summary}<pre>{text}</pre></details>'


def title(count: int) -> str:
    """``1,234 earlier lines``"""
    return f"{count:,} earlier line{'s' * (count != 1)}"
