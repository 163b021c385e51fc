"""Processes found in the whole process table by a mark that no other has, and waiting with a deadline."""

from __future__ import annotations

import contextlib
import sys
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


def wait_until_gone(mark: str, deadline_s: float) -> list[psutil.Process]:
    """Those marked with ``mark`` that are still there after ``deadline_s`` seconds: none is what one hopes for."""
    wait_until(lambda: not marked(mark), deadline_s)
    return marked(mark)


def described(processes: list[psutil.Process]) -> str:
    """For messages: what they are and to whom they belong."""
    lines = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            lines.append(f"{process.pid} (parent {process.ppid()}, {process.status()}): {process.cmdline()}")
    return "\n".join(lines) or "none"


def kill_marked(mark: str) -> int:
    """End what a test has left, so that it harms no other test. The count of what was there."""
    killed: set[int] = set()
    while left := marked(mark):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
                killed.add(process.pid)
    return len(killed)


def program(name: str, mark: str, *arguments: object) -> str:
    """The command line of one of our misbehaving programs: its interpreter, its path, the mark, its arguments."""
    path = PROGRAMS / name
    interpreter = f"{sys.executable} -S -E" if path.suffix == ".py" else "bash"
    return " ".join([interpreter, str(path), mark, *map(str, arguments)])
