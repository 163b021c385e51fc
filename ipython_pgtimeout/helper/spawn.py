"""Starting the shell, in the guard: leader of its own session, with the caller's attributes and not the guard's."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
import termios
from collections.abc import Iterator

from ..shared.inheritance import Inheritance
from ..shared.protocol import Request
from .signal_mask import unblocked


def spawn(request: Request, mine: Inheritance, stdin: int, stdout: int, stderr: int, cwd: int) -> int:
    """Start the shell, with default signal dispositions and only descriptors 0, 1 and 2. Returns its pid.

    The four descriptors are closed. ``mine`` are the attributes that this process restores. Raises OSError, ValueError
    or SubprocessError if the shell can't be started.

    Not by posix_spawn(3): it takes 0.04 ms less, but glibc's leaves two signals of its own ignored.
    """
    try:
        os.fchdir(cwd)
        with request.inheritance.assumed(mine), unblocked(), _preferred_by_oom_killer(request.limits.oom_score_adj):
            shell = subprocess.Popen(
                request.argv,
                executable=request.program,
                env=request.environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                # Safe here, where there is one thread; and only a session leader can take a terminal.
                preexec_fn=_control_terminal if request.pty else None,
            )
    finally:
        os.chdir("/")  # don't keep the command's directory busy
        for fd in (stdin, stdout, stderr, cwd):
            os.close(fd)
    shell.returncode = 0  # the guard waits for all its children itself; Popen must not
    return shell.pid


@contextlib.contextmanager
def _preferred_by_oom_killer(score: int) -> Iterator[None]:
    """Where the system has no memory left, it is to end what is started in here, and not the notebook: proc(5),
    oom_score_adj. This process is preferred itself meanwhile, so that the first instruction of the shell is, too."""
    own = _own_oom_score()
    if own is None or score <= int(own[1]):
        yield
        return
    file, mine = own
    with contextlib.suppress(OSError):
        os.pwrite(file, str(score).encode(), 0)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.pwrite(file, mine, 0)


@functools.cache
def _own_oom_score() -> tuple[int, bytes] | None:
    """The file that holds this process's score, and what that is. It stays open: to open it each time would take longer
    than the rest. None where there is none, or where it can't be written."""
    with contextlib.suppress(OSError):
        file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        return file, os.read(file, 16)
    return None


def _control_terminal() -> None:
    """Make stdout the controlling terminal of the new session: tty_ioctl(4), TIOCSCTTY."""
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)
