"""All limits of one command on what it may use, as the guard deals with them. Without any there is nothing to do."""

from __future__ import annotations

import math

from ..shared.processes import can_measure
from ..shared.protocol import Limits
from ..shared.records import Exceeded
from .observation import Observer
from .processor import CpuLimit
from .reaping import Reaper
from .sampling import SpaceLimit


class Limiter:
    """Call `step` at ``due_at``."""

    def __init__(self, limits: Limits, reaper: Reaper, observer: Observer) -> None:
        """Raises OSError if a limit could not be kept, because nothing can be measured here."""
        self._parts: list[SpaceLimit | CpuLimit] = []
        if math.isfinite(limits.memory) or math.isfinite(limits.processes):
            self._parts.append(SpaceLimit(limits, reaper, observer))
        if math.isfinite(limits.cpu):
            self._parts.append(CpuLimit(limits, reaper, observer))
        if self._parts and not can_measure():
            raise OSError("memory, processor time and processes can't be measured here: there is no /proc of its own")

    @property
    def due_at(self) -> float:
        return min((part.due_at for part in self._parts), default=math.inf)

    def step(self, now: float) -> Exceeded | None:
        """Do a bounded amount of work. Returns what is exceeded; perhaps more than once."""
        for part in self._parts:
            if now >= part.due_at and (exceeded := part.step(now)):
                return exceeded
        return None
