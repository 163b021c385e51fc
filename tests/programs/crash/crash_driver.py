"""Runs callers in a PID namespace, a new one after each that was killed, and looks what those have left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import crash_caller  # type: ignore[import-not-found]
from crash_hook import CALLER, Board  # type: ignore[import-not-found]

PATIENCE_S = 10.0
"""How long the helpers of a dead caller may take: its command's grace, and some time because the machine is busy."""
_MORE_POINTS = 20


def drive(settings: dict[str, Any], stride: int, offset: int) -> dict[str, Any]:
    """Count the calls of an undisturbed command, then try every ``stride``-th point. Returns all outcomes.

    On a busy machine the victim may not be there at any of those, because it is started late. Then try points from the
    last one backwards, until one has hit it.
    """
    (undisturbed,) = _call(settings, [0])
    number = undisturbed["count"]
    points = list(range(1 + min(offset, number - 1), number + 1, stride))
    others = [point for point in range(number, 0, -1) if point not in points][:_MORE_POINTS]
    outcomes: list[dict[str, Any]] = []
    while points:
        outcomes += _call(settings, points)
        points = [point for point in points if point > outcomes[-1]["point"]]
    while others and not any(outcome["has_killed"] for outcome in outcomes):
        outcomes += _call(settings, [others.pop(0)])
    return {"undisturbed": undisturbed, "outcomes": outcomes}


def _call(settings: dict[str, Any], points: list[int]) -> list[dict[str, Any]]:
    """The outcomes of these points, or of the first of them, up to the death of the caller."""
    arguments = [crash_caller.__file__, json.dumps(settings), json.dumps(points)]
    try:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=settings["most_s"])
    except subprocess.TimeoutExpired as expired:
        raise RuntimeError(f"the caller, or a helper that has its output open, hangs: {_describe_all()}") from expired
    outcomes: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode == -signal.SIGKILL and settings["victim"] == CALLER:
        left = _wait_until_gone()
        died = {"point": points[len(outcomes)], "kind": "killed", "said": "", "false": [], "left": left}
        outcomes.append({**died, "count": Board(settings["board"]).count, "has_killed": True, "next": ""})
    elif done.returncode:
        raise RuntimeError(f"the caller has failed, {done}")
    return outcomes


def _describe_all() -> list[str]:
    """Each process: its number, its name, its state, and where in the kernel it waits."""
    found = []
    for pid, name, state in crash_caller.processes():
        with contextlib.suppress(OSError):
            found.append(f"{pid} {name} {state} {Path(f'/proc/{pid}/wchan').read_text()}")
    return found


def _wait_until_gone() -> list[str]:
    """Nothing may be left of a dead caller, helpers included. Returns what is, and kills it."""

    def look() -> list[str]:
        return [f"{pid} {name}" for pid, name, _ in crash_caller.processes() if pid not in (1, os.getpid())]

    crash_caller.wait_until(lambda: not look(), PATIENCE_S)
    left = look()
    for each in left:
        os.kill(int(each.split()[0]), signal.SIGKILL)
    return left
