"""One command's life, in the guard: start it, wait, end it, be sure, report."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

from . import processes
from .inheritance import Inheritance
from .lives import Lives
from .protocol import Ask, Channel, Done, Idle, Interrupt, Message, Request, Signalled, Status, Waiting
from .shell import spawn

NOTICE_AFTER_S = 1.0
"""How long the shell may be gone with processes left before the kernel is told of them."""
GIVE_UP_AFTER_S = 3.0
"""How long SIGKILL may take before what is left is reported as surviving. The guard goes on killing."""
NOT_STARTED = 126
"""The return code of a shell that could not be started, as in GNU timeout and the shells."""
_KILL_AGAIN_AFTER_S = 0.005
_LINGER_S = 1.0
_NAMED_AT_MOST = 20
_MAX_WAIT_S = 3600.0
_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_NEVER = float("inf")


def _discard(fd: int) -> bool:
    """Read and forget. False at the end of file, which a terminal without its session tells by an error."""
    try:
        return bool(os.read(fd, 1 << 16))
    except OSError:
        return False


class Supervision:
    """The policy: when which signal is due. How processes are found and hit is in ``processes``."""

    def __init__(
        self,
        messages: list[Message],
        mine: Inheritance,
        channel: Channel,
        kernel_fd: int | None,
        children: processes.ChildWatch,
    ) -> None:
        """``messages`` are the request and what came with it; ``mine`` is what the guard goes back to."""
        request, *self._unheard = messages
        assert isinstance(request, Request)
        self._request = request
        self._mine = mine
        self._channel: Channel | None = channel
        self._kernel_fd = kernel_fd
        self._children = children
        self._watched = [fd for fd in (children.fileno(), channel.fileno(), kernel_fd) if fd is not None]
        self._drained: list[int] = []
        self._shell = 0
        self._lives = Lives(request.started_s)
        self._returncode: int | None = None
        self._reason = "exited"
        self._cpu_s = 0.0
        self._max_rss_bytes = 0
        self._interrupts = 0
        self._signals: list[Signalled] = []
        self._started = request.started_s
        self._deadline = self._started + request.timeout_s
        self._notice_at = _NEVER
        self._ladder: list[signal.Signals] = []
        self._next_rung = _NEVER
        self._give_up_at = _NEVER

    def run(self) -> bool:
        """To the moment when nothing of the command is left. Whether the guard can take on another."""
        any_left, error = False, ""
        try:
            self._start()
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            self._returncode, self._reason = NOT_STARTED, "failed-to-start"
            error = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        else:
            any_left = self._watch()
        # What can't be raised again, a hard limit for example, would hold for the next command too.
        is_free = not any_left and (self._request.inheritance == self._mine or Inheritance.current() == self._mine)
        self._report(is_free, error)
        if any_left:
            self._linger()
        for fd in self._drained:
            os.close(fd)
        return is_free and self._channel is not None

    def _start(self) -> None:
        assert self._channel is not None
        fds = self._channel.fds
        own, self._drained = fds[:4], fds[4:]
        fds.clear()
        self._shell = spawn(self._request, self._mine, *own)
        self._lives.started(self._shell, os.fsdecode(b" ".join(self._request.argv)))

    def _watch(self) -> bool:
        """Until no process of the command is left, or they are no longer ours: then True."""
        self._hear(self._unheard)
        while self._reap():
            if not self._tick(time.monotonic()):
                self._lives.walk()  # who was reaped by a parent that then died has ended, too
                return True
            self._wait(self._due_at() - time.monotonic())
        self._lives.all_ended()
        return False

    # -- what has happened --------------------------------------------------------------------------------

    def _reap(self) -> bool:
        """Collect the children that have ended. False when no process of the command is left at all."""
        while True:
            try:
                ended = processes.ended_child()
                if ended:
                    self._lives.ended(ended)
                pid, status, used = os.wait4(ended or -1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self._cpu_s += used.ru_utime + used.ru_stime
            self._max_rss_bytes = max(self._max_rss_bytes, used.ru_maxrss * _MAXRSS_UNIT_BYTES)
            if pid == self._shell and self._returncode is None:  # its number can come again once it is reaped
                self._returncode = os.waitstatus_to_exitcode(status)
                self._notice_at = time.monotonic() + NOTICE_AFTER_S

    def _wait(self, timeout_s: float) -> None:
        # Not by poll(2), whose timeout is rounded up to the next millisecond. Our descriptors are few, below 1024.
        for fd in select.select(self._watched, [], [], min(max(timeout_s, 0.0), _MAX_WAIT_S))[0]:
            if fd == self._children.fileno():
                self._children.clear()
            elif fd == self._kernel_fd:
                self._kernel_is_gone()
            elif self._channel is not None:  # None: the loop's last turn has found the kernel gone
                self._listen(self._channel)

    def _listen(self, channel: Channel) -> None:
        try:
            messages = channel.receive()
        except EOFError:
            self._kernel_is_gone()
        else:
            self._hear(messages)

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Ask):
                self._tell_status()
            if isinstance(message, Idle) and not self._ladder:
                self._end("idle", self._first_signal())
            if isinstance(message, Interrupt) and message.presses > self._interrupts:
                self._interrupts = message.presses
                if self._ladder:
                    self._end(self._reason, signal.SIGKILL)  # it is ending already: the user is in a hurry
                else:
                    self._end("interrupted", signal.SIGINT, signal.SIGTERM)

    def _kernel_is_gone(self) -> None:
        """The kernel has closed the channel, or its pidfd says it is dead: a child it has forked may still
        hold its end of the channel open, so end of file alone would not tell."""
        self._let_go_of_the_kernel()
        if not self._ladder:
            self._end("kernel-died", self._first_signal())

    def _let_go_of_the_kernel(self) -> None:
        self._watched = [self._children.fileno()]
        if self._channel is not None:
            self._channel.close()
        self._channel = self._kernel_fd = None

    # -- what is due --------------------------------------------------------------------------------------

    def _due_at(self) -> float:
        return min(self._lives.next_walk, self._next_rung if self._ladder else min(self._deadline, self._notice_at))

    def _tick(self, now: float) -> bool:
        """Do what is due. False when there is nothing more to do for us."""
        if now >= self._lives.next_walk:
            self._lives.walk()
        if not self._ladder:
            if now >= self._deadline:
                self._end("timeout", self._first_signal())
            elif self._returncode is not None:
                if self._request.leftovers == "leave":
                    return False
                if self._request.leftovers == "kill":
                    self._end("exited", self._first_signal())
                elif now >= self._notice_at:
                    self._notice(self._returncode)
        if self._ladder and (now >= self._next_rung or self._shell_has_heeded_the_interrupt()):
            self._climb(now)
        return now < self._give_up_at

    def _first_signal(self) -> signal.Signals:
        return signal.Signals(self._request.signal)

    def _notice(self, returncode: int) -> None:
        self._notice_at = _NEVER
        self._lives.walk()
        left = self._lives.present
        self._send(Waiting(returncode, left[:_NAMED_AT_MOST], len(left)))

    def _tell_status(self) -> None:
        self._lives.walk_if_affordable()
        present = self._lives.present
        self._send(
            Status(
                returncode=self._returncode,
                signal=self._signals[-1].signal if self._signals else "",
                rung_left_s=max(0.0, self._next_rung - time.monotonic()),
                names=[process.name for process in present[:_NAMED_AT_MOST]],
                processes=len(present),
                cpu_s=self._cpu_s + sum(process.cpu_s for process in present),
                rss_bytes=sum(process.rss_bytes for process in present),
            )
        )

    def _end(self, reason: str, *rungs: signal.Signals) -> None:
        """Set up the ladder: after each signal a grace for *everything* to go, then SIGKILL until it has."""
        self._reason = reason
        gentle = [rung for rung in rungs if rung != signal.SIGKILL] if self._request.grace_s > 0 else []
        self._ladder = [*gentle, signal.SIGKILL]
        self._next_rung = time.monotonic()

    def _shell_has_heeded_the_interrupt(self) -> bool:
        """TERM follows INT at once when the shell is gone: what it left in the background ignores INT."""
        return self._returncode is not None and self._reason == "interrupted" and self._ladder[0] == signal.SIGTERM

    def _climb(self, now: float) -> None:
        rung = self._ladder[0]
        # Counted before they are hit: a process that dies of the first signal takes its children's place from us.
        self._lives.walk()
        targets = [process.pid for process in self._lives.present]
        if rung == signal.SIGKILL:
            # It stays on top and is sent again: what was forked since the walk must go too.
            self._give_up_at = min(self._give_up_at, now + GIVE_UP_AFTER_S)
            self._next_rung = now + _KILL_AGAIN_AFTER_S
            # A walk of its own, that kills as it goes: what forks and exits is gone for one that looks further first.
            processes.signal_groups(processes.descendants(os.getpid()), rung)
        else:
            del self._ladder[0]
            self._next_rung = now + self._request.grace_s
            # A stopped process acts on nothing but SIGKILL until it is continued: signal(7).
            processes.signal_groups(targets, rung, signal.SIGCONT)
        self._lives.walk_soon()
        if not self._signals or self._signals[-1].signal != rung.name:
            self._signals.append(Signalled(now - self._started, rung.name, []))
        known = self._signals[-1].pids
        known += sorted(set(targets) - set(known))

    # -- the end ------------------------------------------------------------------------------------------

    def _report(self, is_free: bool, error: str) -> None:
        self._send(
            Done(
                pid=self._shell,
                returncode=self._returncode,
                reason=self._reason,
                duration_s=time.monotonic() - self._started,
                cpu_s=self._cpu_s,
                max_rss_bytes=self._max_rss_bytes,
                signals=self._signals,
                survivors=self._lives.present,
                processes=self._lives.all(),
                error=error,
                is_free=is_free,
            )
        )

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(message)

    def _linger(self) -> None:
        """Stay with what is left: reap it, go on killing what must die, and read what the others write.

        Processes that were left running on purpose still hold our pipes: unread, they would block for ever
        or die of SIGPIPE. We read only once the kernel has let go, so as to take nothing from it.
        """
        while self._reap():
            if self._ladder:
                processes.signal_groups(processes.descendants(os.getpid()), signal.SIGKILL)
            for fd in select.select(self._watched, [], [], _LINGER_S)[0]:
                if fd == self._children.fileno():
                    self._children.clear()
                elif fd in self._drained:
                    if not _discard(fd):
                        self._watched.remove(fd)
                else:
                    self._let_go_of_the_kernel()
                    self._watched += self._drained
