"""What a command gets from the process that starts it and nobody can hand over: rights, and the view of the system.

A launcher serves only a caller that has all of this in common with it: a caller that has dropped root since must not
run commands as root. So for each command the caller compares what it has now with what it had when it started the
launcher, and starts another launcher when that differs. It must be cheap: the files of proc(5) are kept open.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable

from .descriptors import Kept

_NAMESPACES = ("mnt", "user", "pid_for_children", "net")
"""Those that decide on rights, files, processes and addresses. Each costs 3 µs of a launch."""
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}.get(os.uname().machine)
_IOPRIO_WHO_PROCESS = 1


class _OpenFiles:
    """Files of /proc/self, open for the process ``pid``: they would tell a forked child of its parent."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        flags = os.O_RDONLY | os.O_CLOEXEC
        self.status, self.oom, self.personality = (
            _open(f"/proc/self/{name}", flags) for name in ("status", "oom_score_adj", "personality")
        )
        self.namespaces = _open("/proc/self/ns", getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        for file in (self.status, self.oom, self.personality, self.namespaces):
            file.close()


_files: _OpenFiles | None = None


def read_status() -> bytes:
    """/proc/self/status, from which `umask_in` and `fingerprint` read; empty where there is no proc(5)."""
    return _read(_open_files().status)


def umask_in(status: bytes) -> int | None:
    """The umask of this process: umask(2) can only read it by changing it, for every thread of the process."""
    line = _between(status, b"\nUmask:", b"\n")
    return int(line, 8) if line else None


def fingerprint(status: bytes) -> tuple[object, ...]:
    """Equal for two processes if commands started by them have the same rights and the same view of the system.

    Credentials, capabilities, no_new_privs and seccomp come from ``status``. The rest are namespaces, the root
    directory, personality, and what `scheduling` returns.
    """
    files = _open_files()
    rights: tuple[object, ...] = (
        _between(status, b"\nUid:", b"\nFDSize:"),
        _between(status, b"\nGroups:", b"\n"),
        _between(status, b"\nCapInh:", b"\nSpeculation"),
    )
    if not all(rights):
        rights = (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), tuple(os.getgroups()))
    root = os.stat("/")
    return rights, _namespaces(files), (root.st_dev, root.st_ino), _read(files.personality), scheduling()


def scheduling() -> tuple[object, ...]:
    """This process's scheduling policy and priority, its priority of input and output, and its score for the case that
    memory runs out. A command can change them for any process of its user."""
    if sys.platform != "linux":
        return ()
    policy = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    ioprio = _syscall()(_IOPRIO_GET, _IOPRIO_WHO_PROCESS, 0) if _IOPRIO_GET is not None else 0
    return *policy, ioprio, _read(_open_files().oom)


def _namespaces(files: _OpenFiles) -> tuple[str, ...]:
    try:
        return tuple(os.readlink(name, dir_fd=files.namespaces.fd) for name in _NAMESPACES)
    except OSError:  # no proc(5), or a Linux without one of these
        return ()


def reopen_files() -> _OpenFiles:
    """For when what was read from them is not as expected: other code may have closed them, see `descriptors`."""
    global _files
    files = _OpenFiles()
    previous, _files = _files, files
    if previous is not None:
        previous.close()
    return files


def _open_files() -> _OpenFiles:
    files = _files
    return files if files is not None and files.pid == os.getpid() else reopen_files()


def _open(path: str, flags: int) -> Kept:
    with contextlib.suppress(OSError):
        return Kept(os.open(path, flags))
    return Kept()


def _read(file: Kept) -> bytes:
    try:
        return os.pread(file.fd, 4096, 0)
    except OSError:
        return b""


def _between(text: bytes, begin: bytes, end: bytes) -> bytes:
    """What stands after ``begin``, up to ``end``; nothing if either is missing."""
    start = text.find(begin)
    stop = text.find(end, start + len(begin))
    return text[start + len(begin) : stop] if start >= 0 and stop >= 0 else b""


@functools.cache
def _syscall() -> Callable[..., int]:
    call: Callable[..., int] = ctypes.CDLL(None).syscall
    return call
