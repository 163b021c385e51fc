"""The ends of child processes as a descriptor to wait for, together with others."""

from __future__ import annotations

import contextlib
import os
import signal


class ChildWatch:
    """Its descriptor is readable when a child has ended or stopped (SIGCHLD), or another thread has called `wake`."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)

    def fileno(self) -> int:
        return self._reading

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: the wait ends anyway
            os.write(self._writing, b"\0")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)
