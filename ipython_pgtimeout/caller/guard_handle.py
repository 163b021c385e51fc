"""A guard as the caller knows it: the channel to it, and a safe way to signal it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess

from ..shared.channel import Channel
from ..shared.processes import children
from ..shared.protocol import Message, Ready
from ..shared.walk import Walk


class GuardHandle:
    """One guard, or one that is soon forked. ``pid`` is 0 until it has said that it is ready. ``launcher`` is the
    process that forks it, and whose rights it has."""

    def __init__(self, sock: socket.socket, launcher: subprocess.Popen[bytes]) -> None:
        self.channel = Channel(sock)
        self.launcher = launcher
        self.pid = 0
        self._pidfd = -1

    def receive(self) -> list[Message]:
        """What it says about its command. Raises EOFError when it has died."""
        messages = self.channel.receive()
        for message in messages:
            if isinstance(message, Ready):
                self._note_pid(message.pid)
        return [message for message in messages if not isinstance(message, Ready)]

    def is_waiting(self) -> bool:
        """Of a guard without a command: whether it lives. All it writes then is that it is ready."""
        try:
            while is_readable(self.channel):
                self.receive()
        except EOFError:
            return False
        return True

    def signal(self, number: int) -> None:
        """By its pidfd, where there is one: its pid may have become another's."""
        with contextlib.suppress(OSError):
            if self._has_pidfd():
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.pid:
                os.kill(self.pid, number)

    def kill_with_descendants(self) -> int:
        """SIGKILL to everything below it, and then to itself, for a guard that does nothing any more. Returns how many
        processes of its command that were.

        Repeated, because they may go on forking.
        """
        killed: set[int] = set()
        for _ in range(10):
            with Walk(children(self.pid) if self.pid else []) as walk:
                running = list(walk)
                for pid in running:
                    with contextlib.suppress(OSError):
                        walk.signal_process(pid, signal.SIGKILL)
            if not running:
                break
            killed.update(running)
        self.signal(signal.SIGKILL)
        return len(killed)

    def hang_up(self) -> None:
        """End the connection, for every process that holds a copy of it: the guard ends what it supervises."""
        self.channel.hang_up()
        self.close()

    def close(self) -> None:
        """Close this process's copy of the connection."""
        self.channel.close()
        pidfd, self.pid = self._pidfd if self._has_pidfd() else -1, 0
        self._pidfd = -1
        if pidfd >= 0:
            os.close(pidfd)

    def _note_pid(self, pid: int) -> None:
        self.pid = pid
        with contextlib.suppress(OSError, AttributeError):  # gone already, no descriptor left, or not Linux
            self._pidfd = os.pidfd_open(pid)

    def _has_pidfd(self) -> bool:
        """Whether the descriptor still is what it was: see `descriptors`. Before Linux 6.9 all pidfds are one file by
        their identity, but proc(5) tells whose each is, -1 for a process that has been waited for."""
        if self._pidfd < 0:
            return False
        try:
            with open(f"/proc/self/fdinfo/{self._pidfd}") as info:
                return any(line in (f"Pid:\t{self.pid}\n", "Pid:\t-1\n") for line in info)
        except OSError:
            return False


def is_readable(*sockets: Channel | socket.socket) -> bool:
    """Whether something has come to one of them, or its other side is gone."""
    poller = select.poll()  # not select(2), which takes no descriptor above 1023
    for each in sockets:
        poller.register(each, select.POLLIN)
    return bool(poller.poll(0))


def wait_until_writable(socket: Channel, timeout_s: float) -> bool:
    """False if it still takes nothing after that time."""
    poller = select.poll()
    poller.register(socket, select.POLLOUT)
    return bool(poller.poll(timeout_s * 1000))
