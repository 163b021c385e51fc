"""Attributes that a helper process sets for itself on Linux: prctl(2). Other systems have none of these."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine)
_INTERNAL_SIGNALS = (32, 33)
_SIG_IGN = 1


def become_subreaper() -> bool:
    """Orphans among this process's descendants become its children: PR_SET_CHILD_SUBREAPER. False if that can't be."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def be_continued_at_death_of_parent() -> None:
    """A command can stop this process. Then the parent continues it, or if that dies, the kernel: PR_SET_PDEATHSIG.

    The signal comes when the thread ends that has started this process, but then also when the next one does.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGCONT))


def set_name(name: str) -> None:
    """What ``ps`` and ``top`` call this process, at most 15 bytes: PR_SET_NAME."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, value: object) -> bool:
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def stop_ignoring_internal_signals() -> None:
    """Give the two signals that glibc keeps for itself their default action, if they are ignored.

    A process that was started by glibc's posix_spawn(3) ignores them, as the children of `subprocess` do from Python
    3.13 on, and hands that on to all below it. glibc's own functions refuse these numbers, hence the system call.
    """
    if sys.platform != "linux" or _RT_SIGACTION is None:
        return
    syscall = ctypes.CDLL(None).syscall
    default, current = (ctypes.c_ulong * 4)(), (ctypes.c_ulong * 4)()  # handler, flags, restorer, mask
    for number in _INTERNAL_SIGNALS:
        if syscall(_RT_SIGACTION, number, None, current, 8) == 0 and current[0] == _SIG_IGN:
            syscall(_RT_SIGACTION, number, default, None, 8)
