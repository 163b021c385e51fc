"""The guard's share of the processor: it must be in time even while the command leaves nothing to anyone else.

By niceness and not by a real-time policy: a command of root's can have the highest real-time priority itself, and then
no other process of that kind gets a turn, while Linux keeps a small share of each second for the ordinary ones (5 %:
sched_rt_runtime_us, or the fair server since 6.12).

Where nothing may be raised (CAP_SYS_NICE, RLIMIT_NICE), nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import threading

_HIGHEST = -20


def raise_session() -> None:
    """The share of this process's session among all sessions. Where Linux has autogroups, sched(7), niceness counts
    among the processes of one session only; a command has a session, and so an autogroup, of its own."""
    with contextlib.suppress(OSError):
        autogroup = os.open("/proc/self/autogroup", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(autogroup, str(_HIGHEST).encode())
        finally:
            os.close(autogroup)


def set_niceness(niceness: int = _HIGHEST) -> None:
    """The calling thread's alone, as Linux has it; the highest share where no niceness is given."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
