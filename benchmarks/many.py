"""Many commands: at once, from threads of one process, and one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .figures import OURS, Figure, Goal
from .kernels import in_turn, kernel
from .launch import CALLS

THREADS = {
    "100 commands at once, from as many threads": (100, 1),
    "8 threads with 10 commands each": (8, 10),
    "100 threads with 10 commands each": (100, 10),
}
"""How many threads, and how many commands each of them runs one after the other."""
IN_A_ROW = """
import gc, psutil, time
def state():
    gc.collect()
    me = psutil.Process()
    return {"fds": me.num_fds(), "memory": me.memory_info().rss / 1e6, "threads": me.num_threads()}
def commands(count):
    took = []
    for _ in range(count):
        started = time.perf_counter()
        get_ipython().run_line_magic("run_timed", "5 echo x")
        took.append((time.perf_counter() - started) * 1000)
    return took
"""


def measure(share: float) -> Iterator[Figure]:
    peers = "`subprocess.run`", "bounded_subprocess"
    goals = (Goal(0.8, "`subprocess.run`"),)
    for name, (threads, each) in THREADS.items():
        contenders = {who: partial(_per_second, CALLS[who], threads, each) for who in (OURS, *peers)}
        rates = in_turn(contenders, max(2, int(20 * share)))
        yield Figure(name, "commands/s", rates, goals, more_is_better=True)
    hundred = max(5, int(100 * share))
    with kernel() as measured:
        measured.execute(IN_A_ROW)
        measured.execute(f"commands({hundred}); before = state(); first = commands({hundred})")
        measured.execute(f"middle = commands({8 * hundred}); last = commands({hundred}); after = state()")
        first, last = measured.value("first"), measured.value("last")
        before, after = measured.value("before"), measured.value("after")
    name = f"{10 * hundred:,} commands in a row: the last {hundred}"
    yield Figure(name, "ms", {OURS: last, f"the first {hundred}": first}, (Goal(1.1, f"the first {hundred}"),))
    for what, unit, limit in (("fds", "descriptors", 0), ("threads", "threads", 0), ("memory", "MB", 1)):
        yield Figure(f"what they have added: {what}", unit, {OURS: [after[what] - before[what]]}, (Goal(limit),))


def _per_second(call: Callable[[], object], threads: int, each: int) -> float:
    def call_in_a_row() -> None:
        for _ in range(each):
            call()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        started = time.perf_counter()
        for done in [pool.submit(call_in_a_row) for _ in range(threads)]:
            done.result()
        return threads * each / (time.perf_counter() - started)
