"""Turns: where many threads run commands at the same time, the commands begin a few at a time.

A hundred threads with a quick command each don't need a hundred guards: a few, used again and again, keep the
processors busy, and forking a guard takes more processor time than a quick command. If all threads prepared their
commands at once, they would also wait for each other, for the interpreter.

No command waits for one that runs for long: if all that have begun do so, two more begin every `_TURN_S` per processor.
Guards for them can hardly be forked faster: 100 threads with long commands have them started as early as without turns.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
from collections.abc import Iterator

AT_ONCE = 2 * (os.cpu_count() or 1)
_TURN_S = 0.02


class _Turn:
    """``called`` is locked until another turn ends and lets this one begin; ``began_s`` is by CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.called = threading.Lock()
        self.called.acquire()
        self.began_s = 0.0


class Turns:
    """The turns that have begun and not ended, the last `AT_ONCE` of them, and those that wait, in their order.

    There is no lock that a forked child, a signal handler or the end of the interpreter could find locked: see
    `Connection`. Each step is a single one, and what another thread does in between costs one wait more, or less.
    """

    def __init__(self) -> None:
        self._begun: collections.deque[_Turn] = collections.deque(maxlen=AT_ONCE)
        self._waiting: collections.deque[_Turn] = collections.deque()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; it ends with the context."""
        turn = _Turn()
        self._await(turn)
        try:
            yield
        finally:
            self._end(turn)

    def _await(self, turn: _Turn) -> None:
        ahead = len(self._waiting)
        self._waiting.append(turn)  # before looking for room: a turn that ends after the look calls this one
        is_called = False
        try:
            wait_s = self._room_in(ahead)
            is_called = wait_s > 0 and turn.called.acquire(timeout=wait_s)
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
        if not is_called:
            self._begin(turn)

    def _room_in(self, ahead: int) -> float:
        """In how many seconds there is room at the latest, if so many wait ``ahead``: for each a little later."""
        try:
            first = self._begun[-AT_ONCE]
        except IndexError:
            return 0.0
        return first.began_s + _TURN_S * (1 + ahead / AT_ONCE) - time.monotonic()

    def _begin(self, turn: _Turn) -> None:
        turn.began_s = time.monotonic()
        self._begun.append(turn)

    def _end(self, turn: _Turn) -> None:
        with contextlib.suppress(ValueError, IndexError):  # it is no longer among the last, or none waits
            self._begun.remove(turn)
            following = self._waiting.popleft()
            self._begin(following)
            following.called.release()


turns = Turns()
