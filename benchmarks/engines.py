"""Commands on the engines of an ipyparallel cluster: many short ones, one on all, and its interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import ipyparallel

from ipython_pgtimeout import run

from .figures import OURS, Figure, Goal
from .kernels import in_turn

ENGINES = 4
BASH = ["bash", "-c", "true"]
TREE = "sleep 600 & setsid sleep 600 & echo ready; sleep 600; true"


def measure(share: float) -> Iterator[Figure]:
    count = int(1000 * share)
    with tempfile.TemporaryDirectory() as profile, ipyparallel.Cluster(n=ENGINES, profile_dir=profile) as client:
        client.wait_for_engines(ENGINES, timeout=60)
        balanced, all_of_them = client.load_balanced_view(), client[:]
        each = {
            OURS: partial(_rate, lambda: balanced.map_sync(run, ["true"] * count, [9] * count), count),
            "`subprocess.run`": partial(_rate, lambda: balanced.map_sync(subprocess.run, [BASH] * count), count),
        }
        samples = in_turn(each, max(1, int(3 * share)))
        yield Figure(f"{count:,} commands over {ENGINES} engines, by `map`", "commands/s", samples, more_is_better=True)
        once = {
            OURS: partial(_ms, lambda: run("true", 9, engines=all_of_them)),
            "`subprocess.run`": partial(_ms, lambda: all_of_them.apply_sync(subprocess.run, BASH)),
        }
        yield Figure(f"`true` on {ENGINES} engines at once", "ms", in_turn(once, int(50 * share)))
        stops = {OURS: partial(_interrupt_ms, all_of_them)}
        yield Figure(
            f"interrupt at the client until {ENGINES} engines have told that all is gone",
            "ms",
            in_turn(stops, int(20 * share)),
            (Goal(500, at="worst"),),
        )


def _ms(act: Any) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def _rate(act: Any, count: int) -> float:
    return count / _ms(act) * 1000


def _interrupt_ms(view: Any) -> float:
    ready = 0
    pressed = 0.0

    def note(_stream: str, text: str) -> None:
        nonlocal ready, pressed
        ready += text.count("ready")
        if ready == ENGINES and not pressed:
            pressed = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)

    try:
        run(TREE, 60, engines=view, on_output=note)
    except KeyboardInterrupt:
        return (time.perf_counter() - pressed) * 1000
    raise AssertionError("it was not interrupted")
