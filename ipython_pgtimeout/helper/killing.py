"""Signals to every process of a command, by process group. Safe for the part that keeps deadlines: nothing in here can
hang, because finding a process takes no lock of it.

``roots`` are a function: it finds the processes of the command that are not below another one of it. Of a guard that is
a subreaper they are its children, see `running_children`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator

from ..shared.processes import GUARD, children, name_of
from ..shared.walk import Walk

Roots = Callable[[], Iterable[int]]


def signal_all(number: int, roots: Roots, shell: int = 0) -> list[int]:
    """Send a signal to every process of the command, and to the group of its ``shell``, if that is known, in any case.
    Returns the pids that it was for.

    The targets are found before any is signalled: when one dies, its children get another parent, and a walk under way
    could miss them. SIGKILL is to be repeated until nothing is left, because a process can be forked after the walk.
    """
    if number == signal.SIGKILL:
        targets = list_running(roots)
        killed = _kill_children(roots)
        # A second walk kills as it goes: a process that forks and exits at once would be gone by the end of the walk.
        with Walk(roots()) as walk:
            signalled = walk.signal_groups(walk, number)
        _signal_group_of_shell(shell, signalled, number)
        return [*targets, *killed]
    # A stopped process acts on nothing but SIGKILL until it is continued: signal(7).
    return _signal_once(Walk(roots(), _is_guard), shell, number, signal.SIGCONT)


def signal_running(roots: Roots, shell: int, *signals: int) -> list[int]:
    """These signals, once, to every process that a walk finds. Returns the pids."""
    return _signal_once(Walk(roots()), shell, *signals)


def _is_guard(pid: int) -> bool:
    """Whether ``pid`` is a guard: one of a notebook or of a ``pgtimeout`` that the command has started. Its own caller
    gets the signal and decides what becomes of what is below it, with its own signal and its own grace. A process that
    only has that name gains nothing by it but the grace, which it could have by ignoring the signal."""
    return name_of(pid) == GUARD


def _signal_once(found: Walk, shell: int, *signals: int) -> list[int]:
    with found as walk:
        targets = list(walk)
        signalled = walk.signal_groups(targets, *signals)
        _signal_group_of_shell(shell, signalled, *signals)
    return targets


def list_running(roots: Roots) -> list[int]:
    """The pids of the command's processes that have not ended."""
    with Walk(roots()) as walk:
        return list(walk)


def running_children(but: Iterable[int] = ()) -> Iterator[int]:
    """The children of this process that have not ended, without ``but``. A storm leaves thousands that have ended and
    wait to be reaped: they have no children, and this is the cheapest way to leave them out."""
    left_out = set(but)
    for pid in children(os.getpid()):
        if pid not in left_out and _is_running_child(pid):
            yield pid


def _is_running_child(pid: int) -> bool:
    if not hasattr(os, "waitid"):
        return True
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _kill_children(roots: Roots) -> list[int]:
    """SIGKILL to each child of this process, at once, before anything else is found out.

    A chain of processes, each of which forks the next one and exits, is caught in this way or not at all: every link is
    an orphan and so a child of this process, and lives for less time than a walk takes. The pids are safe: only this
    process can reap its children.
    """
    killed = []
    for pid in roots():
        if _is_running_child(pid):
            with contextlib.suppress(PermissionError):
                os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def _signal_group_of_shell(pgid: int, signalled: set[int], *signals: int) -> None:
    """Signal the process group of the shell, if a walk has not: without proc(5) it finds no children of others.

    The number is still the shell's while a child of this process is in the group, even a zombie.
    """
    if pgid and pgid not in signalled and hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            os.waitid(os.P_PGID, pgid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            for number in signals:
                os.killpg(pgid, number)
