"""The limit of processor time: of all processes of a command together, those that have ended included."""

from __future__ import annotations

import os

from ..shared.processes import cpu_s, name_of, with_descendants
from ..shared.protocol import Limits
from ..shared.records import Exceeded
from .observation import Observer
from .reaping import Reaper

_LOOK_WITHIN_S = 0.25
"""After that it counts without a look: then the time of children that running processes have waited for is missing."""
_SHORTEST_S = 0.05
_PAUSE_PER_COST = 20
"""Looks may take a twentieth of the time."""


class CpuLimit:
    """Whether a command has used more processor time than it may. Call `step` at ``due_at``.

    The time is looked at only when the limit can have been reached, if every processor has worked for the command.
    """

    def __init__(self, limits: Limits, reaper: Reaper, observer: Observer) -> None:
        self._limit_s = limits.cpu
        self._observer = observer
        self._reaper = reaper
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
        used_s, largest, share_s = self._measure()
        if used_s < self._limit_s:
            self._due_at = now + max(self._soonest_s(used_s), _PAUSE_PER_COST * self._observer.cost_s)
            return None
        self._due_at = float("inf")
        return Exceeded("cpu", self._limit_s, used_s, largest, name_of(largest), share_s)

    def _soonest_s(self, used_s: float) -> float:
        return max((self._limit_s - used_s) / (os.cpu_count() or 1), _SHORTEST_S)

    def _measure(self) -> tuple[float, int, float]:
        """The time of all together, the process with the most, and its time: its own, by its clock, and that of the
        children it has waited for, as it was at the last look."""
        used_s, largest, most_s = self._reaper.cpu_s, 0, 0.0
        for pid in with_descendants(self._reaper.roots()):
            own_s = cpu_s(pid)
            if own_s is None:  # reaped meanwhile, and counted with the one that has reaped it
                continue
            seen = self._observer.present.get(pid)
            share_s = own_s if seen is None else max(own_s, seen.cpu_s)
            used_s += share_s
            if share_s > most_s:
                largest, most_s = pid, share_s
        return used_s, largest, most_s
