"""The stop button and Ctrl-C while a command runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from io import FileIO
from types import FrameType

from .protocol import Channel, Interrupt


class Interrupts:
    """SIGINT while a command runs: counted and passed on to its guard, never raised in the middle of our work.

    The handler of before is put back at the end. Off the main thread Python allows no handler, and there a
    command ends by its deadline. An ignored SIGINT stays ignored.

    Python runs a handler only between two of its instructions. A signal that comes when it has looked for
    signals and poll(2) has not begun to wait would go unnoticed for as long as the wait takes. So a byte
    comes through a pipe as well, at once, by signal.set_wakeup_fd: poll `fileno` with the rest.
    """

    def __init__(self) -> None:
        self.count = 0
        self._channel: Channel | None = None
        self._previous: Callable[[int, FrameType | None], object] | int | None = None
        self._previous_wakeup = -1
        self._wakeup: tuple[FileIO, FileIO] | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._received)
            reading, writing = os.pipe()
            self._wakeup = FileIO(reading), FileIO(writing, "w")
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
            self._previous_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._previous_wakeup)
            for end in self._wakeup:
                end.close()
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def fileno(self) -> int:
        """Readable when there was a signal; -1 where we have no handler."""
        return -1 if self._wakeup is None else self._wakeup[0].fileno()

    def clear(self) -> None:
        """The signals' bytes have been seen. What another had a wake-up descriptor for is passed on to it."""
        if self._wakeup is not None and (signals := self._wakeup[0].read(4096)) and self._previous_wakeup >= 0:
            with contextlib.suppress(OSError):
                os.write(self._previous_wakeup, signals)

    def forward_to(self, channel: Channel | None) -> None:
        """From now on; what has come before is sent now. Only after the request, which it must not cut in two,
        and only until the guard is given back: then it is another command's."""
        self._channel = channel
        if self.count:
            self._send()

    def _received(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._send()

    def _send(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(Interrupt(self.count))
