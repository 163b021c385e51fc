"""The thread that drives the commands in the background. One serves them all, and it is there only while there are any.

It waits for the descriptors of all of them, and steps those that have something to read or are due.
"""

from __future__ import annotations

import collections
import os
import select
import selectors
import threading
import time
from io import FileIO
from typing import Protocol

_MAX_WAIT_S = 3600.0
_PATIENCE_S = 0.01


class Drivable(Protocol):
    """What is driven. None of its methods raises anything."""

    def interests(self) -> tuple[dict[int, int], float] | None:
        """The descriptors to wait for, each with the events of poll(2), and when it is due (CLOCK_MONOTONIC); None when
        it is over."""

    def step(self, ready: list[int]) -> bool:
        """Do what is due. False if its lock can't be had and this is to be called again: a signal handler that has
        interrupted the lock's holder may wait for another one."""

    def fail(self, error: BaseException) -> None:
        """It can't be waited for: it is over."""

    def release(self) -> bool:
        """It is over, and its descriptors are not waited for any more: close them. Closed before, they would go on
        being reported where another process has them as well: epoll(7). Does nothing the second time. False as in
        `step`."""


class Background:
    """Starts the thread when it is needed."""

    def __init__(self) -> None:
        # A signal handler may start a job in the middle of these methods, on the same thread.
        self._lock = threading.RLock()
        self._thread: _Thread | None = None

    def add(self, driven: Drivable) -> None:
        """Drive it until it is over."""
        with self._lock:
            if self._thread is None:
                self._thread = thread = _Thread(self)
                try:
                    thread.start()
                except BaseException:  # too many threads, or Python is shutting down
                    self._thread = None
                    if thread.ident is None:
                        thread.close()
                    raise
            self._thread.attend_to(driven)

    def attend_to(self, driven: Drivable) -> None:
        """It waits for something else than before, or is due earlier."""
        with self._lock:
            if self._thread is not None:
                self._thread.attend_to(driven)

    def is_current_thread(self) -> bool:
        """Whether this is called on the thread that drives."""
        return threading.current_thread() is self._thread

    def may_end(self, thread: _Thread) -> bool:
        """Whether that thread, which has nothing to drive, is needed no more."""
        if not self._lock.acquire(timeout=_PATIENCE_S):  # its holder may wait for a job, in a signal handler
            return False
        try:
            if thread.has_news:
                return False
            if self._thread is thread:
                self._thread = None
            return True
        finally:
            self._lock.release()

    def forget(self) -> None:
        """In a forked child, which has no such thread."""
        thread, self._thread = self._thread, None
        self._lock = threading.RLock()
        if thread is not None:
            thread.close()


class _Thread(threading.Thread):
    def __init__(self, background: Background) -> None:
        super().__init__(name="pgtimeout-jobs", daemon=True)
        self._background = background
        self._news: collections.deque[Drivable] = collections.deque()
        self._watched: dict[Drivable, dict[int, int]] = {}
        self._due_at: dict[Drivable, float] = {}
        self._selector = selectors.DefaultSelector()
        reading, writing = os.pipe()
        self._waking, self._wakes = FileIO(reading), FileIO(writing, "w")
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        self._selector.register(self._waking, selectors.EVENT_READ)

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def attend_to(self, driven: Drivable) -> None:
        self._news.append(driven)
        self._wakes.write(b"+")  # None if the pipe is full: then the thread will wake as well

    def close(self) -> None:
        # The selector's own descriptor only: in a forked child, changing what is registered would change it in the
        # parent.
        self._selector.close()
        self._waking.close()
        self._wakes.close()

    def run(self) -> None:
        while self._due_at or not self._background.may_end(self):
            # With nothing to drive, this thread is here only because the lock could not be had: see `may_end`.
            wait_s = min(self._due_at.values(), default=0.0) - time.monotonic()
            ready: dict[Drivable, list[int]] = {}
            for key, _ in self._selector.select(min(max(wait_s, 0.0), _MAX_WAIT_S)):
                if key.data is not None:
                    ready.setdefault(key.data, []).append(key.fd)
            self._waking.read(4096)
            while self._news:
                ready.setdefault(self._news.popleft(), [])
            now = time.monotonic()
            for driven, due_at in self._due_at.items():
                if due_at <= now:
                    ready.setdefault(driven, [])
            for driven, fds in ready.items():
                if not (driven.step(fds) and self._register(driven)):
                    self._due_at[driven] = now
        self.close()

    def _register(self, driven: Drivable) -> bool:
        """Note what it waits for now. False as in `Drivable.step`."""
        interests = driven.interests()
        if interests is not None:
            try:
                self._watch(driven, interests[0])
            except (OSError, KeyError, ValueError) as error:  # other code has closed one of its descriptors
                driven.fail(error)
                interests = None
        if interests is not None:
            self._due_at[driven] = interests[1]
            return True
        self._watch(driven, {})
        del self._watched[driven]
        self._due_at.pop(driven, None)
        return driven.release()

    def _watch(self, driven: Drivable, wanted: dict[int, int]) -> None:
        """Wait for these descriptors of it from now on."""
        watched = self._watched.setdefault(driven, {})
        for fd in watched.keys() - wanted.keys():
            self._selector.unregister(fd)
            del watched[fd]
        for fd, events in wanted.items():
            if watched.get(fd) == events:
                continue
            mask = (selectors.EVENT_READ if events & select.POLLIN else 0) | (
                selectors.EVENT_WRITE if events & select.POLLOUT else 0
            )
            if fd in watched:
                self._selector.modify(fd, mask, driven)
            else:
                self._selector.register(fd, mask, driven)
            watched[fd] = events


background = Background()
os.register_at_fork(after_in_child=background.forget)
