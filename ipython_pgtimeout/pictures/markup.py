"""Text from commands is made safe for pages here, and nowhere else. This module also reads the pages' styles.

A program chooses its own name and command line. They reach a page only through `escape` and `quote`.
"""

from __future__ import annotations

import functools
import html
import re
from pathlib import Path

from ..wording import visible

_LONGEST = 160
_MATHEMATICS = re.compile(r"[$\\]")
_TIME = re.compile(r"(?<=\d) s\b")


def escape(text: object, longest: int = _LONGEST) -> str:
    r"""For an element's text.

    Front ends typeset what is between two ``$``, or between ``\(`` and ``\)``, as mathematics. They look for it in each
    text node by itself, so each of these characters gets a node of its own. Some drop the classes that would forbid it.
    """
    return _MATHEMATICS.sub(r"<span>\g<0></span>", quote(text, longest))


def quote(text: object, longest: int = _LONGEST) -> str:
    """For an attribute in quotes."""
    return html.escape(visible(str(text), longest), quote=True)


def verdict(sentence: str, ok: bool) -> str:
    """How a command ended: a dot, green or red in tones that stand out on light and dark, and the sentence. A number
    and its unit stay in one line."""
    colour = "#2e9e5b" if ok else "#d9534f"
    return f'<span style="color:{colour}">●</span> {_TIME.sub("&nbsp;s", escape(sentence, 500))}'


@functools.cache
def style(module: str) -> str:
    """The style element for what ``module``, a path of a .py file, draws: the .css file of the same name beside it.

    Its comments are left out, because every picture contains it.
    """
    rules = Path(module).with_suffix(".css").read_text(encoding="utf-8")
    without_comments = "".join(part.partition("*/")[2] or part for part in rules.split("/*"))
    return f"<style>\n{without_comments.strip()}\n</style>"
