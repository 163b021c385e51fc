"""Finding processes and describing them. No signals and no deadlines in here.

Finding (`children`, `descendants`, `has_ended`) and measuring (`resident`, `cpu_s`, `name_of`) can't hang: they take
no lock of the process that is held for long, and are safe for the part of a guard that keeps deadlines. Describing
(`look_up`) and `share_bytes` read files that can be slow or hang: reading /proc/PID/stat was seen to block for half an
hour while PID was starved in the middle of its execve(2).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping

from ..records import Process

if sys.platform == "linux":
    from .linux import can_list, can_measure, children, cpu_s, has_ended, look_up, name_of, resident, share_bytes
else:
    from .portable import can_list, can_measure, children, cpu_s, has_ended, look_up, name_of, resident, share_bytes

__all__ = [
    "GUARD",
    "HELPER",
    "UNFOUND",
    "UNSEEN",
    "can_list",
    "can_measure",
    "children",
    "cpu_s",
    "descendants",
    "describe",
    "has_ended",
    "look_up",
    "name_of",
    "resident",
    "share_bytes",
    "unseen",
    "with_descendants",
]

HELPER = "pgtimeout"
"""What the names of our own processes begin with."""
GUARD = f"{HELPER}-guard"
"""The name of a guard."""
UNSEEN = "[unseen]"
"""The command of a process that was not looked at: it was too quick, or the look takes too long."""

UNFOUND = Process(
    pid=0, ppid=0, pgid=0, sid=0, state="?", user=-1, name="?", command=UNSEEN, age_s=0.0, cpu_s=0.0, rss_bytes=0
)
"""A process of which is known that there is one, and nothing more."""


def descendants(pid: int) -> Iterator[int]:
    """The pids below ``pid``, each yielded as soon as it is found."""
    return with_descendants(children(pid))


def with_descendants(pids: Iterable[int]) -> Iterator[int]:
    """``pids`` and what is below them, each yielded as soon as it is found."""
    to_visit = list(pids)
    while to_visit:
        current = to_visit.pop()
        yield current
        to_visit += children(current)


def describe(pids: Iterable[int], known: Mapping[int, Process]) -> list[Process]:
    """Those of ``pids`` that are still there. Can't hang: what is ``known`` by an earlier look is described by that,
    the others as `unseen`."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(known.get(pid) or unseen(pid))
    return found


def unseen(pid: int) -> Process:
    """What is known of a process without a look at it: process group and session. Raises ProcessLookupError."""
    return UNFOUND._replace(pid=pid, pgid=os.getpgid(pid), sid=os.getsid(pid))
