"""Attributes that a helper process sets for itself on Linux: prctl(2). Other systems have none of these."""

from __future__ import annotations

import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}
_INTERNAL_SIGNALS = (32, 33)
_SIG_IGN = 1


def become_subreaper() -> bool:
    """Orphans among this process's descendants become its children: PR_SET_CHILD_SUBREAPER. False if that can't be."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def be_continued_at_death_of_parent() -> None:
    """A command can stop this process. Then the parent continues it, or if that dies, the kernel: PR_SET_PDEATHSIG.

    The signal comes when the thread ends that has started this process, but then also when the next one does.
    """
    from signal import SIGCONT  # here and not above: `pgtimeout` starts its command without it

    _prctl(_PR_SET_PDEATHSIG, SIGCONT)


def set_name(name: str) -> None:
    """What ``ps`` and ``top`` call this process, at most 15 bytes: PR_SET_NAME."""
    _prctl(_PR_SET_NAME, name.encode())


def leave_no_core_dump() -> bool:
    """This process writes no core file when a signal ends it: PR_SET_DUMPABLE. False if that can't be."""
    return _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int | bytes) -> bool:
    return sys.platform == "linux" and _call("prctl", option, value, 0, 0, 0) == 0


def _call(function: str, *arguments: int | bytes) -> object:
    """Call a function of the C library. The part of `ctypes` that is written in C suffices for that, and saves 4 of the
    25 ms that `pgtimeout` has until its command runs. It is private to Python, so it may be missing one day."""
    try:
        from _ctypes import call_function, dlopen, dlsym
    except ImportError:
        import ctypes

        return ctypes.CDLL(None)[function](*arguments)
    return call_function(dlsym(dlopen(None, 0), function), arguments)  # type: ignore[arg-type]  # None: this program


def stop_ignoring_internal_signals() -> None:
    """Give the two signals that glibc keeps for itself their default action, if they are ignored.

    A process that was started by glibc's posix_spawn(3) ignores them, as the children of `subprocess` do from Python
    3.13 on, and hands that on to all below it. glibc's own functions refuse these numbers, hence the system call.
    """
    import ctypes  # here and not above: see `_call`
    import os

    rt_sigaction = _RT_SIGACTION.get(os.uname().machine)
    if sys.platform != "linux" or rt_sigaction is None:
        return

    syscall = ctypes.CDLL(None).syscall
    default, current = (ctypes.c_ulong * 4)(), (ctypes.c_ulong * 4)()  # handler, flags, restorer, mask
    for number in _INTERNAL_SIGNALS:
        if syscall(rt_sigaction, number, None, current, 8) == 0 and current[0] == _SIG_IGN:
            syscall(rt_sigaction, number, default, None, 8)
