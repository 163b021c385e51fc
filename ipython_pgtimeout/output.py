"""What a command writes, on its way to the cell: decoded as it comes, and shown in batches.

The first text after a silence is shown at once. Then text is gathered for 50 ms at a time: a message for
every line would be slow, and a Jupyter Server drops what exceeds 1,000 messages a second.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from typing import Literal

Stream = Literal["stdout", "stderr"]
Show = Callable[[Stream, str], None]

BATCH_INTERVAL_S = 0.05


class Capture:
    """One stream of a command: bytes in, text out, and all of it kept."""

    def __init__(self) -> None:
        self.bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._texts: list[str] = []

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text that ``data`` completes. A character split between two reads comes with its last byte, so
        the text can be empty while the stream goes on; ``final`` flushes what is incomplete for good."""
        self.bytes += len(data)
        text = self._decoder.decode(data, final)
        self._texts.append(text)
        return text

    @property
    def text(self) -> str:
        return "".join(self._texts)


class Batcher:
    """Gathers text for the front end and keeps the order in which the streams were read."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._waiting: list[tuple[Stream, list[str]]] = []
        self._shown_at = float("-inf")

    def add(self, stream: Stream, text: str) -> None:
        if not text:
            return
        if self._waiting and self._waiting[-1][0] == stream:
            self._waiting[-1][1].append(text)
        else:
            self._waiting.append((stream, [text]))

    def due_in(self) -> float | None:
        """Seconds until the next batch is to be shown; None when there is nothing to show."""
        if not self._waiting:
            return None
        return max(0.0, self._shown_at + BATCH_INTERVAL_S - time.monotonic())

    def show_if_due(self) -> None:
        if self.due_in() == 0.0:
            self.show()

    def show(self) -> None:
        """Show all that waits, whatever the time."""
        waiting, self._waiting = self._waiting, []
        for stream, texts in waiting:
            self._show(stream, "".join(texts))
        self._shown_at = time.monotonic()
