r"""Progress bars in a notebook: lines that a program erases (``ESC [K``) and writes again.

A notebook page knows ``\r``, which goes on at the beginning of the line, but it does not erase: what was longer before
sticks out behind what is written now. So spaces are written over it, and then the line once more.
"""

from __future__ import annotations

import re

_ERASES = ("\x1b[K", "\x1b[0K", "\x1b[2K")
_ERASE = re.compile(r"\x1b\[[02]?K")
_PARTS = re.compile(rf"(\n|\r|{_ERASE.pattern})")
_CUT_OFF = re.compile(r"\x1b(?:\[[\d;?]*)?")
_SEQUENCE = re.compile(r"\x1b\[[\d;?]*[@-~]")
_LONGEST = 4096
"""Longer lines are not progress bars."""


class Eraser:
    """Honours the erasing in the text of one stream. The text comes in pieces, which may cut a sequence in two."""

    def __init__(self) -> None:
        self._cut_off = ""
        self._line = ""  # as far as it is written since its beginning or the last return
        self._sizes = (0, 0)  # of the line on the page
        self._is_erased = False  # what is on the page behind the cursor

    def feed(self, piece: str) -> str:
        """The text for the page."""
        text = self._cut_off + piece
        last = text.rfind("\x1b")
        self._cut_off = text[last:] if last >= 0 and _CUT_OFF.fullmatch(text, last) else ""
        text = text[: len(text) - len(self._cut_off)]
        # Most text erases nothing. The lines before the first that is erased are shown as they are.
        first = _ERASE.search(text)
        start = text.rfind("\n", 0, first.start() if first else len(text)) + 1
        if start:
            self._line, self._sizes = "", (0, 0)
        shown, rest = [text[:start]], text[start:]
        for part in _PARTS.split(rest) if first or "\r" in rest else [rest]:
            if part in _ERASES:
                if part == "\x1b[2K" and self._line:  # the part before the cursor too: programs return next, or did
                    shown += self._overwrite(), "\r"
                    self._line = ""
                self._is_erased = True
            elif part in ("\n", "\r"):
                shown += self._overwrite(), part
                self._line = ""
                if part == "\n":
                    self._sizes = (0, 0)
            else:
                self._line = (self._line + part)[-_LONGEST:]
                shown.append(part)
        if spaces := self._overwrite():
            shown += spaces, "\r", self._line
        return "".join(shown)

    def _overwrite(self) -> str:
        """Spaces over what is left of an erased line behind the cursor."""
        earlier, now = self._sizes, _sizes(self._line)
        left = max(0, *(before - after for before, after in zip(earlier, now, strict=True))) if self._is_erased else 0
        self._sizes = now if self._is_erased else (max(earlier[0], now[0]), max(earlier[1], now[1]))
        self._is_erased = False
        return " " * left


def _sizes(line: str) -> tuple[int, int]:
    """How long it is for a page, which counts colours as well, in UTF-16; and for a terminal."""
    return len(line.encode("utf-16-le", "surrogatepass")) // 2, len(_SEQUENCE.sub("", line))
