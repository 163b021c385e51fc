"""Signals to every process below this one, by process group. Safe for the part that keeps deadlines: nothing in here
can hang, because finding a process takes no lock of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from ..shared.processes import descendants, running_descendants


def signal_all(number: int, *, but: Iterable[int] = ()) -> list[int]:
    """Send a signal to every process below this one, ``but`` and what is below them left out. Returns the pids that
    it was for.

    The targets are found before any is signalled: when one dies, its children get another parent, and a walk under way
    could miss them. SIGKILL is to be repeated until nothing is left, because a process can be forked after the walk.
    """
    me = os.getpid()
    targets = list(running_descendants(me, but=but))
    if number == signal.SIGKILL:
        # A second walk kills as it goes: a process that forks and exits at once would be gone by the end of the walk.
        _signal_groups(descendants(me, but=but), number)
    else:
        # A stopped process acts on nothing but SIGKILL until it is continued: signal(7).
        _signal_groups(targets, number, signal.SIGCONT)
    return targets


def _signal_groups(pids: Iterable[int], *signals: int) -> None:
    """Send ``signals`` to the process groups of ``pids``, each group once.

    A group is signalled as soon as its first member is found, and as a whole: killpg(3) reaches members that were
    forked a moment ago, so a fork bomb inside the group cannot outrun it. Its id is read from a member, never
    remembered: while a group has a member, the kernel gives its number to no other group. A process that is still in
    our own group (between fork and setsid) is signalled by itself.
    """
    done: set[int] = set()
    own = os.getpgrp()
    for pid in pids:
        try:
            pgid = os.getpgid(pid)
            if pgid not in done:
                for number in signals:
                    os.kill(pid, number) if pgid == own else os.killpg(pgid, number)
                if pgid != own:
                    done.add(pgid)
        except (ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or not ours to signal: what is still there at the end is named
