"""What became of each process of a command: recorded by the guard, cheaply, for the picture in the result.

A walk costs time for every process there is, so the pauses between walks grow with its cost, and while
nothing changes. A process that a walk has not met is missed, unless it became an orphan: those are looked
at when the guard reaps them.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from . import processes
from .processes import Process

MAX_LIVES = 1000
_FIRST_WALK_S = 0.1
_NEVER = float("inf")
_SAME_START_S = 0.1
_SOON_S = 0.03
_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0
_PAUSE_PER_COST = 150
"""A walk may take a hundred and fiftieth of the time, up to the longest pause."""


class Life(NamedTuple):
    """One process: who it was, when it was first and last there (seconds since the command's start; ``end`` is
    None while it is there), and whether it was an orphan that its guard has ``adopted``."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    command: str
    start: float
    end: float | None
    adopted: bool


class Lives:
    """All processes that were seen, the first `MAX_LIVES` of them."""

    def __init__(self, started_s: float) -> None:
        self._shell = 0
        self._started = started_s
        self._guard = os.getpid()
        self._current: dict[int, Life] = {}
        self._past: list[Life] = []
        # Starts by pid. Who has ended can be met again: as a zombie, when the parent that never waited is gone.
        self._ended: dict[int, float] = {}
        self._pause_s = _PAUSE_S
        self._affordable_at = self._started
        self.next_walk = self._started + _FIRST_WALK_S
        self.present: list[Process] = []

    def started(self, shell: int, command: str) -> None:
        """The shell, leader of its session: the one child of the guard that it has not adopted."""
        self._shell = shell
        self._current[shell] = Life(shell, self._guard, shell, shell, command, start=0.0, end=None, adopted=False)

    def walk(self) -> None:
        """Look at every process of the command there is now."""
        started = time.monotonic()
        known = {process.pid: process for process in self.present}
        found = (processes.look_up(pid, known.get(pid)) for pid in processes.descendants(self._guard))
        self.present = [process for process in found if process is not None and not process.has_ended]
        changed = False
        for process in self.present:
            changed |= self._meet(process)
        for pid in self._current.keys() - {process.pid for process in self.present}:
            self._end(pid)
            changed = True
        self._pause_s = _PAUSE_S if changed else min(self._pause_s * 1.5, _LONGEST_PAUSE_S)
        now = time.monotonic()
        self._affordable_at = now + min((now - started) * _PAUSE_PER_COST, _LONGEST_PAUSE_S)
        self.next_walk = max(now + self._pause_s, self._affordable_at)

    def walk_soon(self) -> None:
        """Something has happened, a signal for example: see before long who has gone."""
        self._pause_s = _PAUSE_S
        self.next_walk = max(time.monotonic() + _SOON_S, self._affordable_at)

    def walk_if_affordable(self) -> None:
        """For one who only wants to show it: as it is now, or as it was a moment ago where there are many."""
        if time.monotonic() >= self._affordable_at:
            self.walk()

    def ended(self, pid: int) -> None:
        """A child of the guard is a zombie and about to be reaped: the last look at it."""
        if pid not in self._current and (process := processes.look_up(pid)) is not None:
            self._meet(process)
        self._end(pid)

    def all_ended(self) -> None:
        """Nothing is left, so that there is nothing to walk: whoever is not known to have ended has now."""
        self.present = []
        for pid in list(self._current):
            self._end(pid)

    def all(self) -> list[Life]:
        """In the order of their starts."""
        return sorted([*self._past, *self._current.values()], key=lambda life: life.start)

    def _meet(self, process: Process) -> bool:
        """Take a process in, or take in how it has changed. Whether there was anything new."""
        start = max(0.0, time.monotonic() - self._started - process.age_s)
        known = self._current.get(process.pid)
        if known is None:
            if abs(self._ended.get(process.pid, _NEVER) - start) < _SAME_START_S:
                return False
            if len(self._past) + len(self._current) >= MAX_LIVES:
                return False
            ppid = process.ppid
        else:
            ppid, start = known.ppid, known.start
        life = Life(
            pid=process.pid,
            ppid=ppid,
            pgid=process.pgid,
            sid=process.sid,
            command=process.command if not process.command.startswith("[") or known is None else known.command,
            start=start,
            end=None,
            adopted=process.ppid == self._guard and process.pid != self._shell,
        )
        self._current[process.pid] = life
        return life != known

    def _end(self, pid: int) -> None:
        life = self._current.pop(pid, None)
        if life is not None:
            self._past.append(life._replace(end=time.monotonic() - self._started))
            self._ended[pid] = life.start
