"""Collecting the guard's children that have ended, in bounded turns, and what they have used."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable

from ..shared.protocol import Request
from . import killing
from .lives import Lives

PER_TURN = 64
"""How many are reaped before time and channel are looked at again: a storm of dying orphans must not delay them."""
_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class Reaper:
    """Reaps the shell and every orphan the guard has inherited. ``returncode`` is the shell's, None while it runs."""

    is_certain = True
    """Whether `reap` returns None only if nothing is left."""
    look_again_at = float("inf")
    """When `reap` is to be called though no child has ended."""

    def __init__(self, lives: Lives) -> None:
        self.shell = 0
        self.returncode: int | None = None
        self.cpu_s = 0.0
        self.max_rss_bytes = 0
        self._lives = lives
        self._inherited_rss_bytes = own_max_rss_bytes()

    def marked(self, request: Request) -> Request:
        """The request as it is to be carried out."""
        return request

    def roots(self) -> Iterable[int]:
        """The processes of the command that are not below another one of it: see `killing`."""
        return killing.running_children()

    def reap(self) -> int | None:
        """Reap `PER_TURN` children at most. Returns how many; None when there are no children: nothing is left."""
        for reaped in range(PER_TURN):
            try:
                pid = _ended_child()
                place = (pid, pid) if pid == self.shell else _place(pid)
                if not self._collect(pid or -1, place):
                    return reaped
            except ChildProcessError:
                return None
        return PER_TURN

    def _collect(self, pid: int, place: tuple[int, int]) -> bool:
        """Reap that child, -1 for any. False if none has ended. Raises ChildProcessError if there is none."""
        pid, status, used = os.wait4(pid, os.WNOHANG)
        if not pid:
            return False
        self.cpu_s += used.ru_utime + used.ru_stime
        max_rss_bytes = used.ru_maxrss * _MAXRSS_UNIT_BYTES
        # Linux counts the memory that the shell had before its execve(2), and that was the guard's.
        if pid != self.shell or max_rss_bytes > self._inherited_rss_bytes:
            self.max_rss_bytes = max(self.max_rss_bytes, max_rss_bytes)
        self._lives.record_reaping(pid, *place)
        if pid == self.shell and self.returncode is None:  # its pid can be reused once it is reaped
            self.returncode = os.waitstatus_to_exitcode(status)
        return True


def own_max_rss_bytes() -> int:
    """The most memory that this process has had so far: getrusage(2)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT_BYTES


def _ended_child() -> int:
    """A child that has ended and is not reaped yet, so that it can be asked about; 0 if there is none.

    Raises ChildProcessError if there are no children at all. Where there is no waitid(2), always 0.
    """
    if not hasattr(os, "waitid"):
        return 0
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return 0 if found is None else found.si_pid


def _place(pid: int) -> tuple[int, int]:
    """The process group and session of a child that is not reaped yet."""
    return (os.getpgid(pid), os.getsid(pid)) if pid else (0, 0)
