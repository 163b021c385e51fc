"""A helper's share of the processor: it must be in time even while a command leaves nothing to anyone else.

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


def raise_priority() -> None:
    """The highest share for this process's session, and in it for all threads of this process.

    All of them, because they share the interpreter's lock: while the thread that holds it waits for a processor, the
    others wait too. In a storm the thread that looks at processes waited for 1.5 s, and SIGTERM was late by as much.

    Not before it is needed: a guard that has it takes the processor from the caller in the middle of sending a request,
    which costs 0.3 ms of a launch.
    """
    _set_autogroup(_HIGHEST)
    set_niceness(_HIGHEST)


def restore_priority(niceness: int) -> None:
    """The ordinary share for the session, and that niceness for all threads of this process."""
    _set_autogroup(0)
    set_niceness(niceness)


def set_niceness(niceness: int) -> None:
    """Set the niceness of every thread of this process: on Linux each thread has its own. A thread that is started
    later begins with that of the thread that starts it."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    # The number of the main thread is that of its process. Its ``native_id`` is that of before the fork.
    for thread in [os.getpid(), *(thread.native_id for thread in others if thread.native_id)]:
        with contextlib.suppress(OSError):  # not permitted, or it has ended
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _set_autogroup(niceness: int) -> None:
    """The session's share among all sessions. Where Linux has autogroups, sched(7), niceness counts among the processes
    of one session only; each command has a session, and so an autogroup, of its own."""
    with contextlib.suppress(OSError):
        autogroup = os.open("/proc/self/autogroup", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(autogroup, str(niceness).encode())
        finally:
            os.close(autogroup)
