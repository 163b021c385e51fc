"""The guard's connection to the caller, which can end in two ways: by end of file, and by the caller's death."""

from __future__ import annotations

import contextlib
from typing import Protocol

from ..shared import debuglog
from ..shared.protocol import Message


class Conversation(Protocol):
    """What a link needs of a `Channel`, where each method is explained."""

    fds: list[int]

    @property
    def has_unsent(self) -> bool: ...
    def fileno(self) -> int: ...
    def receive(self) -> list[Message]: ...
    def send(self, message: Message) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Link:
    """The channel, and a pidfd of the caller: a child that the caller has forked may hold its end of the channel open,
    so that end of file alone would not tell of its death."""

    def __init__(self, channel: Conversation, caller_fd: int | None) -> None:
        self._channel: Conversation | None = channel
        self._caller_fd = caller_fd

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    @property
    def readable(self) -> list[int]:
        """The descriptors to wait for. When one is readable, `receive`."""
        if self._channel is None:
            return []
        return [self._channel.fileno()] if self._caller_fd is None else [self._channel.fileno(), self._caller_fd]

    @property
    def writable(self) -> list[int]:
        """The descriptor to wait for until it takes more. Then `flush`."""
        return [self._channel.fileno()] if self._channel is not None and self._channel.has_unsent else []

    def receive(self, ready: int) -> list[Message]:
        """What has come through ``ready``, one of the descriptors. If that was the caller's end, the link is closed."""
        if self._channel is None:
            return []
        if ready != self._caller_fd:
            with contextlib.suppress(EOFError):
                return self._channel.receive()
        self.close()
        return []

    def take_fds(self) -> list[int]:
        """The descriptors that have come with the messages. The code that takes them must close them."""
        assert self._channel is not None
        taken, self._channel.fds = self._channel.fds, []
        return taken

    def send(self, message: Message) -> None:
        """Never blocks: what the caller does not read now is kept. Does nothing if the caller is gone."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(message)

    def flush(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.flush()

    def close(self) -> None:
        if self._channel is not None:
            debuglog.note("guard", "the caller has let go")
            self._channel.close()
            self._channel = None
