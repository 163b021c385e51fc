"""Finding processes and describing them. No signals and no deadlines in here.

Finding (`children`, `descendants`, `has_ended`, `list_running`) takes no lock of the process it is about, so it can't
hang and is safe for the part of a guard that keeps deadlines. Describing (`look_up`) reads files that can be slow or
hang: reading /proc/PID/stat was seen to block for half an hour while PID was starved in the middle of its execve(2).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping

from ..records import Process

if sys.platform == "linux":
    from .linux import children, has_ended, look_up
else:
    from .portable import children, has_ended, look_up

__all__ = [
    "HELPER",
    "UNSEEN",
    "children",
    "descendants",
    "has_ended",
    "list_running",
    "look_up",
    "running_descendants",
]

HELPER = "pgtimeout"
"""What the names of our own processes begin with."""
UNSEEN = "[unseen]"
"""The command of a process that was not looked at: it was too quick, or the look takes too long."""


def descendants(pid: int, *, but: Iterable[int] = ()) -> Iterator[int]:
    """The pids below ``pid``, each yielded as soon as it is found; ``but`` and what is below them are left out."""
    left_out = set(but)
    to_visit = children(pid)
    while to_visit:
        current = to_visit.pop()
        if current not in left_out:
            yield current
            to_visit += children(current)


def running_descendants(pid: int, *, but: Iterable[int] = ()) -> Iterator[int]:
    """As `descendants`, without those that have ended and only wait for their parent."""
    return (found for found in descendants(pid, but=but) if not has_ended(found))


def list_running(pid: int, known: Mapping[int, Process], *, but: Iterable[int] = ()) -> list[Process]:
    """What runs below ``pid``. Can't hang: what is ``known`` by an earlier look is described, of the others there are
    process group and session alone."""
    found = []
    for running in running_descendants(pid, but=but):
        with contextlib.suppress(ProcessLookupError):  # gone meanwhile
            found.append(known.get(running) or _undescribed(running))
    return found


def _undescribed(pid: int) -> Process:
    return Process(
        pid=pid,
        ppid=0,
        pgid=os.getpgid(pid),
        sid=os.getsid(pid),
        state="?",
        user=-1,
        name="?",
        command=UNSEEN,
        age_s=0.0,
        cpu_s=0.0,
        rss_bytes=0,
    )
