"""The supervision of one command, in the guard: start it, wait, end it, make sure that nothing is left, report.

This is the part that must be in time. It does a bounded amount of work per turn, sends without blocking, and never
waits for a look at a process. `ladder` decides which signal is due when, `killing` finds the processes and signals
them, and `observation`, which may be late, finds out their names and what they use.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..shared import debuglog
from ..shared.errors import describe_error
from ..shared.protocol import Ask, Extend, Idle, Interrupt, Message, Request, Signal, Terminate
from ..shared.signals import signal_name
from . import killing, observation, priority, reaping
from .attributes import Attributes
from .childwatch import ChildWatch
from .kin import KinReaper
from .ladder import Act, Ladder, Step
from .limiter import Limiter
from .link import Link
from .lives import Lives
from .observation import Observer
from .reaping import Reaper, own_max_rss_bytes
from .reporting import Reports
from .spawn import spawn

_PATIENCE_S = 0.25
"""How long a report waits for the names of the processes that are left. After that it has only their pids."""
_LINGER_S = 1.0
_MANY_DEATHS = 3
"""If so many have ended since the last turn, the guard comes to its turns too rarely: others take the processor."""
_LARGE_BYTES = 32 * 1024 * 1024
"""A guard that has been larger, for a large request, does not serve again: it would keep the memory, and the size of a
command's processes can't be measured below that of its guard."""
_MAX_WAIT_S = 3600.0
_NEVER = float("inf")


class _Awaited(NamedTuple):
    """What to do when that look has been finished, at ``until`` at the latest."""

    look: int
    until: float
    act: Callable[[], None]


class Supervision:
    """Ties the parts together: what has happened goes to the ladder, and what the ladder says is done."""

    def __init__(
        self,
        messages: list[Message],
        attributes: Attributes,
        link: Link,
        children: ChildWatch,
        adopts: bool,
        shell: int = 0,
        returncode: int | None = None,
    ) -> None:
        """``messages`` are the request and what came with it; ``attributes`` are those that the guard restores, and
        must have at the end to serve again. ``adopts`` tells that orphans become its children. ``shell`` is the
        command's first process if it has been started already, and ``returncode`` that of it if it has ended."""
        request, *self._unheard = messages
        assert isinstance(request, Request)
        self._request = request
        self._attributes = attributes
        self._mine = attributes.inheritance
        self._link = link
        self._children = children
        self._ladder = Ladder(request.limits)
        self._lives = Lives(request.limits.started_s)
        self._reaper = Reaper(self._lives) if adopts else KinReaper(self._lives)
        self._reaper.shell, self._reaper.returncode = shell, returncode
        self._observer = Observer(self._lives, children.wake, self._reaper.roots)
        self._reports = Reports(request, link, self._ladder, self._reaper, self._observer)
        self._drained: list[int] = []
        self._observe_at = request.limits.started_s + observation.FIRST_LOOK_AFTER_S
        self._awaited: _Awaited | None = None
        self._signal_again_at = 0.0
        self._requested: deque[int] = deque()
        """Signals that the caller asks for, sent one per turn: many of them must not hold a deadline up."""
        self._is_hurrying = False
        self._lets_go = False
        """Whether to report although something is left: the ladder has no more steps."""

    def run(self) -> bool:
        """Run until nothing of the command is left. Returns whether the guard can supervise another command."""
        try:
            self._start()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            is_free = self._is_unchanged()
            self._reports.send_failure(describe_error(error), is_free=is_free)
        else:
            is_free = self._watch()
        for fd in self._drained:
            os.close(fd)
        return is_free and self._link.is_open

    def _start(self) -> None:
        self._drained = self._link.take_fds()
        self._limiter = Limiter(self._request.limits, self._reaper, self._observer)
        if self._reaper.returncode is not None:
            self._ladder.note_shell_exit(time.monotonic())
        if not self._reaper.shell:
            self._reaper.shell = self._spawn()
        # The shell is starting now. What its start does not need comes after it.
        debuglog.note("guard", f"started the shell, pid {self._reaper.shell}")
        self._lives.record_shell(self._reaper.shell, self._request.argv)
        if self._request.tells_start:
            self._reports.send_start()

    def _spawn(self) -> int:
        if len(self._drained) < 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        own, self._drained = self._drained[:4], self._drained[4:]
        return spawn(self._reaper.marked(self._request), self._mine, *own)

    def _watch(self) -> bool:
        """Supervise until no process of the command is left. Returns whether the guard can be used again."""
        self._hear(self._unheard)
        while (reaped := self._reap()) is not None:
            if reaped >= _MANY_DEATHS and not self._is_hurrying:
                self._hurry()
            self._observer.hold(reaped == reaping.PER_TURN)
            now = time.monotonic()
            if self._awaited is not None and (
                self._observer.has_done(self._awaited.look) or now >= self._awaited.until
            ):
                awaited, self._awaited = self._awaited, None
                awaited.act()
            elif self._lets_go and self._awaited is None:
                self._linger()
                return False
            elif (
                not self._lets_go and now >= self._signal_again_at and (step := self._ladder.next_step(now)) is not None
            ):
                self._do(step, now)
            elif now >= self._limiter.due_at and not self._lets_go:
                self._check_limits(now)
            elif self._requested:
                self._signal_on_request(self._requested.popleft(), now)
            elif now >= self._observe_at:
                self._observe_at = _NEVER
                self._observer.look_now()
            else:
                self._wait(0.0 if reaped == reaping.PER_TURN else self._due_at() - now)
        if self._is_hurrying:
            priority.restore_priority(self._mine.niceness)
        is_free = self._observer.stop() and self._is_unchanged()
        self._reports.send_end(is_free=is_free)
        return is_free

    # -- what has happened --------------------------------------------------------------------------------

    def _reap(self) -> int | None:
        had_exited = self._reaper.returncode is not None
        reaped = self._reaper.reap()
        if self._reaper.returncode is not None and not had_exited:
            debuglog.note("guard", f"the shell has exited, return code {self._reaper.returncode}")
            self._ladder.note_shell_exit(time.monotonic())
        return reaped

    def _due_at(self) -> float:
        ladder = _NEVER if self._lets_go else max(self._ladder.due_at, self._signal_again_at)
        awaited = _NEVER if self._awaited is None else self._awaited.until
        limiter = _NEVER if self._lets_go else self._limiter.due_at
        return min(ladder, limiter, self._observe_at, self._reaper.look_again_at, awaited)

    def _wait(self, timeout_s: float) -> None:
        # Not poll(2), which rounds its timeout up to the next millisecond. Our descriptors are few, and below 1024.
        watched = [self._children.fileno(), *self._link.readable]
        timeout_s = min(max(timeout_s, 0.0), _MAX_WAIT_S)
        readable, writable, _ = select.select(watched, self._link.writable, [], timeout_s)
        if writable:
            self._link.flush()
        for fd in readable:
            if fd == self._children.fileno():
                self._children.clear()
            else:
                self._hear(self._link.receive(fd))
        if not self._link.is_open:
            self._ladder.note_death_of_caller(time.monotonic())

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            now = time.monotonic()
            if isinstance(message, Ask):
                self._reports.send_status(now)
                continue
            debuglog.note("guard", f"was told {message!r}")
            if isinstance(message, Interrupt):
                self._ladder.note_interrupt(message.presses, now)
            elif isinstance(message, Idle):
                self._ladder.note_silence(now)
            elif isinstance(message, Extend):
                self._ladder.extend(message.timeout)
            elif isinstance(message, Terminate):
                self._ladder.note_termination(message.at_once, now, message.signal)
            elif isinstance(message, Signal):
                self._requested.append(message.number)

    # -- what is to be done -------------------------------------------------------------------------------

    def _do(self, step: Step, now: float) -> None:
        if step.act is Act.SIGNAL:
            self._signal(step.signal, now)
        elif step.act is Act.NOTICE:
            self._await_look(now, self._reports.send_notice)
        else:
            self._lets_go = True
            self._await_look(now, self._report_what_is_left)

    def _check_limits(self, now: float) -> None:
        if exceeded := self._limiter.step(now):
            self._reports.note_excess(exceeded, now)
            self._ladder.note_excess(exceeded.what, now)

    def _await_look(self, now: float, act: Callable[[], None]) -> None:
        self._awaited = _Awaited(self._observer.look_now(), now + _PATIENCE_S, act)

    def _signal(self, number: int, now: float) -> None:
        self._hurry()
        self._observer.hold(True)
        sent = killing.signal_all(number, self._reaper.roots, self._reaper.shell)
        self._observer.hold(False)
        # In a storm a walk takes long. Half of the time is for reaping, or there would be ever more to walk over.
        self._signal_again_at = 2 * time.monotonic() - now
        self._observer.look_soon()
        self._reports.note_signal(signal_name(number), sent, now)

    def _signal_on_request(self, number: int, now: float) -> None:
        sent = killing.signal_running(self._reaper.roots, self._reaper.shell, number)
        self._reports.note_signal(signal_name(number), sent, now, on_request=True)

    def _hurry(self) -> None:
        """From now on the command must leave the guard its share of the processor. Once more at each signal: a thread
        can have been in the middle of starting the last time."""
        self._is_hurrying = True
        priority.raise_priority()

    def _report_what_is_left(self) -> None:
        left = self._reports.list_left()
        if not left:
            if self._reap() != 0:  # it has ended meanwhile
                self._lets_go = False
                return
            left = self._reports.list_left()
        self._observer.stop()
        self._reports.send_end_with(left)

    # -- the end ------------------------------------------------------------------------------------------

    def _is_unchanged(self) -> bool:
        """Whether this process is as it was. A hard limit, for example, may have been lowered for the command and can't
        be raised again; or the command itself has changed its guard (prlimit(1), renice(1), taskset(1), chrt(1))."""
        is_small = own_max_rss_bytes() < _LARGE_BYTES
        return is_small and Attributes.current() == self._attributes

    def _linger(self) -> None:
        """Stay with what is left: reap it, go on killing what must die, and read what the others write.

        Processes that were left running on purpose still hold our pipes: unread, they would block for ever or die of
        SIGPIPE. We read only once the caller has closed the channel, so as to take nothing from it.
        """
        drained = list(self._drained)
        while self._reaper.reap() is not None:
            if self._ladder.is_ending:
                killing.signal_all(signal.SIGKILL, self._reaper.roots, self._reaper.shell)
            readable = [self._children.fileno(), *(self._link.readable or drained)]
            for fd in select.select(readable, self._link.writable, [], _LINGER_S)[0]:
                if fd == self._children.fileno():
                    self._children.clear()
                elif fd in drained:
                    if not _discard(fd):
                        drained.remove(fd)
                else:
                    self._link.receive(fd)
            self._link.flush()


def _discard(fd: int) -> bool:
    """Read and discard. Returns False at end of file, which a terminal without its session reports as an error."""
    try:
        return bool(os.read(fd, 1 << 16))
    except OSError:
        return False
