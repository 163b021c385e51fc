r"""What a command in the background has written, as lines: the last ones, and those before them.

A line that a program writes again, after ``\r``, is shown as it was written last. Colours stay, other sequences of
control characters do not.
"""

from __future__ import annotations

import collections
import re

from ..wording import CONTROL_SEQUENCE, format_notice

LAST = 20
_KEPT_CHARACTERS = 100_000
_LONGEST = 2_000
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Lines:
    """The end of a text that comes in pieces. ``count`` counts all lines that are complete."""

    def __init__(self) -> None:
        self.count = 0
        self._complete: collections.deque[str] = collections.deque()
        self._size = 0
        self._unfinished = ""

    def add(self, text: str) -> None:
        *complete, rest = (self._unfinished + text).split("\n")
        for line in complete:
            shown = _as_written_last(line)
            self._complete.append(shown)
            self._size += len(shown)
            while self._size > _KEPT_CHARACTERS and len(self._complete) > LAST:
                self._size -= len(self._complete.popleft())
        self.count += len(complete)
        self._unfinished = rest if len(rest) <= _LONGEST else _as_written_last(rest)

    def add_notice(self, text: str) -> None:
        """A notice about the command, on lines of its own."""
        start = "\n" if self._unfinished else ""
        self.add(start + format_notice(text))

    def last(self) -> list[str]:
        """The last lines, with the one that is not complete."""
        unfinished = [_as_written_last(self._unfinished)] if self._unfinished else []
        return [*list(self._complete)[-(LAST - len(unfinished)) :], *unfinished]

    def earlier(self) -> list[str]:
        """Those before the last, as far as they are kept."""
        shown = LAST - bool(self._unfinished)
        return [_COLOUR.sub("", line) for line in list(self._complete)[:-shown]]

    @property
    def earlier_count(self) -> int:
        """How many there are before the last, kept or not."""
        return max(0, self.count - LAST + bool(self._unfinished))


def _as_written_last(line: str) -> str:
    last = next((part for part in reversed(line.split("\r")) if part), "")
    shown = CONTROL_SEQUENCE.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", last)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
