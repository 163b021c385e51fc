"""The limits of memory and of processes: sampled by the guard itself, so nothing in here can hang.

A sample is cheap: Linux counts for each process what it has in RAM (RSS). That counts shared pages in each process
again, and mapped files. So a sample gives bounds: the command has at least the anonymous memory of its largest process,
and at most the sum of all. Where the limit lies between them, the thread that looks at processes is asked for each
one's share (PSS): see `Memory`.

A cgroup would keep a limit of memory exactly: cgroups(7). But one can be made only below a cgroup that was delegated to
this user and has no processes of its own, and the notebook's kernel is a process in its own cgroup.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

from ..shared.processes import name_of, resident, with_descendants
from ..shared.protocol import Limits
from ..shared.records import Exceeded, Resident
from .observation import Observer
from .reaping import Reaper

_PER_TURN = 64
"""How many processes are sampled before time and channel are looked at again."""
_SAMPLED_AT_MOST = 20_000
"""A walk over a storm that forks faster than it would never end."""
_FASTEST_BYTES_PER_S = 2e9
"""How fast memory may grow until the next sample, unless it was just seen to grow faster."""
_TOLERANCE = 0.1
"""How far beyond its limit memory may then be. And how much more than at the first signal brings SIGKILL."""
_SHORTEST_S, _LONGEST_S = 0.002, 0.25
_COUNT_EVERY_S, _COUNT_OFTEN_S = 0.05, 0.01
_PAUSE_PER_COST = 20
"""Samples may take a twentieth of a processor."""
_PAUSE_PER_JUDGEMENT, _NEAR = 4, 0.5
"""Shares, which take long, may take a quarter of one where more than half of the limit is used."""
_IN_VAIN_AT_MOST = 5
"""How often in a row the shares may be asked for again, because the memory has grown while they were found out."""
_HANGS_AFTER_S = 1.0
"""How long the kernel may take to tell one share."""


class SpaceLimit:
    """Whether all processes of a command together have more memory, or are more, than they may. Call `step` at
    ``due_at``."""

    def __init__(self, limits: Limits, reaper: Reaper, observer: Observer) -> None:
        self._limits = limits
        self._reaper = reaper
        self._judge = _Judge(observer, limits.memory)
        self._memory_end, self._processes_end = limits.memory, limits.processes
        """Beyond these, the command is to be ended; later: to be killed."""
        self._sample_at = limits.started_s + self._pause_s(0, 0, 0.0)
        self._walk: Iterator[int] | None = None
        self._cost_s = 0.0
        self._found: dict[int, Resident] = {}
        self._last_at, self._last_bytes = limits.started_s, 0

    @property
    def due_at(self) -> float:
        return -math.inf if self._walk is not None or self._judge.has_decided else self._sample_at

    def step(self, now: float) -> Exceeded | None:
        """Do a bounded amount of work. Returns what is exceeded; again if it becomes a tenth more."""
        if self._walk is None:
            self._walk = itertools.islice(with_descendants(self._reaper.roots()), _SAMPLED_AT_MOST)
            self._found = {}
            self._cost_s = 0.0
        pids = list(itertools.islice(self._walk, _PER_TURN))
        self._found.update((pid, found) for pid in pids if (found := resident(pid)).all_bytes)  # a zombie has none
        count = len(self._found)
        self._cost_s += time.monotonic() - now
        if count > self._processes_end:
            self._end_walk(now)
            self._processes_end = (1 + _TOLERANCE) * count
            return Exceeded("processes", self._limits.processes, count)
        if len(pids) == _PER_TURN:
            return None
        self._end_walk(now)
        return self._compare_memory(now)

    def _compare_memory(self, now: float) -> Exceeded | None:
        at_most = self._last_bytes
        anonymous = [(pid, found.anonymous_bytes) for pid, found in self._found.items()]
        largest, at_least = max(anonymous, key=lambda each: each[1], default=(0, 0))
        if at_least >= self._memory_end:
            return self._exceeded_memory(at_least, largest, at_least)
        if self._judge.has_decided and (used := self._judge.decision(at_most, now)) >= self._memory_end:
            return self._exceeded_memory(used, *self._judge.largest)
        self._judge.consider(at_most, self._memory_end, now)
        if self._judge.hangs(now):
            return self._exceeded_memory(at_most, largest, at_least)
        return None

    def _exceeded_memory(self, used: int, largest: int, share: int) -> Exceeded:
        self._memory_end = (1 + _TOLERANCE) * used
        return Exceeded("memory", self._limits.memory, used, largest, name_of(largest), share)

    def _end_walk(self, now: float) -> None:
        self._walk = None
        used = sum(found.all_bytes for found in self._found.values())
        grown_per_s = (used - self._last_bytes) / max(now - self._last_at, _SHORTEST_S)
        self._last_at, self._last_bytes = now, used
        self._sample_at = now + max(self._pause_s(used, len(self._found), grown_per_s), _PAUSE_PER_COST * self._cost_s)

    def _pause_s(self, used: int, count: int, grown_per_s: float) -> float:
        """How long nothing can go far beyond its limit."""
        room = max(self._memory_end - used, 0.0) + _TOLERANCE * self._limits.memory
        pause_s = min(max(room / max(_FASTEST_BYTES_PER_S, 2 * grown_per_s), _SHORTEST_S), _LONGEST_S)
        if math.isfinite(self._limits.processes):
            pause_s = min(pause_s, _COUNT_OFTEN_S if count > self._limits.processes / 2 else _COUNT_EVERY_S)
        return pause_s


class _Judge:
    """Asks for the shares where the sum of RSS is beyond the limit, and tells what they are together."""

    def __init__(self, observer: Observer, limit_bytes: float) -> None:
        self._observer = observer
        self._look: int | None = None
        self._limit_bytes = limit_bytes
        self._asked_at = self._again_at = 0.0
        self._asked_bytes = 0
        self._in_vain = 0
        self._progress = -1
        self._progress_at = 0.0

    @property
    def has_decided(self) -> bool:
        return self._look is not None and self._observer.has_done(self._look)

    @property
    def largest(self) -> tuple[int, int]:
        """The process that had the most then, and how much."""
        return self._observer.memory.largest

    def decision(self, at_most: int, now: float) -> int:
        """The memory of all together, as it was found after it was asked for. 0 if that can't be trusted.

        A page that comes to be shared meanwhile counts as a whole with one process, and again in part with the next.
        Then the sum of RSS, which is ``at_most`` now, has grown.
        """
        self._look = None
        if at_most > (1 + _TOLERANCE) * self._asked_bytes and self._in_vain < _IN_VAIN_AT_MOST:
            self._in_vain += 1
            self._again_at = now
            return 0
        self._in_vain = 0
        used = self._observer.memory.used_bytes
        is_near = used > _NEAR * self._limit_bytes
        self._again_at = now + (_PAUSE_PER_JUDGEMENT if is_near else _PAUSE_PER_COST) * (now - self._asked_at)
        return used

    def consider(self, at_most: int, limit_bytes: float, now: float) -> None:
        """``at_most`` is the sum of RSS now. Pages that cease to be shared don't change it, so shares are asked for
        from time to time; and at once if what has been added since the last time may be too much."""
        memory = self._observer.memory
        if at_most < limit_bytes or self._look is not None:
            return
        may_be_used = memory.used_bytes + at_most - memory.rss_bytes
        if now >= self._again_at or may_be_used >= limit_bytes:
            self._look = self._observer.look_now(exact=True)
            self._asked_at = self._progress_at = now
            self._asked_bytes = at_most

    def hangs(self, now: float) -> bool:
        """Whether the kernel has not told the next share for so long that there is no waiting for it."""
        if self._look is None or self._observer.memory.progress != self._progress or self._observer.is_held:
            self._progress, self._progress_at = self._observer.memory.progress, now
        return now - self._progress_at > _HANGS_AFTER_S
