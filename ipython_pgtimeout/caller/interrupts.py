"""The stop button and Ctrl-C while a command runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from io import FileIO
from types import FrameType


class WakeUp:
    """Makes a descriptor readable at each signal that Python handles, so that a wait for descriptors ends.

    Python runs a handler only between two of its instructions. A signal that comes after Python has looked for signals
    and before the wait begins would go unnoticed for as long as that takes, and an event loop does not look at what a
    handler has asked of it. The bytes of signal.set_wakeup_fd, which Python allows on the main thread only, come at
    once.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._previous = -1
        self._ends: tuple[FileIO, FileIO] | None = None

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        reading, writing = os.pipe()
        ends = FileIO(reading), FileIO(writing, "w")
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._ends = ends
        self._previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def remove(self) -> None:
        if self._ends is not None:
            try:
                current = signal.set_wakeup_fd(self._previous)
            except OSError:  # closed meanwhile, with its event loop
                current = signal.set_wakeup_fd(-1)
            if current != self._ends[1].fileno():  # set meanwhile by other code, such as asyncio's add_signal_handler
                signal.set_wakeup_fd(current)
            self.clear()  # what came since the last look is passed on, too
            for end in self._ends:
                end.close()
            self._ends = None

    def fileno(self) -> int:
        """-1 if it is not installed."""
        return -1 if self._ends is None else self._ends[0].fileno()

    def clear(self) -> None:
        """Read the bytes of the signals, and pass them on to the previous wake-up descriptor, if there is one."""
        if self._ends is None or self._pid != os.getpid():  # a forked child shares its parent's pipe
            return
        while signals := self._ends[0].read(4096):
            if self._previous >= 0:
                with contextlib.suppress(OSError):
                    os.write(self._previous, signals)


class Interrupts:
    """SIGINT while a command runs: counted and passed on, never raised in the middle of our work.

    The previous handler is restored at the end. Off the main thread Python allows no handler, and there a command
    ends by its deadline. An ignored SIGINT stays ignored. Poll `wake_up` with the rest.
    """

    def __init__(self) -> None:
        self.count = 0
        self._pid = os.getpid()
        self._pass_on: Callable[[int], None] | None = None
        self._previous: Callable[[int, FrameType | None], object] | None = None
        self.wake_up = WakeUp()

    def __enter__(self) -> Interrupts:
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(previous):
            try:
                # Noted before it is done: a thread may fork a child at any moment, which is to restore the handler.
                self._previous = previous
                _installed.append(self)
                # The handler first: an interrupt from now on is counted, and can't be raised between the next steps.
                signal.signal(signal.SIGINT, self._receive)
                self.wake_up.install()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wake_up.remove()
        finally:  # whatever the handler of another signal has raised
            try:
                self._restore_handler()  # last: from now on an interrupt is raised
            except BaseException:
                # signal.signal runs the handlers of other signals first, and does nothing if one of them raises.
                self._restore_handler()
                raise

    def pass_on_to(self, stop: Callable[[int], None]) -> None:
        """Call ``stop`` at each interrupt with their number so far, and now if there was one already."""
        self._pass_on = stop
        if self.count:
            stop(self.count)

    def _restore_handler(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
            _installed.remove(self)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self._pid != os.getpid():  # a forked child that has not come to `_restore_in_child` yet
            if self._previous is not None:
                self._previous(signum, frame)
            return
        self.count += 1
        if self._pass_on is not None:
            self._pass_on(self.count)


_installed: list[Interrupts] = []


def _restore_in_child() -> None:
    """In a forked child: a command runs in the parent, and the child has the caller's own handler."""
    for interrupts in _installed[::-1]:
        interrupts.__exit__()


os.register_at_fork(after_in_child=_restore_in_child)
