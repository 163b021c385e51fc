"""Processes by proc(5) and pidfd_open(2).

psutil would do for all of this, but a walk by psutil reads every process of the machine (5 ms here, where reading
only the command's own 100 took 0.9 ms), and a chain of processes that fork and exit can only be caught by a walk
that is quicker than a fork.
"""

from __future__ import annotations

import errno
import math
import os
import select
import time
from collections.abc import Iterable

from ..records import COMMAND_BYTES, Process, Resident, shown_command
from . import blind, portable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2
"""The kind of a processor clock that is exact: include/linux/posix-timers.h."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_YOUNG_S = 2.0
"""How long after its start a process may still be about to execute its program, on a busy machine."""


_HAS_OWN_PROC = os.path.realpath("/proc/self") == f"/proc/{os.getpid()}"
"""Whether there is a proc(5), and it is that of this process's own PID namespace."""
_NO_DESCRIPTORS = errno.EMFILE, errno.ENFILE, errno.ENOMEM
"""A command can lower its guard's limit of open files: prlimit(1)."""
_HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""False with a Linux that was built without CONFIG_PROC_CHILDREN."""


def can_list() -> bool:
    """Whether `children` can be sure to find all: without files of proc(5) it tries some pids."""
    try:
        return _HAS_OWN_PROC and bool(os.listdir("/proc/self/task"))
    except OSError:
        return False


def children(pid: int) -> Iterable[int]:
    """The children of all threads of ``pid``, zombies included; none if it is gone."""
    if not _HAS_OWN_PROC:
        return blind.children(pid)
    if not _HAS_CHILDREN_FILES:
        return portable.children(pid)
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            return blind.children(pid)
    return found  # perhaps incomplete: gone between two reads


def has_ended(pid: int) -> bool:
    """Whether all threads of ``pid`` have ended: it is gone, or a zombie that only waits for its parent."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):  # no descriptor left, Linux before 5.3, or a sandbox that forbids it
        process = look_up(pid)
        return not _exists(pid) if process is None else process.has_ended
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(0))
    finally:
        os.close(fd)


def _exists(pid: int) -> bool:
    """Whether there is such a process, or a zombie."""
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    return True


def look_up(pid: int, known: Process | None = None) -> Process | None:
    """The process as it is now, or None if it is gone or can't be seen. Can hang: see the package's docstring.

    If ``known`` is an earlier record of this pid with the same name, its user and command line are reused,
    because reading them costs more than the rest. Not if it was young then: between its fork(2) and its execve(2), a
    bash that a bash has started has the name that it will have, and still its parent's command line.
    """
    if not _HAS_OWN_PROC:
        return None
    try:
        directory = f"/proc/{pid}"
        stat = _read(f"{directory}/stat")
        started_ticks = int(_fields(stat)[19])
        if _state(stat) == "Z" and (thread := _running_thread(pid)):
            directory = f"/proc/{pid}/task/{thread}"
            stat = _read(f"{directory}/stat")
        name = _decoded(stat[stat.index(b"(") + 1 : stat.rindex(b")")])
        if known is not None and known.pid == pid and known.name == name and known.age_s > _YOUNG_S:
            user, command = known.user, known.command
        else:
            user = os.stat(f"/proc/{pid}").st_uid
            command = shown_command(_read(f"{directory}/cmdline", COMMAND_BYTES + 1)) or f"[{name}]"
    except OSError:
        return None
    fields = _fields(stat)
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        state=_state(stat),
        user=user,
        name=name,
        command=command,
        age_s=time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / _TICKS_PER_S,
        cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def can_measure() -> bool:
    """Whether `resident` and `cpu_s` can tell anything."""
    return _HAS_OWN_PROC


def resident(pid: int) -> Resident:
    """What ``pid`` has in RAM; nothing if it has ended. Can't hang: proc(5), statm, takes no lock of the process's
    memory."""
    try:
        found = _statm(f"/proc/{pid}") if _HAS_OWN_PROC else Resident(0, 0)
        if not found.all_bytes and (thread := _running_thread(pid)):
            found = _statm(f"/proc/{pid}/task/{thread}")
    except OSError:
        return Resident(0, 0)
    return found


def _statm(directory: str) -> Resident:
    _, pages, shareable, *_ = map(int, _read(f"{directory}/statm").split())
    return Resident(pages * _PAGE_BYTES, (pages - shareable) * _PAGE_BYTES)


def share_bytes(pid: int) -> int | None:
    """What ``pid`` has in RAM, without the files it has mapped, and of each shared page only its share: the kernel can
    do without the files, and reads them again. 0 if it has ended; None if it can't be had, because it is another
    user's. Can hang, and takes long for much memory: proc(5), smaps_rollup, walks through all of it."""
    try:
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return None
    shares = {line.partition(b":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss")}
    if b"Pss_Anon" in shares:  # since Linux 5.3
        return shares[b"Pss_Anon"] + shares.get(b"Pss_Shmem", 0)
    return shares.get(b"Pss", 0)


def cpu_s(pid: int) -> float | None:
    """The processor time of ``pid`` so far, without that of its children; None if it is gone. Can't hang: it is read
    from the process's own clock, clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return None


def name_of(pid: int) -> str:
    """The name of ``pid``, "?" if it is gone. Can't hang: proc(5), comm."""
    try:
        return _decoded(_read(f"/proc/{pid}/comm").rstrip(b"\n"))
    except OSError:
        return "?"


def _fields(stat: bytes) -> list[bytes]:
    """Those after the name, from number 3 of proc(5) on. The name may hold blanks and parentheses itself."""
    return stat[stat.rindex(b")") + 2 :].split(maxsplit=22)


def _decoded(name: bytes) -> str:
    """Without the rest of a character that was cut."""
    return name.decode("utf-8", "replace").rstrip("\ufffd")


def _state(stat: bytes) -> str:
    return _fields(stat)[0].decode()


def _running_thread(pid: int) -> str:
    """When the main thread has called pthread_exit(3), proc(5) shows the process as a zombie without memory and
    arguments, and only its other threads as they are. Returns one of them, "" for a true zombie."""
    return next((thread for thread in os.listdir(f"/proc/{pid}/task") if thread != str(pid)), "")


def _read(path: str, max_bytes: float = math.inf) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while len(data) < max_bytes and (chunk := os.read(fd, int(min(max_bytes - len(data), 1 << 16)))):
            data += chunk
        return data
    finally:
        os.close(fd)
