"""The stop button and Ctrl-C while a command runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType

from .protocol import Channel, Interrupt


class Interrupts:
    """SIGINT while a command runs: counted and passed on to its guard, never raised in the middle of our work.

    The handler of before is put back at the end. Off the main thread Python allows no handler, and there a
    command ends by its deadline. An ignored SIGINT stays ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._channel: Channel | None = None
        self._previous: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel = None
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def forward_to(self, channel: Channel) -> None:
        """From now on; what has come before is sent now. Only after the request, which it must not cut in two."""
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
