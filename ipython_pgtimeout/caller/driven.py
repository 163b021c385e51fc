"""A command that is driven by the thread of `background`: what it writes and how it ends, for any thread."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import threading
import time
import traceback
from collections.abc import Callable

from .. import values
from ..result import GuardDied, Result
from ..shared import debuglog
from ..shared.protocol import Status
from ..spec import Spec
from .background import background
from .output import Show, Stream
from .running import Running
from .supervisor import NothingStarted

_MAX_WAIT_S = 3600.0
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


class Driven:
    """One command. The lock of `changed` guards everything; a signal handler can take it again on its own thread."""

    def __init__(self, spec: Spec, show: Show) -> None:
        """Starts it. ``show`` is called with output and notices, on the thread that drives. Raises InputError."""
        self.changed = threading.Condition(threading.RLock())
        self.texts = Texts(spec.max_output)
        self.pid = 0
        """The shell's, once it is known."""
        self.started_s = time.monotonic()
        self.ended_at = math.nan
        """By the clock on the wall; not a number before the end."""
        self.status: Status | None = None
        """What was observed last: see `Running.ask_for_status`."""
        self.result: Result | None = None
        self.error: BaseException | None = None
        """Why there is no result."""
        self.is_ending = False
        self.call_at = math.inf
        """When a listener wants to be called though nothing has changed, by CLOCK_MONOTONIC."""
        self._presses = 0
        self._spec = spec
        self._show = show
        self._next_to_show = 0
        self._listeners: list[Callable[[], None]] = []
        self._failure: BaseException | None = None
        """What will be the error, once everything has been released."""
        self._is_second_try = False
        self._running = self._begin()
        with contextlib.suppress(OSError):  # a second try is to run in what is the current directory now
            self._spec = dataclasses.replace(spec, cwd=spec.cwd or os.getcwd())
        _unfinished.add(self)
        background.add(self)

    def _begin(self) -> Running:
        return Running(
            self._spec,
            self.texts.add,
            is_live=True,
            on_status=self._note_status,
            first_status_after_s=math.inf,
            on_start=self._note_pid,
            started_s=self.started_s,
        )

    # -- for any thread -----------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing of the command is left, or its supervision has failed."""
        return self.result is not None or self.error is not None

    def ask(self, ask: Callable[[Running], None]) -> None:
        """Ask something of the running command. Does nothing when it is over."""
        with self.changed:
            if not self.is_over:
                ask(self._running)
        background.attend_to(self)

    def interrupt(self) -> None:
        """One more press of a stop button: see `Running.stop`."""
        with self.changed:
            self.is_ending = True
            self._presses += 1
            self.ask(lambda running: running.stop(self._presses))

    def terminate(self, *, at_once: bool) -> None:
        """See `Running.terminate`."""
        with self.changed:
            self.is_ending = True
            self.ask(lambda running: running.terminate(at_once=at_once))

    def outcome(self) -> Result | None:
        """The result, None before the end. Raises the error, if there is one."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.result

    def text(self, stream: Stream) -> str:
        """What is kept of ``stdout`` or ``stderr``."""
        with self.changed:
            return self._running.text_so_far(stream)

    @property
    def written_bytes(self) -> int:
        return self._running.written_bytes

    def wait_until(self, condition: Callable[[], object], timeout: float | str | None = None) -> bool:
        """Wait until the condition holds, which is looked at with the lock. False if it does not within ``timeout``."""
        until = math.inf if timeout is None else time.monotonic() + values.parse_idle(timeout)
        with self.changed:
            while not condition():
                if background.is_current_thread():
                    raise RuntimeError("on_output can't wait for a job: all jobs would wait for it")
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return False
                self.changed.wait(min(left_s, _MAX_WAIT_S))
        return True

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it soon, and whenever something has changed, on the thread that drives: it may not wait. If the command
        is over, it is called at once."""
        with self.changed:
            self._listeners.append(listener)
            is_over = self.is_over
        if is_over:
            listener()
        else:
            background.attend_to(self)

    def listen_no_more(self, listener: Callable[[], None]) -> None:
        with self.changed, contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    # -- for the thread that drives: see `background` -----------------------------------------------------

    def interests(self) -> tuple[dict[int, int], float] | None:
        with self.changed:
            if self._failure is not None or self.is_over or self._running.is_over:
                return None
            return self._running.watched, min(self._running.due_at, self.call_at)

    def step(self, ready: list[int]) -> None:
        self.call_at = math.inf
        try:
            with self.changed:
                if self._failure is None and not self.is_over:
                    self._running.step(ready)
                self.changed.notify_all()
            self._pass_on()
        except BaseException as error:
            self._failure = error
        self._tell_listeners()

    def release(self) -> None:
        with self.changed:
            result = self._running.result() if self._failure is None else None
            self._running.close()
            if isinstance(self._failure, NothingStarted):
                if self._starts_again():
                    return
                self._failure = GuardDied(str(self._failure), self._failure.details)
            if result is not None:
                self.pid = result.pid
            self.result, self.error = result, self._failure
            _unfinished.discard(self)
            self.ended_at = time.time()
            # Before anyone who waits for the end goes on: it may be the last thing that a notebook does.
            self._tell_listeners()
            self.changed.notify_all()

    def _starts_again(self) -> bool:
        """Once: a helper was killed or changed, and there are new ones now."""
        if self._is_second_try or self.is_ending:
            return False
        self._is_second_try = True
        try:
            self._running = self._begin()
        except BaseException as error:
            self._failure = error
            return False
        self._failure = None
        background.add(self)
        return True

    def _pass_on(self) -> None:
        """Without the lock, which what the user's function waits for may need."""
        new, self._next_to_show = self.texts.after(self._next_to_show)
        for stream, text in new:
            self._show(stream, text)

    def _tell_listeners(self) -> None:
        for listener in list(self._listeners):
            try:
                listener()
            except Exception:  # it shows the job: its front end may be gone, and the job goes on without it
                debuglog.note("caller", f"a listener has failed: {traceback.format_exc()}")
                self.listen_no_more(listener)

    def _note_status(self, status: Status | None, _written_bytes: int) -> None:
        self.status = status or self.status

    def _note_pid(self, pid: int) -> None:
        self.pid = pid

    def forget(self) -> None:
        """In a forked child: the command is the parent's, and a thread that is not here may have the lock."""
        self.changed = threading.Condition(threading.RLock())
        self.error = RuntimeError("this job belongs to the process that this one was forked from")


_unfinished: set[Driven] = set()


def end_all() -> None:
    """End what still runs as at its deadline, and wait until nothing is left, for as long as that may take."""
    unfinished = list(_unfinished)
    for driven in unfinished:
        driven.terminate(at_once=False)
    for driven in unfinished:
        driven.wait_until(lambda driven=driven: driven.is_over)  # type: ignore[misc]


def _forget_all() -> None:
    for driven in _unfinished:
        driven.forget()
    _unfinished.clear()


os.register_at_fork(after_in_child=_forget_all)
