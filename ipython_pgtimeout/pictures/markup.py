"""Text from commands is made safe for pages here, and nowhere else. This module also reads the pages' styles.

A program chooses its own name and command line. They reach a page only through `escape`.
"""

from __future__ import annotations

import functools
import html
from pathlib import Path

from ..wording import visible

_LONGEST = 160


def escape(text: object, longest: int = _LONGEST) -> str:
    """For an element's text or a quoted attribute."""
    return html.escape(visible(str(text), longest), quote=True)


def dot(ok: bool) -> str:
    """Green or red, in tones that stand out on light and dark."""
    return f'<span style="color:{"#2e9e5b" if ok else "#d9534f"}">●</span>'


@functools.cache
def style(module: str) -> str:
    """The style element for what ``module``, a path of a .py file, draws: the .css file of the same name beside it.

    Its comments are left out, because every picture contains it.
    """
    rules = Path(module).with_suffix(".css").read_text(encoding="utf-8")
    without_comments = "".join(part.partition("*/")[2] or part for part in rules.split("/*"))
    return f"<style>\n{without_comments.strip()}\n</style>"
