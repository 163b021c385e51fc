"""The output of a command with ``--idle`` or ``--log``: through pipes, and through this process."""

from __future__ import annotations

import contextlib
import os
import select
import time

from ..caller.plumbing import Log
from ..values import InputError
from .arguments import UsageError

_HELD_BYTES = 1 << 20
"""How much is kept for a reader that is slow. Then the command waits, as it would for the reader itself."""
_PIECE_BYTES = 4096
"""What a pipe takes at once when it is ready for any: PIPE_BUF, pipe(7). So no write blocks, and signals are handed on
however slow the reader is."""


class _Stream:
    """A pipe from the command, and the descriptor that what comes through it is for."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.source, self.far_end = os.pipe()
        self.held = bytearray()
        self.has_ended = False
        self.has_reader = True

    def read(self) -> bytes:
        """What has come. At end of file the pipe is closed."""
        try:
            data = os.read(self.source, 1 << 16)
        except BlockingIOError:
            return b""
        if not data:
            os.close(self.source)
            self.has_ended = True
        if self.has_reader:
            self.held += data
        return data

    def write(self, size_bytes: int) -> None:
        try:
            del self.held[: os.write(self.target, self.held[:size_bytes])]
        except OSError:
            self.has_reader = False  # go on reading: only the command decides what a closed output means to it
            self.held.clear()


class Relay:
    """The near ends stay in the parent; `connect` is for the command."""

    def __init__(self, log: str | None, idle_s: float) -> None:
        """Raises UsageError if the log can't be written."""
        self.notice = ""
        try:
            self._log = None if log is None else Log(log, False, contextlib.ExitStack())
        except InputError as error:
            raise UsageError(error.spelled("--log")) from None
        self._streams = [_Stream(1), _Stream(2)]
        self._idle_s = idle_s
        self._silent_at = time.monotonic() + idle_s

    def connect(self) -> None:
        """In the command: write to here."""
        for stream in self._streams:
            os.dup2(stream.far_end, stream.target)

    def hand_over(self) -> None:
        """In the parent: the command has its ends."""
        for stream in self._streams:
            os.close(stream.far_end)
            os.set_blocking(stream.source, False)

    def watch(self, poller: select.poll) -> None:
        """Wait for what can be done now."""
        for stream in self._streams:
            for fd, event, is_wanted in (
                (stream.source, select.POLLIN, not stream.has_ended and len(stream.held) < _HELD_BYTES),
                (stream.target, select.POLLOUT, bool(stream.held)),
            ):
                if is_wanted:
                    poller.register(fd, event)
                else:
                    with contextlib.suppress(KeyError):
                        poller.unregister(fd)

    def serve(self, ready: int) -> None:
        """Read from that descriptor, or write to it."""
        for stream in self._streams:
            if ready == stream.target and stream.held:
                stream.write(_PIECE_BYTES)
            elif ready == stream.source and not stream.has_ended and (data := stream.read()):
                self._note(data)

    def _note(self, data: bytes) -> None:
        self._silent_at = time.monotonic() + self._idle_s
        if self._log is not None and not self._log.write(memoryview(data)):
            self.notice = f"the log {self._log.path} is incomplete: {self._log.error}"

    def silent_in(self, now: float) -> float:
        """Seconds until the command has been silent for too long. It is not silent while its reader is slow."""
        if any(len(stream.held) >= _HELD_BYTES for stream in self._streams):
            return self._idle_s
        return self._silent_at - now

    def note_silence(self) -> None:
        """It has been told, and is told once."""
        self._silent_at = float("inf")

    def finish(self) -> None:
        """The command is over: show what is left in the pipes."""
        for stream in self._streams:
            while not stream.has_ended and (data := stream.read()):
                self._note(data)
            while stream.held:
                stream.write(_HELD_BYTES)
