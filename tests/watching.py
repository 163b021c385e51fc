"""Processes found in the whole process table by a mark that no other has, and waiting with a deadline."""

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
    """Poll until ``condition`` holds. False when it has not within ``deadline_s`` seconds."""
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
    """The file that a process too quick for the process table holds a lock on, and which it runs on for."""
    return Path(tempfile.gettempdir(), mark)


def is_locked(mark: str) -> bool:
    """Whether any process holds a lock on the file of ``mark``: flock(2) goes with the descriptor through a fork."""
    try:
        with open(lock_of(mark)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def survivors(mark: str) -> list[str]:
    """What is there of ``mark``, described, by both means."""
    found = [described(process) for process in marked(mark)]
    return [*found, "the holder of the lock"] if is_locked(mark) else found


def wait_until_gone(mark: str, deadline_s: float) -> list[str]:
    """What is still there of ``mark`` after ``deadline_s`` seconds at most: an empty list is what one hopes for."""
    wait_until(lambda: not survivors(mark), deadline_s)
    return survivors(mark)


def described(process: psutil.Process) -> str:
    """For messages: what it is, in which state, and whose child."""
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}, child of {process.ppid()}): {' '.join(process.cmdline())}"
    return f"{process.pid} (gone meanwhile)"


def kill_marked(mark: str) -> None:
    """End what a test has left, so that it harms no other test."""
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
