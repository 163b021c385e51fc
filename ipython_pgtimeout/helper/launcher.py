"""The fork server, in a process of its own: one per caller, one guard per channel it is handed.

- A guard is forked from here, so a command does not pay for the start of a Python.
- It is in its own session: a kernel restart kills the kernel's whole process group, and must not hit the launcher.
- It is a subreaper: when a guard is killed, the guard's processes become children of the launcher, which ends them.
- It stays until the caller is gone and the last guard too.

It keeps its copy of each guard's end of the channel until the guard has ended and what it left has been killed. The
caller treats end of file as "finished", so it must not see it earlier.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Iterator

from ..shared import debuglog
from ..shared.channel import Channel
from ..shared.processes import HELPER, can_list, children, describe
from ..shared.protocol import GIVE_UP_AFTER_S, Swept
from . import guard, killing, prctl, priority, signal_mask
from .attributes import Attributes
from .childwatch import ChildWatch
from .kin import Kin, cookie_of

_SWEEP_AGAIN_AFTER_S = 0.005


def main(control_fd: int, caller_fd: int) -> None:
    """Serve the caller that holds the other end of ``control_fd``; ``caller_fd`` is its pidfd, -1 for none."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD}:
        # Only SIGKILL ends a supervisor. Use handlers, not SIG_IGN: for the commands, execve(2) resets handled signals
        # to their default, whatever the caller had, but ignored signals would stay ignored.
        signal.signal(number, lambda _signum, _frame: None)
    prctl.stop_ignoring_internal_signals()
    signal_mask.block_signals()
    os.chdir("/")
    debuglog.open_from_environment()
    prctl.set_name(HELPER)
    adopts = prctl.become_subreaper()
    prctl.be_continued_at_death_of_parent()
    gc.freeze()  # what is here now is shared with every guard; don't let a collection touch it
    Launcher(socket.socket(fileno=_moved(control_fd)), _moved(caller_fd) if caller_fd >= 0 else None, adopts).serve()
    debuglog.note("launcher", "ends")


def _moved(fd: int) -> int:
    """Move ``fd`` to the lowest free number, not inheritable. It can be above 1023, which select(2) does not take."""
    moved = os.dup(fd)
    os.close(fd)
    return moved


def _write_traceback() -> None:
    """For the caller, which shows it: `GuardDied`. In one piece, because other helpers may write to the same file."""
    os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))


class Launcher:
    """Forks guards on request, and watches over them. ``_bereft`` are the channels of guards that were killed."""

    def __init__(self, control: socket.socket, caller_fd: int | None, adopts: bool) -> None:
        """``adopts`` tells that orphans become its children."""
        self._adopts = adopts
        self._control = control
        self._caller_fd = caller_fd
        self._attributes = Attributes.current()
        self._guards: dict[int, Channel] = {}
        self._children = ChildWatch()
        self._poller = select.poll()
        for watched in (self._children, control, caller_fd):
            if watched is not None:
                self._poller.register(watched, select.POLLIN)
        self._serving = True
        self._bereft: list[Channel] = []
        self._kin: list[Kin] = []
        """Ways to find what the killed guards have left, where it does not become the launcher's."""
        self._swept: set[int] = set()
        self._give_up_at = 0.0

    def serve(self) -> None:
        """Returns when the caller is gone, and all guards with all they supervised."""
        debuglog.note("launcher", "is ready")
        while self._serving or self._guards or self._bereft:
            self._wait()
            self._reap()
            if self._bereft:
                self._sweep()

    def _wait(self) -> None:
        for fd, _ in self._poller.poll(_SWEEP_AGAIN_AFTER_S * 1000 if self._bereft else None):
            if fd == self._children.fileno():
                self._children.clear()
            elif fd == self._caller_fd or not self._serving:
                self._stop_serving()
            else:
                self._serve_request()

    def _serve_request(self) -> None:
        """Fork a guard for the channel's end that has come. If none has, the caller has closed its side."""
        data, fds = b"", list[int]()
        with contextlib.suppress(ConnectionResetError):
            data, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            self._stop_serving()
            return
        if not fds:  # there was no number for it: the caller finds that its channel has no other end
            return
        os.set_inheritable(fds[0], False)
        channel = Channel(socket.socket(fileno=fds[0]))
        try:
            pid = os.fork()
        except OSError:  # no process or memory left: the command that wanted this guard fails, and no other
            _write_traceback()
            with contextlib.suppress(OSError):
                channel.send(Swept(0, [], certain=True))
            channel.close()
            return
        if pid:
            debuglog.note("launcher", f"has forked guard {pid}")
            self._guards[pid] = channel
            return
        status = 1
        try:
            self._control.close()
            self._children.close()
            for other in [*self._guards.values(), *self._bereft]:
                other.close()
            guard.main(channel, self._caller_fd, self._attributes)
            status = 0
        except BaseException:
            _write_traceback()
        finally:
            os._exit(status)

    def _stop_serving(self) -> None:
        """The caller is gone. The guards see that for themselves; the launcher stays for them."""
        if self._serving:
            debuglog.note("launcher", "the caller has let go")
            self._serving = False
            self._poller.unregister(self._control)
            if self._caller_fd is not None:
                self._poller.unregister(self._caller_fd)

    def _reap(self) -> None:
        """Collect what has ended. A guard that did not end by itself has left its processes to the launcher."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not pid:
                return
            if os.WIFSTOPPED(status):
                os.kill(pid, signal.SIGCONT)  # a stopped guard would keep no deadline
                continue
            channel = self._guards.pop(pid, None)
            if channel is None:
                continue
            if status:
                debuglog.note("launcher", f"guard {pid} has died, status {status}")
                priority.raise_priority()
                self._bereft.append(channel)
                if not self._adopts:
                    self._kin.append(Kin(cookie_of(pid)))
                self._give_up_at = time.monotonic() + GIVE_UP_AFTER_S
            else:
                channel.close()

    def _sweep(self) -> None:
        """One round of SIGKILL for all that is below the launcher and below none of its guards, and a report when
        nothing is left.

        No ladder here: how far the guard had come is unknown, and what it supervised must not go on without it.
        """
        self._swept.update(killing.signal_all(signal.SIGKILL, self._roots))
        if self._has_others() and time.monotonic() < self._give_up_at:
            return
        left = describe(killing.list_running(self._roots), known={})
        debuglog.note("launcher", f"sent SIGKILL to {sorted(self._swept)}, {len(left)} left")
        for channel in self._bereft:
            with contextlib.suppress(OSError):
                channel.send(Swept(len(self._swept), left, self._adopts and can_list()))
            channel.close()
        self._bereft.clear()
        priority.restore_priority(self._attributes.inheritance.niceness)
        self._swept.clear()
        self._kin.clear()

    def _has_others(self) -> bool:
        """Whether something of a killed guard's is left, or has ended and is not reaped yet.

        What has ended counts, because otherwise a chain of processes that fork and exit could be missed: each link is
        gone when the list is looked through, and the next one has become a child after it was read. But a link that is
        not reaped is still in the list, and only this process reaps it.
        """
        return any(pid not in self._guards for pid in children(os.getpid())) or any(kin.find() for kin in self._kin)

    def _roots(self) -> Iterator[int]:
        """What is below this process and below none of its guards: see `killing`."""
        yield from killing.running_children(self._guards)
        for kin in self._kin:
            yield from kin.find()
