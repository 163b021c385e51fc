"""Finding processes without proc(5), or without a descriptor to open it by, or with the proc(5) of another PID
namespace (``unshare -p`` without a new mount), which shows other processes under the same numbers.

The kernel still tells a process which pids are those of its children: waitid(2). Of the children of others nothing is
known. But when their parent dies, they become children of the guard.
"""

from __future__ import annotations

import os
import threading

_SCANNED = 1 << 16
"""How many pids are tried at most: the newest ones."""
_DEFAULT_PID_MAX = 1 << 15
"""Up to this pid all are tried, because numbers begin again from the lowest after the highest: proc(5), pid_max."""


def children(pid: int) -> list[int]:
    """The children of this process, zombies included. Of any other ``pid`` none."""
    if pid != os.getpid():
        return []
    newest = _newest_pid()
    return [pid for pid in range(max(1, newest - _SCANNED), max(newest, _DEFAULT_PID_MAX) + 1) if _is_child(pid)]


def _newest_pid() -> int:
    """About the last pid that was given to a process. Threads get their numbers from the same supply."""
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: numbers.append(threading.get_native_id()))
    try:
        thread.start()
    except RuntimeError:  # there can be no more threads
        return os.getpid()
    thread.join()
    return numbers[0]


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
