"""Processes by proc(5) and pidfd_open(2).

psutil would do for all of this, but a walk by psutil reads every process of the machine (5 ms here, where reading
only the command's own 100 took 0.9 ms), and a chain of processes that fork and exit can only be caught by a walk
that is quicker than a fork.
"""

from __future__ import annotations

import os
import select
import time

from ..records import Process
from . import portable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""False without /proc, or with a Linux that was built without CONFIG_PROC_CHILDREN."""


def children(pid: int) -> list[int]:
    """The children of all threads of ``pid``, zombies included; none if it is gone."""
    if not _HAS_CHILDREN_FILES:
        return portable.children(pid)
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        pass  # gone between two reads
    return found


def has_ended(pid: int) -> bool:
    """Whether all threads of ``pid`` have ended: it is gone, or a zombie that only waits for its parent."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):  # no descriptor left, Linux before 5.3, or a sandbox that forbids it
        process = look_up(pid)
        return process is None or process.has_ended
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(0))
    finally:
        os.close(fd)


def look_up(pid: int, known: Process | None = None) -> Process | None:
    """The process as it is now, or None if it is gone. Can hang: see the package's docstring.

    If ``known`` is an earlier record of this pid with the same name, its user and command line are reused,
    because reading them costs more than the rest.
    """
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


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, 1 << 16):
            data += chunk
        return data
    finally:
        os.close(fd)
