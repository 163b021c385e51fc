"""The supervision of one command, in the guard: start it, wait, end it, make sure that nothing is left, report.

This is the part that must be in time. It does a bounded amount of work per turn, sends without blocking, and never
waits for a look at a process. `ladder` decides which signal is due when, `killing` finds the processes and signals
them, and `observation`, which may be late, finds out their names and what they use.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..shared import debuglog, rights
from ..shared.errors import describe_error
from ..shared.inheritance import Inheritance
from ..shared.processes import describe
from ..shared.protocol import Ask, Done, Extend, Idle, Interrupt, Message, Request, Status, Waiting
from ..shared.records import Ending, Process, Signalled
from ..shared.signals import signal_name
from . import killing, observation, priority, reaping
from .childwatch import ChildWatch
from .ladder import Act, Ladder, Step
from .link import Link
from .lives import Lives
from .observation import Observer
from .reaping import Reaper
from .spawn import spawn

NOT_STARTED = 126
"""The return code of a shell that could not be started, as in GNU timeout and the shells."""
_PATIENCE_S = 0.25
"""How long a report waits for the names of the processes that are left. After that it has only their pids."""
_LINGER_S = 1.0
_NAMED_AT_MOST = 20
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
        mine: Inheritance,
        scheduling: tuple[object, ...],
        link: Link,
        children: ChildWatch,
    ) -> None:
        """``messages`` are the request and what came with it; ``mine`` are the attributes that the guard restores, and
        ``scheduling`` those that it must still have at the end to serve again."""
        request, *self._unheard = messages
        assert isinstance(request, Request)
        self._request = request
        self._mine = mine
        self._scheduling = scheduling
        self._link = link
        self._children = children
        self._ladder = Ladder(request.limits)
        self._lives = Lives(request.limits.started_s)
        self._reaper = Reaper(self._lives)
        self._signals: list[Signalled] = []
        self._drained: list[int] = []
        self._observe_at = request.limits.started_s + observation.FIRST_LOOK_AFTER_S
        self._awaited: _Awaited | None = None
        self._signal_again_at = 0.0
        self._is_hurrying = False
        self._lets_go = False
        """Whether to report although something is left: the ladder has no more steps."""

    def run(self) -> bool:
        """Run until nothing of the command is left. Returns whether the guard can supervise another command."""
        try:
            self._start()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            is_free = self._is_unchanged()
            self._report("failed-to-start", error=describe_error(error), is_free=is_free)
        else:
            is_free = self._watch()
        for fd in self._drained:
            os.close(fd)
        return is_free and self._link.is_open

    def _start(self) -> None:
        fds = self._link.take_fds()
        own, self._drained = fds[:4], fds[4:]
        self._reaper.shell = spawn(self._request, self._mine, *own)
        # The shell is starting now. What its start does not need comes after it.
        debuglog.note("guard", f"started the shell, pid {self._reaper.shell}")
        self._observer = Observer(self._lives, self._mine.niceness, self._children.wake)
        self._lives.record_shell(self._reaper.shell, os.fsdecode(b" ".join(self._request.argv)))

    def _watch(self) -> bool:
        """Supervise until no process of the command is left. Returns whether the guard can be used again."""
        self._hear(self._unheard)
        while (reaped := self._reap()) is not None:
            if reaped == reaping.PER_TURN:
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
            elif now >= self._observe_at:
                self._observe_at = _NEVER
                self._observer.look_now()
            else:
                self._wait(0.0 if reaped == reaping.PER_TURN else self._due_at() - now)
        if self._is_hurrying:
            priority.restore_priority(self._mine.niceness)
        is_free = self._observer.stop() and self._is_unchanged()
        self._report(self._ladder.reason, is_free=is_free)
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
        return min(ladder, self._observe_at, _NEVER if self._awaited is None else self._awaited.until)

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
                self._send_status(now)
                continue
            debuglog.note("guard", f"was told {message!r}")
            if isinstance(message, Interrupt):
                self._ladder.note_interrupt(message.presses, now)
            elif isinstance(message, Idle):
                self._ladder.note_silence(now)
            elif isinstance(message, Extend):
                self._ladder.extend(message.timeout)

    # -- what is to be done -------------------------------------------------------------------------------

    def _do(self, step: Step, now: float) -> None:
        if step.act is Act.SIGNAL:
            self._signal(step.signal, now)
        elif step.act is Act.NOTICE:
            self._await_look(now, self._send_notice)
        else:
            self._lets_go = True
            self._await_look(now, self._report_what_is_left)

    def _await_look(self, now: float, act: Callable[[], None]) -> None:
        self._awaited = _Awaited(self._observer.look_now(), now + _PATIENCE_S, act)

    def _signal(self, number: int, now: float) -> None:
        self._hurry()
        sent = killing.signal_all(number)
        # In a storm a walk takes long. Half of the time is for reaping, or there would be ever more to walk over.
        self._signal_again_at = 2 * time.monotonic() - now
        self._observer.look_soon()
        name = signal_name(number)
        if not self._signals or self._signals[-1].signal != name:
            self._signals.append(Signalled(now - self._request.limits.started_s, name, []))
            debuglog.note("guard", f"sent {name} to {sent}")
        known = self._signals[-1].pids
        known += sorted(set(sent) - set(known))

    def _hurry(self) -> None:
        """From now on the command must leave the guard its share of the processor."""
        if not self._is_hurrying:
            self._is_hurrying = True
            priority.raise_priority()

    def _left(self) -> list[Process]:
        return describe(killing.list_running(), self._observer.present)

    # -- what is sent -------------------------------------------------------------------------------------

    def _send_notice(self) -> None:
        left = self._left()
        if left and self._reaper.returncode is not None:
            self._link.send(Waiting(self._reaper.returncode, left[:_NAMED_AT_MOST], len(left)))

    def _send_status(self, now: float) -> None:
        """Send the state at the last look. The look that is requested here is for the next status."""
        present = list(self._observer.present.values())
        self._observer.look_soon()
        self._link.send(
            Status(
                returncode=self._reaper.returncode,
                signal=self._signals[-1].signal if self._signals else "",
                next_signal_s=self._ladder.next_signal_in(now),
                names=[process.name for process in present[:_NAMED_AT_MOST]],
                processes=len(present),
                cpu_s=self._reaper.cpu_s + sum(process.cpu_s for process in present),
                rss_bytes=sum(process.rss_bytes for process in present),
            )
        )

    def _report_what_is_left(self) -> None:
        left = self._left()
        self._observer.stop()
        self._report(self._ladder.reason, survivors=left)

    def _report(
        self, reason: str, *, error: str = "", survivors: Sequence[Process] = (), is_free: bool = False
    ) -> None:
        ending = Ending(
            pid=self._reaper.shell,
            returncode=NOT_STARTED if error else self._reaper.returncode,
            reason=reason,
            error=error,
            duration=time.monotonic() - self._request.limits.started_s,
            cpu_time=self._reaper.cpu_s,
            max_rss=self._reaper.max_rss_bytes,
            signals=tuple(self._signals),
            survivors=tuple(survivors),
            processes=self._lives.all(have_ended=not survivors),
        )
        debuglog.note("guard", f"reports {reason}, return code {ending.returncode}, {len(survivors)} left")
        self._link.send(Done(ending, is_free))

    # -- the end ------------------------------------------------------------------------------------------

    def _is_unchanged(self) -> bool:
        """Whether this process is as it was. A hard limit, for example, may have been lowered for the command and can't
        be raised again; or the command itself has changed its guard (prlimit(1), renice(1), taskset(1), chrt(1))."""
        return Inheritance.current(b"") == self._mine and rights.scheduling() == self._scheduling

    def _linger(self) -> None:
        """Stay with what is left: reap it, go on killing what must die, and read what the others write.

        Processes that were left running on purpose still hold our pipes: unread, they would block for ever or die of
        SIGPIPE. We read only once the caller has closed the channel, so as to take nothing from it.
        """
        drained = list(self._drained)
        while self._reaper.reap() is not None:
            if self._ladder.is_ending:
                killing.signal_all(signal.SIGKILL)
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
