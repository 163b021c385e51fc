"""The debug log: what caller, launcher and guard did, and when, as lines in one file.

Off unless the environment variable PGTIMEOUT_DEBUG names a file (or ``%config PgTimeout.debug`` does). The lines
hold pids, times, signals and sizes; never a script, its output or an environment, which can be secret.
"""

from __future__ import annotations

import contextlib
import os
import time

from .descriptors import Kept

VARIABLE = "PGTIMEOUT_DEBUG"
_file = Kept()
_path = ""


def open_log(path: str) -> None:
    """Append to ``path`` from now on, which only its owner can read; an empty path turns the log off.

    Raises OSError or ValueError if the file can't be written.
    """
    global _file, _path
    opened = Kept()
    if path:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        opened = Kept(os.open(os.path.expanduser(path), flags, 0o600))
    _file.close()
    _file, _path = opened, path


def path() -> str:
    """The file that is written to, "" for none."""
    return _path


def note(who: str, what: str) -> None:
    """Write one line. A log that can't be written, on a full disk for example, delays and breaks nothing."""
    if _file.fd >= 0 and _file.is_ours():
        line = f"{time.monotonic():.6f} {who}[{os.getpid()}] {what}\n"
        with contextlib.suppress(OSError):
            os.write(_file.fd, line.encode("utf-8", "backslashreplace"))


def open_from_environment() -> None:
    """Open the log that the environment names, at the start of a process. The caller sets it for helper processes."""
    with contextlib.suppress(OSError, ValueError):
        open_log(os.environ.get(VARIABLE, ""))
