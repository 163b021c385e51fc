"""The limit of processor time: of all processes of a command together, those that have ended included."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..shared.processes import cpu_s
from ..shared.protocol import Limits
from ..shared.records import Exceeded
from .observation import Observer

_LOOK_WITHIN_S = 0.25
"""After that it counts without a look: then the time of children that running processes have waited for is missing."""
_SHORTEST_S = 0.05
_PAUSE_PER_COST = 20
"""Looks may take a twentieth of the time."""


class CpuLimit:
    """Whether a command has used more processor time than it may. Call `step` at ``due_at``.

    The time is looked at only when the limit can have been reached, if every processor has worked for the command.
    """

    def __init__(self, limits: Limits, observer: Observer, reaped_cpu_s: Callable[[], float]) -> None:
        """``reaped_cpu_s`` tells the time of the processes that the guard has reaped."""
        self._limit_s = limits.cpu
        self._observer = observer
        self._reaped_cpu_s = reaped_cpu_s
        self._look: int | None = None
        self._due_at = limits.started_s + self._soonest_s(0.0)

    @property
    def due_at(self) -> float:
        return float("-inf") if self._look is not None and self._observer.has_done(self._look) else self._due_at

    def step(self, now: float) -> Exceeded | None:
        """Returns what is exceeded, once."""
        if self._look is None:
            self._look = self._observer.look_now()
            self._due_at = now + _LOOK_WITHIN_S
            return None
        self._look = None
        used_s, largest, name, share_s = self._measure()
        if used_s < self._limit_s:
            self._due_at = now + max(self._soonest_s(used_s), _PAUSE_PER_COST * self._observer.cost_s)
            return None
        self._due_at = float("inf")
        return Exceeded("cpu", self._limit_s, used_s, largest, name, share_s)

    def _soonest_s(self, used_s: float) -> float:
        return max((self._limit_s - used_s) / (os.cpu_count() or 1), _SHORTEST_S)

    def _measure(self) -> tuple[float, int, str, float]:
        """The time of all together; pid, name and time of the process with the most.

        A process that is gone since the look has been reaped, and its time counts with the one that has reaped it.
        """
        used_s, most = self._reaped_cpu_s(), (0, "", 0.0)
        for pid, process in self._observer.present.items():
            own_s = cpu_s(pid)
            if own_s is not None:
                share_s = max(own_s, process.cpu_s)
                used_s += share_s
                most = max(most, (pid, process.name, share_s), key=lambda each: each[2])
        return used_s, *most
