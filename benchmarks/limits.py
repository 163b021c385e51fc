"""Limits: how far a command gets beyond its limit of memory, what they cost, and whether they end the innocent."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ipython_pgtimeout import Result, run

from .figures import OURS, Figure, Goal
from .kernels import kernel
from .standing import WATCH, watching_percent

LIMIT_MB = 1000
FORKS = 1000
SHARED_MB = 100
GROWS = """
import signal, time
rate, most, kept, started = {rate}, {most}, [], time.monotonic()
while 5 * len(kept) < most:
    kept.append(b"x" * 5_000_000)
    time.sleep(max(0.0, started + 5 * len(kept) / rate - time.monotonic()))
signal.pause()
"""
SHARES = """
import gc, os, time
kept = b"x" * {shared}_000_000
gc.freeze()
reading, writing = os.pipe()
for _ in range({forks}):
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
time.sleep(3)
"""


def measure(share: float) -> Iterator[Figure]:
    rounds = max(2, int(10 * share))
    for rate, speed, goals in (
        (100, "0.1 GB/s", ()),
        (1000, "1 GB/s", (Goal(15),)),
        (1_000_000, "as fast as Python can", ()),
    ):
        largest_mb = [_python(GROWS.format(rate=rate, most=6000)).max_rss / 1e6 for _ in range(rounds)]
        beyond = [100 * (size_mb / LIMIT_MB - 1) for size_mb in largest_mb]
        yield Figure(f"beyond `--memory 1GB` at {speed}", "%", {OURS: beyond}, goals)
    ends = [_python(SHARES.format(shared=SHARED_MB, forks=FORKS)).reason for _ in range(max(1, rounds // 2))]
    false_ends = [float(reason != "exited") for reason in ends]
    yield Figure(f"{FORKS} forks that share {SHARED_MB} MB, ended", "of 1", {OURS: false_ends}, (Goal(0, at="worst"),))
    with kernel() as measured:
        measured.execute(WATCH)
        measured.execute("%run_timed 5 true")
        for count in (3, 500):
            used = {
                name: [watching_percent(measured, count, max(4, int(10 * share)), options)]
                for name, options in (
                    (OURS, "--no-progress --memory 20GB --cpu 1h --processes 2000"),
                    ("without limits", "--no-progress"),
                )
            }
            yield Figure(f"the guard's processor time for {count} sleeping processes, with limits", "% of one", used)


def _python(code: str) -> Result:
    return run(f"exec {sys.executable} -S -E -c '{code}'", 100, memory=f"{LIMIT_MB}MB", kill_after=0)
