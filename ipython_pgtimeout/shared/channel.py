"""A socket that carries whole messages and descriptors, and on which sending never blocks.

Frames are pickled because both ends are this package, started by the same user, and the socket pair was
never reachable by anyone else.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from collections import deque
from collections.abc import Sequence

from .descriptors import identity
from .protocol import Message

_HEADER_BYTES = 8
_MAX_FDS = 8
_READ_BYTES = 1 << 16


class UnreadError(EOFError):
    """The other side is gone, and had not read all that was sent to it."""


class Channel:
    """One end of a stream socket.

    What the socket does not take at once is kept in order and sent by `flush`, when the socket is writable:
    a side that does not read must not hold the other side up.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._identity = identity(sock.fileno())
        self.fds: list[int] = []
        self._received = bytearray()
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        return self.socket.fileno()

    def is_ours(self) -> bool:
        """Whether the descriptor still is this socket: see `descriptors`."""
        return identity(self.fileno()) == self._identity

    @property
    def has_unsent(self) -> bool:
        """Whether `flush` is to be called when the socket is writable."""
        return bool(self._unsent)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message, or as much of it as fits now. From any thread, and from a signal handler.

        The descriptors must stay open until the message is sent. Raises OSError when the other side is gone.
        """
        body = pickle.dumps(message)
        self._unsent.append((memoryview(len(body).to_bytes(_HEADER_BYTES, "big") + body), fds))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now. Raises OSError when the other side is gone."""
        # The holder of the lock also sends what others append. Nothing waits for the lock: a signal handler that has
        # interrupted the holder would wait for ever. The loop finds frames that come after the holder's last check.
        while self._unsent and self._sending.acquire(blocking=False):
            try:
                self._send_unsent()
            except BlockingIOError:
                return
            finally:
                self._sending.release()

    def _send_unsent(self) -> None:
        while self._unsent:
            frame, fds = self._unsent[0]
            sent = socket.send_fds(self.socket, [frame], fds) if fds else self.socket.send(frame)
            if sent == len(frame):
                self._unsent.popleft()
            else:
                self._unsent[0] = frame[sent:], ()

    def receive(self) -> list[Message]:
        """The messages that one read completes, perhaps none; descriptors are added to ``fds``.

        Raises EOFError when the other side is gone.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, _READ_BYTES, _MAX_FDS)
        except BlockingIOError:
            return []
        except ConnectionResetError as error:  # from Linux, after all that the other side has sent: unix(7)
            raise UnreadError("the other side closed the channel unread") from error
        for fd in fds:
            # recvmsg(2) hands descriptors over inheritable; a command must get none but 0, 1 and 2.
            os.set_inheritable(fd, False)
        self.fds += fds
        if not data:
            raise EOFError("the other side closed the channel")
        self._received += data
        messages: list[Message] = []
        while len(self._received) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._received[:_HEADER_BYTES], "big")
            if len(self._received) < end:
                break
            messages.append(pickle.loads(self._received[_HEADER_BYTES:end]))
            del self._received[:end]
        return messages

    def hang_up(self) -> None:
        """Close the connection for every process that holds a copy of this end, such as a forked child."""
        if self.is_ours():
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Close this copy of this end, and the received descriptors that nobody has taken."""
        if self.is_ours():
            self.socket.close()
        else:
            self.socket.detach()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
