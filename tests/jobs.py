"""Jobs for tests."""

from __future__ import annotations

from ipython_pgtimeout import Job

from .watching import program

LONG = "echo ready; sleep 60; true"
NASTY = ["ignores.sh", "own_session.sh", "hidden_daemon.py", "stopped_job.sh"]


def nasty(mark: str) -> str:
    """Processes that ignore signals, are stopped, or have sessions of their own, with setsid."""
    return " &\n".join([*(program(name, mark) for name in NASTY), "wait"])


def ready(job: Job, times: int = 1) -> Job:
    job.wait_for("(?s)" + "ready.*" * times, timeout=20)
    return job


def busy_guard(job: Job) -> int:
    """The guard of a job, by its shell."""
    with open(f"/proc/{job.pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
