"""How much memory the processes of a command have together. For the thread that looks at processes: this can hang.

What a process has in RAM (RSS) counts shared pages in each process again, so that fifty forks of a program with 100 MB
seem to have 5 GB; and it counts mapped files, which the kernel can do without. The proportional share (PSS) does not,
but Linux walks through all of the memory to find it out. So it is asked for only where it matters, and rarely, unless a
limit is near.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from ..shared.processes import resident, share_bytes
from ..shared.records import MemorySample, Process

_PAUSE_PER_COST = 1000
"""Finding out the shares may take a thousandth of the time, unless `measure` is to be exact."""
_UNSHARED, _UNSHARED_BYTES = 0.1, 20_000_000
"""If all but the largest process have less than this part of it, or than that, what they share makes no difference that
is worth the cost."""
_CHANGED = 0.1
_KEPT = 400
"""When there are so many samples, only the larger one of each two is kept."""


class Memory:
    """``used_bytes`` is what the last exact measurement has found, ``largest`` the process with the most of it and how
    much that was, and ``rss_bytes`` the sum of RSS."""

    def __init__(self, started_s: float) -> None:
        self.rss_bytes = self.used_bytes = 0
        self.largest = 0, 0
        self.samples: list[MemorySample] = []
        self.progress = 0
        """Changes as long as measuring goes on: it does not while the kernel lets it wait."""
        self._started_s = started_s
        self._shared_part = 1.0
        self._affordable_at = 0.0

    @property
    def last_bytes(self) -> int:
        return self.samples[-1].used_bytes if self.samples else 0

    @property
    def has_changed(self) -> bool:
        """Whether the last two samples differ by more than a tenth."""
        last = [sample.used_bytes for sample in self.samples[-2:]]
        return max(last) - min(last) > _CHANGED * max(last)

    def measure(self, found: Collection[Process], exact: bool, goes_on: Callable[[], bool]) -> bool:
        """Add a sample. Returns False if it was broken off, because ``goes_on`` returned False."""
        rss = [process.rss_bytes for process in found]
        total, largest = sum(rss), max(rss, default=0)
        if not exact and total - largest < max(_UNSHARED * largest, _UNSHARED_BYTES):
            used = total
        elif exact or time.monotonic() >= self._affordable_at:
            started = time.monotonic()
            shares: dict[int, int] = {}
            for process in found:
                if not goes_on():
                    return False
                share = share_bytes(process.pid)
                shares[process.pid] = process.rss_bytes if share is None else share
                self.progress += 1
            # When one ends, the shares of the others grow. What was found before must not count with what was after.
            shares = {pid: share for pid, share in shares.items() if share and resident(pid).all_bytes}
            used = sum(shares.values())
            self.largest = max(shares.items(), key=lambda each: each[1], default=(0, 0))
            now = time.monotonic()
            self._affordable_at = now + _PAUSE_PER_COST * (now - started)
            self._shared_part = used / total if total else 1.0
            self.rss_bytes, self.used_bytes = total, used
        else:
            used = int(total * self._shared_part)
        self._keep(used)
        return True

    def _keep(self, used_bytes: int) -> None:
        samples = [*self.samples, MemorySample(time.monotonic() - self._started_s, used_bytes)]
        if len(samples) == _KEPT:
            pairs = zip(samples[::2], samples[1::2], strict=True)
            samples = [max(pair, key=lambda sample: sample.used_bytes) for pair in pairs]
        self.samples = samples  # as a whole: other threads read it
