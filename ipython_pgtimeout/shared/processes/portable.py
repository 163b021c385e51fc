"""Processes by psutil, for systems other than Linux and for a Linux without the files we read. Simulated in tests."""

from __future__ import annotations

import os
import time

from ..records import Process, shown_command

_STATES = {"zombie": "Z", "stopped": "T", "running": "R"}


def children(pid: int) -> list[int]:
    """The children of ``pid``, zombies included; none if it is gone."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


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
