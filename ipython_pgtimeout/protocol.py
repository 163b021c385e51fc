"""The messages between the kernel, the launcher and a guard, and the channel that carries them.

Only plain values travel here; nothing in this room decides anything. Frames are pickled because both
ends are this package, started by the same user, and the socket pair was never reachable by anyone else.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Sequence
from typing import NamedTuple

from .inheritance import Inheritance
from .lives import Life
from .processes import Process

_HEADER_BYTES = 8
_MAX_FDS = 8
_READ_BYTES = 1 << 16


class Request(NamedTuple):
    """Kernel to guard: run this. Comes with the descriptors stdin, stdout, stderr, cwd and, to be drained
    for processes that are left running, the near ends of what they write to. With ``terminal``, stdout is
    one, to be the session's controlling terminal. ``started_s`` is when the user's call began, by the clock
    that all processes share: CLOCK_MONOTONIC, clock_gettime(2). The deadline counts from there."""

    started_s: float
    program: bytes
    argv: list[bytes]
    environment: dict[bytes, bytes]
    inheritance: Inheritance
    timeout_s: float
    grace_s: float
    signal: int
    leftovers: str
    terminal: bool


class Interrupt(NamedTuple):
    """Kernel to guard: the user has pressed stop ``presses`` times by now.

    A total, not an increment: the signal handler that sends it may interrupt itself half-way, and a
    message sent twice must not count twice.
    """

    presses: int


class Idle(NamedTuple):
    """Kernel to guard: the command has been silent for too long. Only the kernel sees its output."""


class Ask(NamedTuple):
    """Kernel to guard: how is it going? The guard speaks of that only when asked: a kernel that does not
    listen must not make it wait."""


class Status(NamedTuple):
    """Guard to kernel, when asked: how the command is doing now. ``signal`` is the last rung of the ladder
    that was taken, and ``rung_left_s`` the time until the next."""

    returncode: int | None
    signal: str
    rung_left_s: float
    names: list[str]
    processes: int
    cpu_s: float
    rss_bytes: int


class Waiting(NamedTuple):
    """Guard to kernel: the shell has exited, these processes remain (the first few of ``total``)."""

    returncode: int
    processes: list[Process]
    total: int


class Signalled(NamedTuple):
    """One signal of the ladder: seconds since the start, which signal, and the pids it was sent to."""

    at_s: float
    signal: str
    pids: list[int]


class Done(NamedTuple):
    """Guard to kernel: the command is over. ``survivors`` are the processes that are still there; ``error``
    says why the shell could not be started; a guard that ``is_free`` waits for the next request."""

    pid: int
    returncode: int | None
    reason: str
    duration_s: float
    cpu_s: float
    max_rss_bytes: int
    signals: list[Signalled]
    survivors: list[Process]
    processes: list[Life]
    error: str
    is_free: bool


class Swept(NamedTuple):
    """Launcher to kernel: the command's guard was killed, and I ended what it left behind but for ``survivors``."""

    killed: int
    survivors: list[Process]


Message = Request | Interrupt | Idle | Ask | Status | Waiting | Done | Swept


class Channel:
    """A stream socket that carries whole messages, and descriptors with them."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.fds: list[int] = []
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        body = pickle.dumps(message)
        frame = memoryview(len(body).to_bytes(_HEADER_BYTES, "big") + body)
        sent = socket.send_fds(self.socket, [frame], fds) if fds else 0
        self.socket.sendall(frame[sent:])

    def receive(self) -> list[Message]:
        """The messages one read completes, perhaps none; descriptors are added to ``fds``.

        Raises EOFError when the other side is gone.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, _READ_BYTES, _MAX_FDS)
        except ConnectionResetError:
            data, fds = b"", []
        for fd in fds:
            # recvmsg hands descriptors over inheritable; the command must get none but 0, 1 and 2.
            os.set_inheritable(fd, False)
        self.fds += fds
        if not data:
            raise EOFError("the other side closed the channel")
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if len(self._buffer) < end:
                break
            messages.append(pickle.loads(self._buffer[_HEADER_BYTES:end]))
            del self._buffer[:end]
        return messages

    def hang_up(self) -> None:
        """Close it, for all who hold a copy of this end: a child that the kernel has forked would keep it open."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
