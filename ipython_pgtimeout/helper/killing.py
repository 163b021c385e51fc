"""Signals to every process below this one, by process group. Safe for the part that keeps deadlines: nothing in here
can hang, because finding a process takes no lock of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from ..shared.processes import children, descendants, has_ended, running_descendants


def signal_all(number: int, *, but: Iterable[int] = ()) -> list[int]:
    """Send a signal to every process below this one, ``but`` and what is below them left out. Returns the pids that
    it was for.

    The targets are found before any is signalled: when one dies, its children get another parent, and a walk under way
    could miss them. SIGKILL is to be repeated until nothing is left, because a process can be forked after the walk.
    """
    me = os.getpid()
    if number == signal.SIGKILL:
        killed = _kill_children(but)
        targets = [*killed, *running_descendants(me, but=but)]
        _signal_groups(descendants(me, but=but), number)
    else:
        targets = list(running_descendants(me, but=but))
        # A stopped process acts on nothing but SIGKILL until it is continued: signal(7).
        _signal_groups(targets, number, signal.SIGCONT)
    return targets


def _kill_children(but: Iterable[int]) -> list[int]:
    """SIGKILL to each child of this process, at once, before anything else is found out.

    A chain of processes, each of which forks the next one and exits, is caught in this way or not at all: every link is
    an orphan and so a child of this process, and lives for less time than a walk takes. The pids are safe: only this
    process can reap its children.
    """
    left_out = set(but)
    killed = []
    for pid in children(os.getpid()):
        if pid not in left_out and not _is_zombie(pid):
            with contextlib.suppress(PermissionError):
                os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def _is_zombie(child: int) -> bool:
    if not hasattr(os, "waitid"):
        return has_ended(child)
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_groups(pids: Iterable[int], *signals: int) -> None:
    """Send ``signals`` to the process groups of ``pids``, each group once.

    A group is signalled as soon as its first member is found, and as a whole: killpg(3) reaches members that were
    forked a moment ago, so a fork bomb inside the group cannot outrun it. Its id is read from a member, never
    remembered: while a group has a member, the kernel gives its number to nobody else. A process that is still in
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
