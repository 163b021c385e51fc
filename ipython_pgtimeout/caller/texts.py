"""What a command in the background has written, for readers on other threads."""

from __future__ import annotations

import collections

from .output import Stream

_LAST = 10


class Texts:
    """What has been written, and notices about the command, in the order in which it came: the last ``max_characters``
    of it. Readers on other threads remember how far they have come."""

    def __init__(self, max_characters: float) -> None:
        self._max_characters = max_characters
        self._kept: collections.deque[tuple[Stream, str]] = collections.deque()
        self._characters = 0
        self.end = 0
        """The position after the last one."""

    def add(self, stream: Stream, text: str) -> None:
        self._kept.append((stream, text))
        self.end += 1
        self._characters += len(text)
        while self._characters > self._max_characters and len(self._kept) > 1:
            self._characters -= len(self._kept.popleft()[1])

    def after(self, position: int) -> tuple[list[tuple[Stream, str]], int]:
        """Those from ``position`` on, as far as they are kept, and the next position. With the lock."""
        kept = list(self._kept)
        return kept[max(0, len(kept) - (self.end - position)) :], self.end

    def last(self) -> list[tuple[Stream, str]]:
        """The last few."""
        return list(self._kept)[-_LAST:]
