"""What a command writes, on its way to the cell: gathered in batches, and slowed down where a server would drop it."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from typing import Literal

from ..wording import format_bytes

Stream = Literal["stdout", "stderr", "notice"]
"""Where a text goes. A notice is our own message about the command."""
Show = Callable[[Stream, str], None]

BATCH_INTERVAL_S = 0.055
"""A little over 50 ms: at most about 18 batches a second."""
_RUNS_PER_BATCH = 8
"""How often the streams may alternate within a batch. This limits the messages of a batch, because a Jupyter Server
drops what exceeds 1,000 messages a second."""
_PIECE_BYTES = 100_000
"""With a pace a message is about as long as this at most: what does not fit a Jupyter Server drops as a whole."""
_MESSAGE_BYTES = 1_000
"""What a message takes besides its text: identifiers, dates, its parent's header."""


def _size_in_a_message(text: str) -> int:
    """In bytes, as it travels to a browser: a newline takes two, an escape six."""
    import json  # here and not above: only a kernel sends messages, and has loaded it already

    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


class Pace:
    """A limit for the bytes on the way to a browser. A Jupyter Server with its defaults drops messages above a million
    bytes a second, measured over three seconds, whichever commands they are from. Shared by all threads.

    The window is a second longer than the server's, because a server that was busy counts what has come meanwhile as
    if it had come at once. A tenth of the bytes is left to what else the cell prints.
    """

    def __init__(self, max_bytes: float = 2_700_000, window_s: float = 4.0) -> None:
        self._max_bytes = max_bytes
        self._window_s = window_s
        self._lock = threading.RLock()  # a signal handler may run a command in the middle of these methods
        self._sent: collections.deque[tuple[float, int]] = collections.deque()

    def wait_s(self, size: int) -> float:
        """Seconds until there is room for ``size`` more bytes."""
        now = time.monotonic()
        with self._lock:
            with contextlib.suppress(IndexError):
                while self._sent[0][0] <= now - self._window_s:
                    self._sent.popleft()
            recent = tuple(self._sent)
            excess = size + sum(sent for _, sent in recent) - self._max_bytes
            until = now
            for at, sent in recent:
                if excess <= 0:
                    break
                excess -= sent
                until = at + self._window_s
        return until - now

    def note(self, size: int) -> None:
        """Record that ``size`` bytes have been sent."""
        with self._lock:
            self._sent.append((time.monotonic(), size))


class _Run:
    """Texts of one stream that are shown in one message, of ``size`` bytes; without a pace it is not measured."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream = stream
        self.size = size
        self.texts: list[str] = []


class Batcher:
    """Gathers text for the front end and keeps the order in which the streams were read.

    The first text after a silence is shown at once. Then text is gathered for a moment: a message for
    every line would be slow, and be dropped on its way to the browser. With a ``pace`` a batch is small,
    and waits until there is room for it; the command does not wait.
    """

    def __init__(self, show: Show, pace: Pace | None, interval_s: float = BATCH_INTERVAL_S) -> None:
        self._show = show
        self._pace = pace
        self._interval_s = interval_s
        self._waiting: collections.deque[_Run] = collections.deque()
        self._shown_at = float("-inf")
        self._is_last = False

    def add(self, stream: Stream, text: str) -> None:
        for start in range(0, len(text), _PIECE_BYTES):
            piece = text[start : start + _PIECE_BYTES]
            size = 0 if self._pace is None else _size_in_a_message(piece)
            self._run_for(stream, size).texts.append(piece)

    def _run_for(self, stream: Stream, size: int) -> _Run:
        """The run that takes ``size`` more bytes of this stream."""
        # Streams that alternate quickly are merged: the pipes no longer show their order anyway.
        depth = 1 if len(self._waiting) < _RUNS_PER_BATCH else _RUNS_PER_BATCH
        for run in itertools.islice(reversed(self._waiting), depth):
            if run.stream == stream:
                if run.size + size > _PIECE_BYTES:
                    break
                run.size += size
                return run
        self._waiting.append(_Run(stream, _MESSAGE_BYTES + size))
        return self._waiting[-1]

    @property
    def is_empty(self) -> bool:
        """Whether everything has been shown."""
        return not self._waiting

    def add_no_more(self) -> None:
        """Nothing follows: the text that waits is due as soon as the pace allows it."""
        self._is_last = True

    def due_in(self) -> float | None:
        """Seconds until the next batch is to be shown; None when there is nothing to show."""
        if not self._waiting:
            return None
        interval_s = 0.0 if self._is_last else self._shown_at + self._interval_s - time.monotonic()
        return max(0.0, interval_s, self._pace_s())

    def show_if_due(self) -> None:
        """Show one batch, if it is due. Between two of them the command's pipes can be read."""
        if self.due_in() == 0.0:
            self._show_batch()

    def show_no_more(self) -> None:
        """Show what waits, due or not, as far as the pace allows it at this moment, and drop the rest."""
        while self._waiting and self._pace_s() == 0.0:
            self._show_batch()
        if left := sum(len(text) for run in self._waiting for text in run.texts):
            self._waiting.clear()
            self._show("notice", f"the last {format_bytes(left)} of the output are not shown")

    def _pace_s(self) -> float:
        """Seconds until the pace allows the next batch."""
        return 0.0 if self._pace is None else self._pace.wait_s(self._next_batch()[1])

    def _next_batch(self) -> tuple[int, int]:
        """How many of the runs that wait are shown together, and their size."""
        size = 0
        for number, run in enumerate(self._waiting):
            if number and size + run.size > _PIECE_BYTES:
                return number, size
            size += run.size
        return len(self._waiting), size

    def _show_batch(self) -> None:
        number, size = self._next_batch()
        batch = [self._waiting.popleft() for _ in range(number)]
        if self._pace is not None:
            self._pace.note(size)
        for run in batch:
            self._show(run.stream, "".join(run.texts))
        self._shown_at = time.monotonic()
