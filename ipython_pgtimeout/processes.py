"""Who belongs to a command: its processes found, described and signalled by group. No deadlines in here.

psutil is the general way to look processes up. On Linux we read proc(5) ourselves: a walk by psutil reads
every process of the machine (5 ms here, where reading only the command's own 100 took 0.9 ms), and a chain
of processes that fork and exit can only be caught by a walk that is quicker than a fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

HELPER = "pgtimeout"
"""What the names of our own processes begin with."""
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LINUX = sys.platform == "linux"


class Process(NamedTuple):
    """A process as it was when it was looked at.

    ``state`` is the letter of proc(5) (R, S, D, T, Z…), ``user`` the effective user's id, ``command``
    the command line, or the name in brackets where there is none. ``age_s`` is how long it has run,
    ``cpu_s`` its processor time with that of the children it has waited for.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    user: int
    name: str
    command: str
    age_s: float
    cpu_s: float
    rss_bytes: int

    @property
    def has_ended(self) -> bool:
        """Whether it is a zombie, which only waits for its parent."""
        return self.state in "ZX"


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children: prctl(2), PR_SET_CHILD_SUBREAPER."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def set_name(name: str) -> None:
    """What ``ps`` and ``top`` call this process, at most 15 bytes: prctl(2), PR_SET_NAME."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, value: object) -> None:
    if _LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def children(pid: int) -> list[int]:
    """The children of all threads of ``pid``, zombies included; none if it is gone."""
    if not os.path.exists("/proc/self/task"):
        return _children_by_psutil(pid)
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        # Gone between two reads, or a kernel without CONFIG_PROC_CHILDREN, which this process would lack too.
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return _children_by_psutil(pid)
    return found


def _children_by_psutil(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def descendants(pid: int, *, but: Iterable[int] = ()) -> Iterator[int]:
    """The pids below ``pid``, each yielded as soon as it is found; ``but`` and what is below them are left out."""
    left_out = set(but)
    to_visit = children(pid)
    while to_visit:
        current = to_visit.pop()
        if current not in left_out:
            yield current
            to_visit += children(current)


def look_up(pid: int, known: Process | None = None) -> Process | None:
    """The process as it is now, or None if it is gone. Who is ``known`` costs less: a process that goes by the
    same name still has its command line, unless it has rewritten that itself."""
    if not _LINUX:
        return _look_up_by_psutil(pid)
    try:
        stat = _read(f"/proc/{pid}/stat")
        # The name stands in parentheses and may hold blanks and parentheses itself: proc(5).
        opening, closing = stat.index(b"("), stat.rindex(b")")
        name = os.fsdecode(stat[opening + 1 : closing])
        if known is not None and known.pid == pid and known.name == name:
            user, command = known.user, known.command
        else:
            user = os.stat(f"/proc/{pid}").st_uid
            arguments = _read(f"/proc/{pid}/cmdline").rstrip(b"\0")
            command = os.fsdecode(arguments.replace(b"\0", b" ")) or f"[{name}]"
    except OSError:
        return None
    fields = stat[closing + 2 :].split(maxsplit=22)  # the first is number 3 there
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        state=fields[0].decode(),
        user=user,
        name=name,
        command=command,
        age_s=time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS_PER_S,
        cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def _look_up_by_psutil(pid: int) -> Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            state = {"zombie": "Z", "stopped": "T", "running": "R"}.get(process.status(), "S")
            command = " ".join(process.cmdline()) if state != "Z" else ""
            return Process(
                pid=pid,
                ppid=process.ppid(),
                pgid=os.getpgid(pid),
                sid=os.getsid(pid),
                state=state,
                user=process.uids().effective,
                name=process.name(),
                command=command or f"[{process.name()}]",
                age_s=time.time() - process.create_time(),
                cpu_s=sum(process.cpu_times()[:4]),
                rss_bytes=process.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None


def ended_child() -> int:
    """A child that has ended and is not reaped yet, so that it can still be looked at; 0 if there is none.

    Raises ChildProcessError if there are no children at all.
    """
    if not hasattr(os, "waitid"):
        return 0
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found.si_pid if found is not None else 0


def alive(pids: Iterable[int]) -> list[Process]:
    """Those of ``pids`` that are there and have not ended."""
    found = (look_up(pid) for pid in pids)
    return [process for process in found if process is not None and not process.has_ended]


def signal_groups(pids: Iterable[int], *signals: signal.Signals) -> None:
    """Send ``signals`` to the process groups of ``pids``, each group once.

    A group is signalled as soon as its first member is found, and as a whole: killpg(3) reaches members
    that were forked a moment ago, so a fork bomb inside the group cannot outrun it. Its id is read from a
    member, never remembered: while a group has a member, the kernel gives its number to nobody else. A
    process still in our own group (between fork and setsid) is signalled by itself.
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
            continue  # gone meanwhile, or not ours to signal: who is still there at the end is named


class ChildWatch:
    """SIGCHLD as a readable descriptor, for poll(2) beside others."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)

    def fileno(self) -> int:
        return self._reading

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, 1 << 16):
            data += chunk
        return data
    finally:
        os.close(fd)
