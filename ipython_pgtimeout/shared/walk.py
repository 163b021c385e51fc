"""One walk over a command's processes, that can't mistake another process for one of them.

A pid can become another's between the moment it is found and the signal: at the end of a process that its parent reaps,
when pids are few or are used up quickly. So each process is pinned by a pidfd, and belongs to the command only if its
parent, pinned as well, names it as its child after that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
from collections.abc import Callable, Iterable, Iterator

from .processes import children, has_ended

_PINNED_AT_MOST = 512
"""The others are known by their pids alone: descriptors are limited, and some are needed to read proc(5). Where
thousands of processes run, pids are not that few."""
_MORE_DESCRIPTORS = 64
"""How many a process that walks has open beside the pins, at most."""
_PROCESS_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, pidfd_send_signal(2): since Linux 6.9."""


def make_room() -> None:
    """Enlarge this process's table of descriptors to what a walk needs. To be called before there are other threads.

    Where threads share the table, Linux enlarges it only after every processor has scheduled and a thread of the kernel
    has been told so: expand_fdtable() in fs/file.c, synchronize_rcu(). Beside two busy loops, a walk over the 50
    processes of a storm waited for that for 0.1 to 0.9 s, and once for 7 s.
    """
    with contextlib.suppress(OSError):  # the limit has been lowered meanwhile
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _pinned_at_most() + _MORE_DESCRIPTORS))


def _pinned_at_most() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _PINNED_AT_MOST if limit < 0 else min(_PINNED_AT_MOST, limit // 2 - 8)


class Walk:
    """Yields ``roots`` and what is below them, as far as they have not ended. The pins are released at its end."""

    def __init__(self, roots: Iterable[int], ends_at: Callable[[int], bool] | None = None) -> None:
        """What is below a process that it ``ends_at`` is left out."""
        self._roots = roots
        self._ends_at = ends_at
        self._pinned_at_most = _pinned_at_most()
        self._pins: dict[int, int] = {}
        """The pidfd of each process found; -1 where there is none."""

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._pins.values():
            if fd >= 0:
                os.close(fd)

    def __iter__(self) -> Iterator[int]:
        for root in self._roots:
            to_visit = [root] if self._pin(root) else []
            while to_visit:
                pid = to_visit.pop()
                children = self._children(pid)
                if not (children and self._ends_at and self._ends_at(pid)):
                    to_visit += children
                yield pid

    def signal_groups(self, pids: Iterable[int], *signals: int) -> set[int]:
        """Send ``signals`` to the process groups of ``pids``, which this walk has found, each group once. Returns the
        groups.

        A group is signalled as soon as its first member is found, and as a whole: that reaches members that were
        forked a moment ago, so a fork bomb inside the group cannot outrun it. A process that is still in our own group
        (between fork and setsid) is signalled by itself.
        """
        done: set[int] = set()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # what is still there at the end is named
                pgid = os.getpgid(pid)
                if pgid == os.getpgrp():
                    self.signal_process(pid, *signals)
                elif pgid not in done and self._signal_group(pid, pgid, signals):
                    done.add(pgid)
        return done

    def signal_process(self, pid: int, *signals: int) -> None:
        """By its pin: whatever has become of its number, no other process gets the signals."""
        fd = self._pins[pid]
        for number in signals:
            if fd >= 0:
                signal.pidfd_send_signal(fd, number)
            else:
                os.kill(pid, number)

    def _children(self, pid: int) -> list[int]:
        """The children of ``pid`` that have not ended. None if ``pid`` has: they are other processes' children now."""
        found = [child for child in children(pid) if self._pin(child)]
        if not found:
            return []
        confirmed = set(children(pid))
        return [child for child in found if child in confirmed] if not self._has_ended(pid) else []

    def _pin(self, pid: int) -> bool:
        """Pin the process that has this number now. False if there is none, or a zombie."""
        if pid in self._pins:
            return False
        fd = _open_pidfd(pid) if len(self._pins) < self._pinned_at_most else -1
        self._pins[pid] = fd
        return not self._has_ended(pid)

    def _has_ended(self, pid: int) -> bool:
        fd = self._pins[pid]
        if fd < 0:
            return has_ended(pid)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(0))

    def _signal_group(self, pid: int, pgid: int, signals: Iterable[int]) -> bool:
        """Signal the group that ``pid`` was found in; ``pid`` alone if it has left the group. Returns False then.

        That number stays the group's while it has a member. So a pidfd of its leader is right if ``pid`` was in the
        group both before and after the pidfd was opened. Without one (the leader is gone, or Linux is older than 6.9)
        there is a moment in which the whole group could end and its number become another's.
        """
        leader = _open_pidfd(pgid)
        try:
            if os.getpgid(pid) != pgid or self._has_ended(pid):
                self.signal_process(pid, *signals)
                return False
            for number in signals:
                _send_to_group(leader, pgid, number)
            return True
        finally:
            if leader >= 0:
                os.close(leader)


def _open_pidfd(pid: int) -> int:
    """A descriptor that stays that of the present process ``pid``, pidfd_open(2); -1 if there can be none."""
    with contextlib.suppress(OSError, AttributeError):  # gone, no descriptor left, Linux before 5.3, or not Linux
        return os.pidfd_open(pid)
    return -1


def _send_to_group(leader: int, pgid: int, number: int) -> None:
    if leader >= 0:
        try:
            signal.pidfd_send_signal(leader, number, None, _PROCESS_GROUP)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
    os.killpg(pgid, number)
