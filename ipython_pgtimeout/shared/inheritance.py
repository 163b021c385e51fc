"""What a command inherits from the caller as it is *now*: umask, niceness, CPU affinity and resource limits.

The launcher was started earlier, so what the caller has changed since must be carried over. (The environment and the
current directory travel in the request itself.)
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from typing import NamedTuple

from . import rights

_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_LIMITS = sorted(set(_LIMITS))  # RLIMIT_OFILE is another name of RLIMIT_NOFILE


class Inheritance(NamedTuple):
    """Process attributes that survive execve(2); ``limits`` are soft and hard ones in the order of `_LIMITS`."""

    umask: int
    niceness: int
    affinity: frozenset[int]
    limits: tuple[tuple[int, int], ...]

    @classmethod
    def current(cls, status: bytes) -> Inheritance:
        """The attributes of this process. ``status`` is from `rights.read_status`."""
        umask = rights.umask_in(status)
        return cls(
            umask=_umask_by_changing_it() if umask is None else umask,
            niceness=os.getpriority(os.PRIO_PROCESS, 0),
            affinity=_affinity(),
            limits=tuple(map(resource.getrlimit, _LIMITS)),
        )

    @contextlib.contextmanager
    def assumed(self, mine: Inheritance) -> Iterator[None]:
        """Give these attributes to this process while it spawns its child. Then restore ``mine``, as far as it can.

        Setting them in the parent needs no code between fork and exec. Soft limits and affinity can always be set back,
        hard limits and niceness only by a privileged process. A guard that keeps them still does its work.
        """
        if self == mine:
            yield
            return
        os.umask(self.umask)
        _set_affinity(self.affinity, mine.affinity)
        _set_niceness(self.niceness, mine.niceness)
        for limit, wanted, current in zip(_LIMITS, self.limits, mine.limits, strict=True):
            _set_limit(limit, wanted, current)
        try:
            yield
        finally:
            for limit, wanted, (soft, hard) in zip(_LIMITS, self.limits, mine.limits, strict=True):
                _set_limit(limit, (_lower(soft, wanted[1]), _lower(hard, wanted[1])), wanted)
            _set_niceness(mine.niceness, self.niceness)
            _set_affinity(mine.affinity, self.affinity)
            os.umask(mine.umask)


def _umask_by_changing_it() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _affinity() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


def _set_affinity(wanted: frozenset[int], current: frozenset[int]) -> None:
    if wanted != current and sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, wanted)


def _set_niceness(wanted: int, current: int) -> None:
    if wanted != current:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, wanted)


def _set_limit(limit: int, wanted: tuple[int, int], current: tuple[int, int]) -> None:
    if wanted != current:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, wanted)


def _lower(limit: int, hard: int) -> int:
    if hard == resource.RLIM_INFINITY:
        return limit
    return hard if limit == resource.RLIM_INFINITY else min(limit, hard)
