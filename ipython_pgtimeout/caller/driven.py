"""A command that is driven by the thread of `background`: what it writes and how it ends, for any thread."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable

from ..result import GuardDied, Result
from ..shared.protocol import Status
from ..spec import Spec
from .background import background
from .connection import connection
from .listeners import Listeners
from .output import Show, Stream
from .running import Running
from .supervisor import NothingStarted
from .texts import Texts

_MAX_WAIT_S = 3600.0
_PATIENCE_S = 0.01
_MOST_PRESSES = 2
"""The second one asks for SIGKILL. A third one would say that the guard does not answer: see `Backstop`."""


class Driven:
    """One command. ``lock`` guards everything; a signal handler can take it again on its own thread.

    An exception of a signal handler, such as KeyboardInterrupt, can come between any two instructions of Python. So
    take the lock by ``with``, which is one instruction, and not its condition, whose methods are in Python.
    """

    def __init__(self, spec: Spec, show: Show) -> None:
        """Starts it. ``show`` is called with output and notices, on the thread that drives. Raises InputError."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._changes = 0
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
        self.is_told = False
        """Whether it is over and the listeners know. Who waits for the end waits for this: in a notebook's last cell,
        the job's panel is to show it first."""
        self.is_ending = False
        self.call_at = math.inf
        """When a listener wants to be called though nothing has changed, by CLOCK_MONOTONIC."""
        self._presses = 0
        self._spec = spec
        self._show = show
        self._unshown: list[tuple[Stream, str]] = []
        self.listeners = Listeners()
        self._failure: BaseException | None = None
        """What will be the error, once everything has been released."""
        self._error_of_user: BaseException | None = None
        """What ``show`` has raised: it will be the error, once nothing is left."""
        self._is_second_try = False
        self._running = self._begin()
        with contextlib.suppress(OSError):  # a second try is to run in what is the current directory now
            self._spec = dataclasses.replace(spec, cwd=os.path.join(os.getcwd(), os.path.expanduser(spec.cwd or "")))
        _unfinished.add(self)
        try:
            background.add(self)
        except BaseException:  # no thread or no descriptor can be had
            _unfinished.discard(self)
            self._running.close()
            raise

    def _begin(self) -> Running:
        return Running(
            self._spec,
            self._note_text,
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
        with self.lock:
            if not self.is_over:
                ask(self._running)
        background.attend_to(self)

    def interrupt(self) -> None:
        """One more press of a stop button: see `Running.stop`."""
        with self.lock:
            self.is_ending = True
            self._presses = min(self._presses + 1, _MOST_PRESSES)
            self.ask(lambda running: running.stop(self._presses))

    def terminate(self, *, at_once: bool) -> None:
        """See `Running.terminate`."""
        with self.lock:
            self.is_ending = True
            self.ask(lambda running: running.terminate(at_once=at_once))

    def outcome(self) -> Result | None:
        """The result, None before the end. Raises the error, if there is one."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.result

    def text(self, stream: Stream) -> str:
        """What is kept of ``stdout`` or ``stderr``."""
        with self.lock:
            return self._running.streams.text_so_far(stream)

    @property
    def written_bytes(self) -> int:
        return self._running.streams.total_bytes

    def wait_until(self, condition: Callable[[], object], timeout_s: float = math.inf) -> bool:
        """Wait until the condition holds. False if it does not within ``timeout_s`` seconds."""
        until = time.monotonic() + timeout_s
        while True:
            changes = self._changes
            if condition():  # without the lock: to look may take long, and the other jobs would wait for it
                return True
            if background.is_current_thread():
                raise RuntimeError("on_output can't wait for a job: all jobs would wait for it")
            with self.lock:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return False
                if self._changes == changes:
                    self._changed.wait(min(left_s, _MAX_WAIT_S))

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it soon, and whenever something has changed, on the thread that drives: it may not wait. If the command
        is over, it is called at once."""
        self.listeners.add(listener)
        if self.is_over:
            listener()
        else:
            background.attend_to(self)

    # -- for the thread that drives: see `background` -----------------------------------------------------

    def interests(self) -> tuple[dict[int, int], float] | None:
        if self._failure is not None or self.is_over or self._running.is_over:
            return None
        return self._running.watched, min(self._running.due_at, self.call_at)

    def step(self, ready: list[int]) -> bool:
        if not self.lock.acquire(timeout=_PATIENCE_S):
            return False
        self.call_at = math.inf
        try:
            if self._failure is None and not self.is_over:
                self._running.step(ready)
        except BaseException as error:
            self._failure = error
        finally:
            self.lock.release()
        self._pass_on()
        self.listeners.tell()
        return self._tell_waiters()

    def fail(self, error: BaseException) -> None:
        self._failure = error

    def release(self) -> bool:
        # A signal handler that has interrupted the start of a command may wait for this one: then it is closed later.
        has_lock = connection.lock.acquire(timeout=_PATIENCE_S)
        try:
            return self._conclude(closes=has_lock) and has_lock
        finally:
            if has_lock:
                connection.lock.release()

    def _conclude(self, closes: bool) -> bool:
        if not self.lock.acquire(timeout=_PATIENCE_S):
            return False
        try:
            result = None
            try:
                if closes:
                    self._running.close()
                if self._failure is None:
                    result = self._running.result()
            except BaseException as error:
                self._failure = self._failure or error
            if self.is_over:
                self._note_change()
                return True
            if isinstance(self._failure, NothingStarted) and not closes:
                return False
            if isinstance(self._failure, NothingStarted):
                if self._starts_again():
                    return True
                self._failure = GuardDied(str(self._failure), self._failure.details)
            self.pid = self.pid if result is None else result.pid
            self.ended_at = time.time()
            self.error = self._failure or self._error_of_user
            self.result = None if self.error else result
        finally:
            self.lock.release()
        self.listeners.tell()
        self.is_told = True
        _unfinished.discard(self)
        return self._tell_waiters()

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
        """Without the lock, which what the user's function waits for may need. Output can come before the pid is known,
        and is passed on only after that: the function may ask for the pid, and can't wait."""
        if not (self.pid or self._failure is not None or self._running.is_over):
            return
        unshown, self._unshown = self._unshown, []
        try:
            for stream, text in unshown if self._error_of_user is None else []:
                self._show(stream, text)
        except BaseException as error:
            self._error_of_user = error
            self.terminate(at_once=False)

    def _tell_waiters(self) -> bool:
        """Something may have changed. False if this is to be called again."""
        if has_lock := self.lock.acquire(timeout=_PATIENCE_S):
            self._note_change()
            self.lock.release()
        return has_lock

    def _note_change(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _note_text(self, stream: Stream, text: str) -> None:
        self.texts.add(stream, text)
        self._unshown.append((stream, text))

    def _note_status(self, status: Status | None, _written_bytes: int) -> None:
        self.status = status or self.status

    def _note_pid(self, pid: int) -> None:
        self.pid = pid

    def forget(self) -> None:
        """In a forked child: the command is the parent's, and a thread that is not here may have the lock."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self.is_told = True
        self.error = RuntimeError("this job belongs to the process that this one was forked from")


_unfinished: set[Driven] = set()


def end_all() -> None:
    """End what still runs as at its deadline, and wait until nothing is left, for as long as that may take."""
    unfinished = list(_unfinished)
    for driven in unfinished:
        driven.terminate(at_once=False)
    for driven in unfinished:
        driven.wait_until(lambda driven=driven: driven.is_told)  # type: ignore[misc]


def _forget_all() -> None:
    for driven in _unfinished:
        driven.forget()
    _unfinished.clear()


os.register_at_fork(after_in_child=_forget_all)
