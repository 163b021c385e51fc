"""Finding processes without proc(5), or without a descriptor to open it by, or with the proc(5) of another PID
namespace (``unshare -p`` without a new mount), which shows other processes under the same numbers.

The kernel still tells a process which pids are those of its children: waitid(2). Of the children of others nothing is
known. But when their parent dies, they become children of the guard.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator

_SCANNED = 1 << 16
"""How many pids are tried at most: the newest ones."""
_AHEAD = 64
"""How many may be given out while they are tried."""
_DEFAULT_PID_MAX = 1 << 15
"""Up to this pid all are tried, because numbers begin again from the lowest after the highest: proc(5), pid_max."""


def children(pid: int) -> Iterator[int]:
    """The children of this process, zombies included, about the newest first. Of any other ``pid`` none.

    Each is yielded as soon as it is found: a chain of processes that fork and exit is not caught otherwise.
    """
    if pid == os.getpid():
        newest = _newest_pid()
        latest = range(newest + _AHEAD, max(0, newest - _SCANNED), -1)
        others = range(newest + _AHEAD + 1, _DEFAULT_PID_MAX + 1)
        yield from filter(_is_child, itertools.chain(latest, others))


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
