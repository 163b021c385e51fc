"""Kill a process exactly when another one makes its n-th call into C, by `sys.setprofile`.

A process can change what others see only by a system call, and makes one only in a C function. So there is one point
before each call of a C function that may make one, which is also the point after the call before it.

Runs in the caller, in the launcher and, because both forks inherit it, in the guard and in the child of the guard that
becomes the shell, if Python runs there at all (`preexec_fn`). Only their main threads are watched.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
from types import FrameType
from typing import Any

CALLER, LAUNCHER, GUARD, SHELL, EXECVE = range(5)
"""Whose steps are counted. SHELL is Python in the child of a guard, EXECVE the one step that makes a shell of it."""
_COUNTED, _POINT, _VICTIM, _COUNT, _KILLED = range(5)
_PIDS, _WAITING, _SEEN = 8, 16, 24
_SIZE = 512
_PURE_MODULES = frozenset(
    {"builtins", "collections", "contextlib", "itertools", "time", "sys", "array"}
    | {"_abc", "_functools", "_struct", "_pickle", "_thread"}
)
_PURE_NAMES = frozenset({"fspath", "fileno", "getpid", "CMSG_LEN", "waitstatus_to_exitcode"})
"""What makes no system call that another process could notice: modules of functions or of types, and functions."""


class Board:
    """Memory shared by all processes: who counts, at which call whom to kill, and what has become of it."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            file.truncate(_SIZE * 8)
            self._cells = memoryview(mmap.mmap(file.fileno(), _SIZE * 8)).cast("q")

    def arm(self, counted: int, point: int, victim: int) -> None:
        """Kill ``victim`` at that call of ``counted``; with point 0 only count."""
        self._cells[_POINT], self._cells[_VICTIM] = point, victim
        self._cells[_COUNT] = self._cells[_KILLED] = 0
        self._cells[_COUNTED] = counted

    def disarm(self) -> None:
        self._cells[_COUNTED] = -1

    @property
    def count(self) -> int:
        return self._cells[_COUNT]

    @property
    def killed(self) -> int:
        """The pid of the victim; 0 if none was killed."""
        return self._cells[_KILLED]

    def pid(self, role: int) -> int:
        """The last process of that role; 0 if there was none."""
        return self._cells[_PIDS + role]

    def is_waiting(self, role: int) -> bool:
        """Whether it waits for something to do, and lives."""
        return bool(self._cells[_WAITING + role]) and lives(self.pid(role))

    def helpers(self) -> set[int]:
        """The pids of all launchers and guards there have been."""
        return set(self._cells[_SEEN + 1 : _SEEN + 1 + min(self._cells[_SEEN], _SIZE - _SEEN - 1)])

    def forget_helpers(self) -> None:
        self._cells[_PIDS + LAUNCHER] = self._cells[_PIDS + GUARD] = 0

    def enter(self, role: int) -> None:
        """This process has that role now."""
        self._cells[_WAITING + role] = 0
        self._cells[_PIDS + role] = os.getpid()
        if role in (LAUNCHER, GUARD):
            number = self._cells[_SEEN]
            self._cells[_SEEN + 1 + number % (_SIZE - _SEEN - 1)] = os.getpid()
            self._cells[_SEEN] = number + 1

    def note(self, role: int, event: str, function: Any) -> None:
        if self._cells[_PIDS + role] != os.getpid():
            return  # another one has its role meanwhile
        name = getattr(function, "__name__", "")
        self._cells[_WAITING + role] = event == "c_call" and name in ("select", "poll")
        is_pure = name in _PURE_NAMES or _home(function) in _PURE_MODULES
        if event == "c_call" and not is_pure:
            self.step(role)

    def step(self, role: int) -> None:
        """That process is about to do something. Kill the victim if this is the point."""
        if self._cells[_COUNTED] == role:
            self._cells[_COUNT] += 1
            if self._cells[_COUNT] == self._cells[_POINT]:
                victim = self.pid(self._cells[_VICTIM])
                if lives(victim):
                    self._cells[_KILLED] = victim
                    os.kill(victim, signal.SIGKILL)


def _home(function: Any) -> str:
    """The module of a C function, or of the type whose method it is."""
    owner = getattr(function, "__self__", None)
    return str(owner.__name__ if isinstance(owner, type(sys)) else type(owner).__module__)


def lives(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(") ")[2][0] not in "ZX"
    return False


def watch(path: str, role: int) -> None:
    """Begin in this process. A fork of the launcher is a guard, a fork of a guard is going to be a shell."""
    board = Board(path)

    def note(_frame: FrameType, event: str, function: Any) -> None:
        if event in ("c_call", "c_return"):
            board.note(role, event, function)

    def note_fork() -> None:
        nonlocal role
        role += 1
        board.enter(role)

    board.enter(role)
    if role == LAUNCHER:
        os.register_at_fork(after_in_child=note_fork)
    sys.setprofile(note)
