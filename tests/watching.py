"""Finding processes in the whole process table by a unique mark, and waiting with a deadline."""

from __future__ import annotations

import contextlib
import fcntl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = Path(__file__).parent / "programs"
POLL_S = 0.02


def wait_until(condition: Callable[[], object], deadline_s: float) -> bool:
    """Poll until ``condition`` holds. Returns False if it does not within ``deadline_s`` seconds."""
    until = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have ``mark`` in their arguments or their environment. Zombies have neither any more."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and _has(process, mark):
                found.append(process)
    return found


def _has(process: psutil.Process, mark: str) -> bool:
    if any(mark in argument for argument in process.cmdline()):
        return True
    with contextlib.suppress(psutil.AccessDenied):
        return any(mark in value for value in process.environ().values())
    return False


def lock_of(mark: str) -> Path:
    """The lock file of ``mark``, for a program whose processes are gone before a walk of the process table finds them.

    The program holds a lock on the file while it runs, and ends when the file is removed.
    """
    return Path(tempfile.gettempdir(), mark)


def is_locked(mark: str) -> bool:
    """Whether any process holds a lock on the file of ``mark``. A forked child inherits the lock: flock(2)."""
    try:
        with open(lock_of(mark)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def survivors(mark: str) -> list[str]:
    """Descriptions of what still runs of ``mark``: the marked processes, and the holder of the lock."""
    found = [describe(process) for process in marked(mark)]
    return [*found, "the holder of the lock"] if is_locked(mark) else found


def wait_until_gone(mark: str, deadline_s: float) -> list[str]:
    """Wait ``deadline_s`` seconds at most until nothing of ``mark`` runs. Returns what still runs then."""
    wait_until(lambda: not survivors(mark), deadline_s)
    return survivors(mark)


def describe(process: psutil.Process) -> str:
    """For messages: pid, state, parent and command line."""
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}, child of {process.ppid()}): {' '.join(process.cmdline())}"
    return f"{process.pid} (gone meanwhile)"


def kill_marked(mark: str) -> None:
    """Kill what a test has left, so that it does not disturb other tests."""
    lock_of(mark).unlink(missing_ok=True)
    while left := marked(mark):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()


def program(name: str, mark: str) -> str:
    """The command line of one of our misbehaving programs: its interpreter, its path, the mark, the lock's path."""
    path = PROGRAMS / name
    interpreter = f"{sys.executable} -S -E" if path.suffix == ".py" else "bash"
    return f"{interpreter} {path} {mark} {lock_of(mark)}"
