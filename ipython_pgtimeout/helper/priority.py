"""The guard's share of the processor: it must be in time even while the command leaves nobody any.

By niceness and not by a real-time policy: a command of root's can have the highest real-time priority itself, and then
no other of that kind gets a turn, while Linux keeps a small share of each second for the ordinary ones (5 %:
sched_rt_runtime_us, or the fair server since 6.12).
"""

from __future__ import annotations

import contextlib
import os
import threading

_HIGHEST = -20


def set_niceness(niceness: int = _HIGHEST) -> None:
    """Of the calling thread alone, as Linux has it; the highest where no other is given. Without the right to that
    (CAP_SYS_NICE, RLIMIT_NICE) nothing happens."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
