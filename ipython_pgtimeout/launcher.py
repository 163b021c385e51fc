"""The fork server, in a process of its own: one per kernel, one guard per channel it is handed.

- A guard is forked from here, so a command does not pay for the start of a Python.
- It is in its own session: a kernel restart kills the kernel's whole process group, and must not hit us.
- It is a subreaper: when a guard is killed, the guard's processes become our children, and we end them.
- It stays until the kernel is gone and the last guard too.

It keeps its copy of each guard's end of the channel until the guard has ended and what it left has been
swept. So the kernel, which takes end of file for the end of the matter, is never told too early.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time

from . import guard, processes
from .protocol import Channel, Swept

_GIVE_UP_AFTER_S = 3.0
_SWEEP_AGAIN_AFTER_S = 0.005


def main(control_fd: int, kernel_fd: int) -> None:
    """Serve the kernel that holds the other end of ``control_fd``; ``kernel_fd`` is its pidfd, -1 for none."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD}:
        # Only SIGKILL ends a supervisor. Handlers, not SIG_IGN: execve(2) sets what is handled back to the
        # default for the commands, whatever the kernel had, and leaves ignored what is ignored.
        signal.signal(number, lambda _signum, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.chdir("/")
    processes.set_name(processes.HELPER)
    processes.become_subreaper()
    gc.freeze()  # what is here now is shared with every guard; don't let a collection touch it
    Launcher(socket.socket(fileno=_moved(control_fd)), _moved(kernel_fd) if kernel_fd >= 0 else None).serve()


def _moved(fd: int) -> int:
    """Not inheritable, and under the lowest number there is: the kernel's can be beyond 1023, where select(2) ends."""
    moved = os.dup(fd)
    os.close(fd)
    return moved


class Launcher:
    def __init__(self, control: socket.socket, kernel_fd: int | None) -> None:
        self._control = control
        self._kernel_fd = kernel_fd
        self._guards: dict[int, Channel] = {}
        self._children = processes.ChildWatch()
        self._poller = select.poll()
        for watched in (self._children, control, kernel_fd):
            if watched is not None:
                self._poller.register(watched, select.POLLIN)
        self._serving = True
        self._bereft: list[Channel] = []
        self._swept: set[int] = set()
        self._give_up_at = 0.0

    def serve(self) -> None:
        while self._serving or self._guards or self._bereft:
            self._wait()
            self._reap()
            if self._bereft:
                self._sweep()

    def _wait(self) -> None:
        for fd, _ in self._poller.poll(_SWEEP_AGAIN_AFTER_S * 1000 if self._bereft else None):
            if fd == self._children.fileno():
                self._children.clear()
            elif fd == self._kernel_fd or not self._serving:
                self._kernel_is_gone()
            else:
                self._serve_request()

    def _serve_request(self) -> None:
        """Fork a guard for the end of a channel that has come; the kernel has closed its side if none has."""
        data, fds = b"", list[int]()
        with contextlib.suppress(ConnectionResetError):
            data, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            self._kernel_is_gone()
            return
        os.set_inheritable(fds[0], False)
        channel = Channel(socket.socket(fileno=fds[0]))
        pid = os.fork()
        if pid:
            self._guards[pid] = channel
            return
        status = 1
        try:
            self._control.close()
            self._children.close()
            for other in [*self._guards.values(), *self._bereft]:
                other.close()
            guard.main(channel, self._kernel_fd)
            status = 0
        finally:
            os._exit(status)

    def _kernel_is_gone(self) -> None:
        """The guards see it for themselves. We stay for them."""
        if self._serving:
            self._serving = False
            self._poller.unregister(self._control)
            if self._kernel_fd is not None:
                self._poller.unregister(self._kernel_fd)

    def _reap(self) -> None:
        """Collect what has ended. A guard that did not end by itself has left us its processes."""
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
                self._bereft.append(channel)
                self._give_up_at = time.monotonic() + _GIVE_UP_AFTER_S
            else:
                channel.close()

    def _sweep(self) -> None:
        """One round of SIGKILL for all that is below us and below none of our guards; a word when it is over.

        No ladder here: how far the guard had come is unknown, and what it supervised must not go on without.
        """
        self._swept.update(process.pid for process in self._orphans())
        processes.signal_groups(processes.descendants(os.getpid(), but=self._guards), signal.SIGKILL)
        left = self._orphans()
        if left and time.monotonic() < self._give_up_at:
            return
        for channel in self._bereft:
            with contextlib.suppress(OSError):
                channel.send(Swept(len(self._swept), left))
            channel.close()
        self._bereft.clear()
        self._swept.clear()

    def _orphans(self) -> list[processes.Process]:
        return processes.alive(processes.descendants(os.getpid(), but=self._guards))
