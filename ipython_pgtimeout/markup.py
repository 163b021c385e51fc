"""Text from commands on its way into pages: made harmless here, and nowhere else.

Names and command lines are chosen by whoever wrote the program. They reach a page only through `escape`.
"""

from __future__ import annotations

import html
import unicodedata

# Controls, formatting (which can reorder text or hide it), lone surrogates, private use, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LONGEST = 160


def visible(text: str, longest: int = _LONGEST) -> str:
    """One line, with every character that can't be seen written as its escape: ``\\u202e``, ``\\x1b``."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        ascii(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character for character in cut
    )


def escape(text: object, longest: int = _LONGEST) -> str:
    """For an element's text or a quoted attribute."""
    return html.escape(visible(str(text), longest), quote=True)


def dot(ok: bool) -> str:
    """Green or red, in tones that stand out on light and dark."""
    return f'<span style="color:{"#2e9e5b" if ok else "#d9534f"}">●</span>'


def format_bytes(size: float) -> str:
    """``512 B``, ``3.1 MB``: decimal, as disks and networks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
