"""The signals that launcher and guards do not take: all but SIGCHLD.

A command can send signals to its guard. Real-time signals queue up: four loops that send one took all of a guard's
time, so that it kept no deadline. A blocked signal takes none. But a command must start with nothing blocked.

By the C functions, because `signal.pthread_sigmask` takes 0.05 ms to return the previous mask as a set.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Iterator

_SIGSET_BYTES = 128
"""Of a sigset_t with glibc and musl. Other systems have a smaller one."""
_libc = ctypes.CDLL(None)
_none = ctypes.create_string_buffer(_SIGSET_BYTES)
_most = ctypes.create_string_buffer(_SIGSET_BYTES)
_libc.sigemptyset(_none)
_libc.sigfillset(_most)
_libc.sigdelset(_most, signal.SIGCHLD)


def block_signals() -> None:
    """From now on, in this thread, and in those and in the processes that it starts."""
    _libc.pthread_sigmask(signal.SIG_SETMASK, _most, None)


@contextlib.contextmanager
def unblocked() -> Iterator[None]:
    """No signal is blocked in here. What has come meanwhile is handled first."""
    _libc.pthread_sigmask(signal.SIG_SETMASK, _none, None)
    try:
        yield
    finally:
        block_signals()
