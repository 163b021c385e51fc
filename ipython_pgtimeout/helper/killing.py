"""Signals to every process below this one, by process group. Safe for the part that keeps deadlines: nothing in here
can hang, because finding a process takes no lock of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

from ..shared.processes import children, has_ended, with_descendants


def signal_all(number: int, *, but: Iterable[int] = ()) -> list[int]:
    """Send a signal to every process below this one, ``but`` and what is below them left out. Returns the pids that
    it was for.

    The targets are found before any is signalled: when one dies, its children get another parent, and a walk under way
    could miss them. SIGKILL is to be repeated until nothing is left, because a process can be forked after the walk.
    """
    killed = _kill_children(but) if number == signal.SIGKILL else []
    targets = list_running(but=but)
    if number == signal.SIGKILL:
        # A second walk kills as it goes: a process that forks and exits at once would be gone by the end of the walk.
        _signal_groups(with_descendants(_running_children(but)), number)
    else:
        # A stopped process acts on nothing but SIGKILL until it is continued: signal(7).
        _signal_groups(targets, number, signal.SIGCONT)
    return [*killed, *targets]


def list_running(*, but: Iterable[int] = ()) -> list[int]:
    """The pids of the processes below this one that have not ended, ``but`` and what is below them left out."""
    return [pid for pid in with_descendants(_running_children(but)) if not has_ended(pid)]


def _running_children(but: Iterable[int]) -> Iterator[int]:
    """The children of this process that have not ended. A storm leaves thousands that have and wait to be reaped: they
    have no children, and this is the cheapest way to leave them out."""
    left_out = set(but)
    for pid in children(os.getpid()):
        if pid not in left_out and not _is_zombie(pid):
            yield pid


def _is_zombie(child: int) -> bool:
    if not hasattr(os, "waitid"):
        return has_ended(child)
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_children(but: Iterable[int]) -> list[int]:
    """SIGKILL to each child of this process, at once, before anything else is found out.

    A chain of processes, each of which forks the next one and exits, is caught in this way or not at all: every link is
    an orphan and so a child of this process, and lives for less time than a walk takes. The pids are safe: only this
    process can reap its children.
    """
    killed = []
    for pid in _running_children(but):
        with contextlib.suppress(PermissionError):
            os.kill(pid, signal.SIGKILL)
        killed.append(pid)
    return killed


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
