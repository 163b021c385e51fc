"""Processes by psutil, for systems other than Linux and for a Linux without the files we read. Simulated in tests."""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from ..records import Process, Resident, shown_command

_STATES = {"zombie": "Z", "stopped": "T", "running": "R"}


def can_list() -> bool:
    """Whether `children` can be sure to find all."""
    return True


def children(pid: int) -> list[int]:
    """The children of ``pid``, zombies included; none if it is gone.

    They are found by a look at every process there is. A walk asks for those of each, so one look serves for a moment:
    for as long again as it has taken.
    """
    global _look
    if time.monotonic() >= _look.expires_s:
        _look = _look_at_all()
    return _look.children.get(pid, [])


class _Look(NamedTuple):
    """The children of every process, by its pid, and until when they may be used (CLOCK_MONOTONIC)."""

    children: dict[int, list[int]]
    expires_s: float


_look = _Look({}, 0.0)


def _look_at_all() -> _Look:
    import psutil

    started_s = time.monotonic()
    found: dict[int, list[int]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.setdefault(process.ppid(), []).append(process.pid)
    now = time.monotonic()
    return _Look(found, 2 * now - started_s)


def has_ended(pid: int) -> bool:
    """Whether ``pid`` is gone, or a zombie that only waits for its parent."""
    process = look_up(pid)
    return process is None or process.has_ended


def look_up(pid: int, known: Process | None = None) -> Process | None:
    """The process as it is now, or None if it is gone. ``known`` is for the Linux variant only."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            state = _STATES.get(process.status(), "S")
            command = shown_command(os.fsencode("\0".join(process.cmdline()))) if state != "Z" else ""
            return Process(
                pid=pid,
                ppid=process.ppid(),
                pgid=os.getpgid(pid),
                sid=os.getsid(pid),
                state=state,
                user=process.uids().effective,
                name=process.name(),
                command=command or f"[{process.name()}]",
                age_s=time.time() - process.create_time(),
                cpu_s=sum(process.cpu_times()[:4]),
                rss_bytes=process.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None


def can_measure() -> bool:
    """Whether `resident` and `cpu_s` can tell anything."""
    return True


def resident(pid: int) -> Resident:
    """What ``pid`` has in RAM; nothing if it has ended. All of it counts as anonymous: only Linux tells."""
    process = look_up(pid)
    size = 0 if process is None or process.has_ended else process.rss_bytes
    return Resident(size, size)


def share_bytes(pid: int) -> int | None:
    """Only Linux tells which pages are shared."""
    return None


def cpu_s(pid: int) -> float | None:
    """The processor time of ``pid`` so far; None if it is gone."""
    process = look_up(pid)
    return None if process is None or process.has_ended else process.cpu_s


def name_of(pid: int) -> str:
    """The name of ``pid``, "?" if it is gone."""
    process = look_up(pid)
    return "?" if process is None else process.name
