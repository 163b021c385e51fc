"""Jobs for tests, and interpreters that have jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

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


PRELUDE = """
import contextlib, ctypes, json, os, random, signal, subprocess, sys, threading, time
from ipython_pgtimeout import *
def told(**values):
    print("told " + json.dumps(values), flush=True)
"""


def run_python(code: str, *options: str, mark: str = "") -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """Run code in a new interpreter, with ``mark`` in its environment. What it has ``told``, and how it ended."""
    command = [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, env={**os.environ, "MARK": mark}, capture_output=True, text=True, timeout=50)
    lines = [line for line in done.stdout.splitlines() if line.startswith("told ")]
    assert lines, done
    return json.loads(lines[-1].removeprefix("told ")), done
