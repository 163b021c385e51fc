"""What the helper processes cost while no command runs or a command only waits, and how long loading takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .figures import OURS, Figure, Goal
from .kernels import Kernel, kernel

WATCH = """
import psutil, threading, time
def used():
    launcher = next(child for child in psutil.Process().children() if child.name() == "pgtimeout")
    return sum(sum(guard.cpu_times()[:2]) for guard in launcher.children())
def watch(seconds, costs):
    before = used()
    time.sleep(seconds - 0.5)
    costs.append(used() - before)
"""


def measure(share: float) -> Iterator[Figure]:
    rounds = max(2, int(10 * share))
    yield from _load(rounds)
    memory: list[float] = []
    wakeups: list[float] = []
    for _ in range(max(1, rounds // 3)):
        with kernel() as measured:
            measured.execute("%run_timed 5 true")
            time.sleep(1)
            helpers = measured.helpers()
            assert len(helpers) == 2, helpers
            memory.append(sum(_pss_mb(helper.pid) for helper in helpers))
            before = sum(sum(helper.num_ctx_switches()) for helper in helpers)
            time.sleep(max(2, int(10 * share)))
            wakeups.append(float(sum(sum(helper.num_ctx_switches()) for helper in helpers) - before))
    yield Figure("launcher and spare guard at rest, PSS", "MB", {OURS: memory}, (Goal(15, at="worst"),))
    yield Figure("their wakeups in 10 s at rest", "wakeups", {OURS: wakeups}, (Goal(0, at="worst"),))
    with kernel() as measured:
        measured.execute(WATCH)
        measured.execute("%run_timed 5 true")  # this starts launcher and guard
        for count in (3, 500):
            used = watching_percent(measured, count, max(4, int(20 * share)))
            name = f"the guard's processor time for {count} sleeping processes, with live status"
            yield Figure(name, "% of one", {OURS: [used]}, (Goal(1),))


def _load(rounds: int) -> Iterator[Figure]:
    importing: list[float] = []
    loading: list[float] = []
    for _ in range(rounds):
        with kernel(loaded=False) as fresh:
            took = "import time; t = time.perf_counter(); {}; took = (time.perf_counter() - t) * 1000"
            fresh.execute(took.format("import ipython_pgtimeout, ipython_pgtimeout.magics.extension"))
            importing.append(float(fresh.value("took")))
            fresh.execute(took.format("get_ipython().run_line_magic('load_ext', 'ipython_pgtimeout')"))
            loading.append(float(fresh.value("took")))
    yield Figure("importing the extension in a kernel", "ms", {OURS: importing})
    yield Figure("`%load_ext` beyond importing", "ms", {OURS: loading}, (Goal(30),))


def _pss_mb(pid: int) -> float:
    """The proportional set size, in which a shared page is divided among its users: proc(5), smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def watching_percent(measured: Kernel, count: int, seconds: int, options: str = "") -> float:
    """What the guard takes meanwhile for so many processes that sleep."""
    measured.execute(f"costs = []; watcher = threading.Thread(target=watch, args=({seconds}, costs)); watcher.start()")
    measured.execute(f"%%timeout_shell {options} 100\nfor n in {{1..{count - 1}}}; do sleep {seconds} & done; wait")
    measured.execute("watcher.join()")
    return 100 * float(measured.value("costs[0]")) / seconds
