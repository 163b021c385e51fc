"""Commands in the background: how soon they start and end, and what they cost while they run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from ipython_pgtimeout import start

from .figures import OURS, Figure, Goal
from .kernels import in_turn, kernel

IDLE = 10
IN_THE_KERNEL = """
import asyncio, psutil, time
from ipython_pgtimeout import run_async, start
from ipython_pgtimeout.caller.output import Pace
from ipython_pgtimeout.magics.panel import Panel

TREE = "setsid sleep 100 & (sleep 100; true) & echo ready; wait"

def end(verb):
    with start(TREE, 200) as job:
        job.wait_for("ready")
        started = time.perf_counter()
        getattr(job, verb)()
        job.wait()
        return (time.perf_counter() - started) * 1000

async def cancel():
    task = asyncio.ensure_future(run_async(TREE, 200))
    await asyncio.sleep(0.1)
    started = time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    return (time.perf_counter() - started) * 1000

def used():
    me = psutil.Process()
    launcher = next(child for child in me.children() if child.name() == "pgtimeout")
    helpers = [launcher, *launcher.children()]
    return sum(sum(process.cpu_times()[:2]) for process in (me, *helpers))

def idle(seconds, count, shown):
    jobs = [start("sleep 100; true", 200) for _ in range(count)]
    if shown:
        for job in jobs:
            Panel(get_ipython(), job, Pace(), False)
    time.sleep(3)
    before = used()
    time.sleep(seconds)
    cost = used() - before
    for job in jobs:
        job.kill()
    for job in jobs:
        job.wait()
    return 100 * cost / seconds
"""


def measure(share: float) -> Iterator[Figure]:
    rounds = max(5, int(200 * share))
    starts = in_turn({OURS: _start_ms, "`subprocess.Popen`": _popen_ms}, rounds)
    yield Figure("`start(…)` until it returns", "ms", starts, (Goal(2),))
    with kernel() as measured:
        measured.execute(IN_THE_KERNEL)
        for verb in ("interrupt", "terminate", "kill"):
            took = [measured.value(f"end({verb!r})") for _ in range(max(5, int(40 * share)))]
            yield Figure(f"`job.{verb}()`, four processes in two sessions, until gone", "ms", {OURS: took}, (Goal(50),))
        took = []
        for _ in range(max(5, int(40 * share))):
            measured.execute("took = await cancel()")
            took.append(measured.value("took"))
        yield Figure("`task.cancel()` of `run_async`, the same, until gone", "ms", {OURS: took}, (Goal(50),))
        seconds = max(5, int(30 * share))
        for shown, name in ((False, "from Python"), (True, "with a panel each")):
            used = measured.value(f"idle({seconds}, {IDLE}, {shown})")
            yield Figure(f"processor time for {IDLE} idle jobs {name}, kernel and helpers", "% of one", {OURS: [used]})


def _start_ms() -> float:
    began = time.perf_counter()
    job = start("sleep 100", 200)
    took = (time.perf_counter() - began) * 1000
    job.kill()
    job.wait()
    return took


def _popen_ms() -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        ["bash", "-c", "sleep 100"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    took = (time.perf_counter() - began) * 1000
    process.kill()
    process.communicate()
    return took
