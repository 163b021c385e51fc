"""What became of each process of a command, for the picture in the result. In memory only: nothing is looked up here.

Three threads of a guard write: the one that keeps deadlines knows when it started and reaped a process, the one that
looks at processes knows what they are, and where the kernel reports events, one reads these. The lock is never held
while anything is looked at.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

from ..shared.processes import UNSEEN
from ..shared.records import Life, Process, shown_command

MAX_LIVES = 1000
"""More are not recorded: the first ones are kept."""
MAX_UNSEEN = 100
"""How many of these may be processes that were reaped before any look found them. The others are only counted."""
_MAX_REAPED = 10_000
"""How many processes may be reaped during one look before the look counts for nothing."""
_SAME_START_S = 0.1
"""By how much two looks at one process differ in when it started: the clock tick, and the time between two reads."""


class Lives:
    """The lives of a command's processes. Times are seconds since its start, ``started_s`` (CLOCK_MONOTONIC)."""

    def __init__(self, started_s: float) -> None:
        self._lock = threading.Lock()
        self.started_s = started_s
        self._guard = os.getpid()
        self._shell = 0
        self._running: dict[int, Life] = {}
        self._vanished: dict[int, Life] = {}
        """Ended, because a look no longer found them. Each may still be a zombie that the guard reaps later, or have
        been missed by the look while it changed its parent."""
        self._ended: list[Life] = []
        self._reaped: set[int] = set()
        """Reaped since the present look began, which may still have found them running."""
        self.max_rss_bytes = 0
        """The most that a look has found one process to have."""
        self.unseen = 0
        """How many have been reaped before any look found them."""

    def record_shell(self, pid: int, argv: Iterable[bytes]) -> None:
        """The shell has been started: it leads its session, and is the one child of the guard that is no orphan."""
        command = shown_command(b"\0".join(argv))
        with self._lock:
            self._shell = pid
            self._running[pid] = Life(
                pid, self._guard, pid, pid, command, start=0.0, last_seen=0.0, end=None, adopted=False
            )

    def begin_look(self) -> None:
        """What is reaped from now on is not running, whatever the look finds."""
        with self._lock:
            self._reaped.clear()

    def record_look(self, found: Iterable[Process]) -> bool:
        """``found`` were the running processes of the command at the look that has begun. What is not among them has
        ended. Returns whether anything has changed."""
        with self._lock:
            if len(self._reaped) >= _MAX_REAPED:
                return True
            present = [process for process in found if process.pid not in self._reaped]
            self.max_rss_bytes = max([self.max_rss_bytes, *(process.rss_bytes for process in present)])
            changed = sum(self._record_running(process) for process in present)
            gone = self._running.keys() - {process.pid for process in present}
            for pid in gone:
                self._vanished[pid] = self._end(pid)
        return bool(changed or gone)

    def record_reaping(self, pid: int, pgid: int, sid: int) -> None:
        """The guard has reaped its child ``pid``, which was in that process group and session."""
        with self._lock:
            if len(self._reaped) < _MAX_REAPED:
                self._reaped.add(pid)
            now = self._now()
            if pid in self._running:
                life: Life | None = self._running.pop(pid)._replace(last_seen=now, end=now)
            else:
                life = self._vanished.pop(pid, None)
            if life is not None:
                # Of the guard's children all but the shell are orphans, even if no look has seen them as such.
                self._ended.append(life._replace(adopted=pid != self._shell))
            else:
                self.unseen += 1
                if self.unseen <= MAX_UNSEEN and not self._is_full():
                    self._ended.append(
                        Life(pid, self._guard, pgid, sid, UNSEEN, start=now, last_seen=now, end=now, adopted=True)
                    )

    def record_fork(self, parent: int, child: int, at_s: float) -> None:
        """``parent`` has forked ``child``, at that time by CLOCK_MONOTONIC. Does nothing if it is no process of the
        command."""
        with self._lock:
            forked = self._running.get(parent)
            if forked is None or self._is_full():
                return
            if child in self._vanished:  # that pid is used again
                self._ended.append(self._vanished.pop(child))
            start = at_s - self.started_s
            self._reaped.discard(child)
            self._running[child] = forked._replace(
                pid=child, ppid=parent, start=start, last_seen=start, end=None, adopted=False
            )

    def record_execve(self, pid: int, command: str) -> None:
        """A process, of this command or not, runs another program now, with that command line."""
        with self._lock:
            if pid in self._running:
                self._running[pid] = self._running[pid]._replace(command=command)

    def record_setsid(self, pid: int) -> None:
        """A process, of this command or not, leads a session of its own now."""
        with self._lock:
            if pid in self._running:
                self._running[pid] = self._running[pid]._replace(pgid=pid, sid=pid)

    def record_exit(self, pid: int, at_s: float) -> None:
        """A process, of this command or not, has ended, at that time by CLOCK_MONOTONIC. It may still be reaped."""
        with self._lock:
            life = self._running.pop(pid, None) or self._vanished.get(pid)
            if life is not None:
                end = at_s - self.started_s
                self._vanished[pid] = life._replace(last_seen=end, end=end)
                self._reaped.add(pid)
                for orphan in [child for child in self._running.values() if child.ppid == pid]:
                    self._running[orphan.pid] = orphan._replace(adopted=True)

    def knows(self, pid: int) -> bool:
        """Whether that is a process of the command that runs."""
        return pid in self._running

    def all(self, *, have_ended: bool) -> tuple[Life, ...]:
        """In the order of their starts. With ``have_ended`` nothing is left: what still counts as running has ended
        by now, too."""
        with self._lock:
            running = [self._end(pid) for pid in list(self._running)] if have_ended else self._running.values()
            return tuple(sorted([*self._ended, *self._vanished.values(), *running], key=lambda life: life.start))

    def _record_running(self, process: Process) -> bool:
        start = max(0.0, self._now() - process.age_s)
        known = self._running.get(process.pid) or self._missed(process.pid, start)
        if known is None and self._is_full():
            return False
        has_arguments = not process.command.startswith("[")
        life = Life(
            pid=process.pid,
            ppid=process.ppid if known is None else known.ppid,
            pgid=process.pgid,
            sid=process.sid,
            command=process.command if has_arguments or known is None else known.command,
            start=start if known is None else known.start,
            last_seen=self._now(),
            end=None,
            adopted=process.ppid == self._guard and process.pid != self._shell,
        )
        self._running[process.pid] = life
        return known is None or life != known._replace(last_seen=life.last_seen)

    def _missed(self, pid: int, start: float) -> Life | None:
        """The life of a process that an earlier look has missed; None if this is another one with the same pid."""
        if pid not in self._vanished:
            return None
        life = self._vanished.pop(pid)
        if abs(life.start - start) < _SAME_START_S:
            return life
        self._ended.append(life)
        return None

    def _end(self, pid: int) -> Life:
        return self._running.pop(pid)._replace(end=self._now())

    def _is_full(self) -> bool:
        return len(self._ended) + len(self._vanished) + len(self._running) >= MAX_LIVES

    def _now(self) -> float:
        return time.monotonic() - self.started_s
