"""Looking at a command's processes: names, lives, memory, processor time. In a thread of its own, because a look can
hang: reading /proc/PID/stat was seen to block for half an hour. What is observed may be late, partial or missing; the
thread that keeps the deadline never waits for it.

A look costs time for every process there is, so the pauses between looks grow with their cost, and while nothing
changes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from ..shared.processes import has_ended, look_up, unseen, with_descendants
from ..shared.records import Process
from .events import EventReader
from .lives import Lives
from .memory import Memory

FIRST_LOOK_AFTER_S = 0.1
"""A command that ends earlier is not looked at. Most commands do."""
_SOON_S = 0.03
_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0
_PAUSE_PER_COST = 150
"""A look may take a hundred and fiftieth of the time, up to the longest pause."""
_STOP_S = 0.1
"""How long `stop` waits for a look that is under way."""


class Observer:
    """Looks from time to time, and when asked, from the first request until `stop`.

    ``present`` are the processes that ran at the last look, by pid: replaced as a whole, so that it can be read at
    any moment. ``wake`` is called after each look.
    """

    def __init__(self, lives: Lives, wake: Callable[[], None], roots: Callable[[], Iterable[int]]) -> None:
        """``roots`` are those of `killing`."""
        self.present: dict[int, Process] = {}
        self.memory = Memory(lives.started_s)
        self.cost_s = 0.0
        """How long the last look has taken."""
        self.is_held = False
        self.lives = lives
        self._wake = wake
        self._roots = roots
        self._thread: threading.Thread | None = None
        self._events: EventReader | None = None
        self._condition = threading.Condition()
        self._stopping = False
        self._is_urgent = False
        self._exact_look = 0
        """The last look that is to measure memory exactly."""
        self._begun = self._done = 0
        self._pause_s = _PAUSE_S
        self._look_at = self._affordable_at = 0.0

    def look_soon(self) -> None:
        """Look before long, if that is affordable: something has happened, or a status is to be shown."""
        with self._condition:
            self._pause_s = _PAUSE_S
            self._look_at = min(self._look_at, max(time.monotonic() + _SOON_S, self._affordable_at))
            self._start_or_notify()

    def look_now(self, *, exact: bool = False) -> int:
        """Look at once, whatever it costs; with ``exact`` memory is measured exactly. Returns the number that
        `has_done` takes."""
        with self._condition:
            self._is_urgent = True
            if exact:
                self._exact_look = self._begun + 1
            self._start_or_notify()
            return self._begun + 1

    def has_done(self, look: int) -> bool:
        """Whether that look has been finished, or a later one."""
        return self._done >= look

    def hold(self, is_held: bool) -> None:
        """Whether to look at nothing for now, not even at the rest of what was begun: the other thread has more to do
        than it can, and each look takes the interpreter from it."""
        if is_held != self.is_held:
            with self._condition:
                self.is_held = is_held
                self._condition.notify()

    def stop(self) -> bool:
        """Look no more. False if a look hangs, so that the thread could not be ended."""
        if self._thread is None:
            return True
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(_STOP_S)
        return not self._thread.is_alive() and (self._events is None or self._events.stop(_STOP_S))

    def _start_or_notify(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._observe, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there can be no more threads: nothing is observed
                return
            self._thread = thread
        self._condition.notify()

    def _observe(self) -> None:
        with contextlib.suppress(OSError):
            self._events = EventReader(self.lives)
        while self._await_turn():
            started = time.monotonic()
            self.lives.begin_look()
            found = self._look()
            if found is None:
                continue
            changed = self.lives.record_look(found.values())
            self.present = found
            if not self.memory.measure(found.values(), self._is_exact_due, self._goes_on):
                continue
            changed = changed or self.memory.has_changed
            now = time.monotonic()
            self.cost_s = now - started
            with self._condition:
                self._done = self._begun
                self._pause_s = _PAUSE_S if changed else min(self._pause_s * 1.5, _LONGEST_PAUSE_S)
                self._affordable_at = now + min((now - started) * _PAUSE_PER_COST, _LONGEST_PAUSE_S)
                self._look_at = max(now + self._pause_s, self._affordable_at)
            self._wake()

    def _await_turn(self) -> bool:
        """Wait until the next look is due. Returns False if there is to be none."""
        with self._condition:
            while not self._stopping:
                wait_s = 0.0 if self._is_urgent or self._is_exact_due else self._look_at - time.monotonic()
                if wait_s <= 0 and not self.is_held:
                    break
                self._condition.wait(None if self.is_held else wait_s)
            self._is_urgent = False
            self._begun += 1
            return not self._stopping

    def _look(self) -> dict[int, Process] | None:
        """Every process of the command that runs now; None if the look was broken off."""
        found: dict[int, Process] = {}
        for pid in with_descendants(self._roots()):
            if not self._goes_on():
                return None
            process = look_up(pid, self.present.get(pid))
            if process is None and not has_ended(pid):  # hidden: another user's, or there is no proc(5) to look into
                with contextlib.suppress(ProcessLookupError):
                    process = unseen(pid)
            if process is not None and not process.has_ended:
                found[pid] = process
        return found

    @property
    def _is_exact_due(self) -> bool:
        return self._exact_look > self._done

    def _goes_on(self) -> bool:
        return not (self._stopping or self.is_held)
