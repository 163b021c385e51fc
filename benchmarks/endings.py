"""How exactly a deadline is kept, and how long it takes until everything is gone.

Every process of a command holds a FIFO open. Its end of file shows at once that the last of them has ended. A walk of
the process table would disturb what is measured.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .figures import OURS, Figure, Goal
from .kernels import Kernel, in_turn, kernel

DEADLINE_S = 0.25
ARRIVAL = """\
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
signal.sigwait([signal.SIGTERM])
open(sys.argv[1], "w").write(str(time.time()))
"""
HOG = """\
def hog(until):
    import time
    time.sleep(0.05)
    while time.time() < until: sum(range(1000))
"""
TREE = """\
import os, signal, sys
held = os.open(sys.argv[1], os.O_WRONLY)
signal.signal(signal.SIGINT, signal.SIG_DFL)
for _ in range(int(sys.argv[2]) - 1):
    if not os.fork():
        if len(sys.argv) > 3:
            os.setsid()
        os.write(held, b"+")
        while True: signal.pause()
os.write(held, b"+")
while True: signal.pause()
"""


def measure(share: float) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        with kernel() as measured:
            measured.execute(f"import subprocess, threading, time\n{HOG}")
            yield from _overshoots(measured, Path(folder), max(5, int(120 * share)))
        with kernel() as measured:
            yield from _times_until_gone(measured, Path(folder), max(3, int(20 * share)))


# -- deadlines --------------------------------------------------------------------------------------------


def _overshoots(measured: Kernel, folder: Path, rounds: int) -> Iterator[Figure]:
    """How late SIGTERM arrives, by the clock of the child. The deadline counts from the user's call."""
    program, arrived = folder / "arrival.py", folder / "arrived"
    program.write_text(ARRIVAL)
    child = f"{sys.executable} -S -E {program} {arrived}"
    calls = {
        OURS: f"get_ipython().run_line_magic('run_timed', '--no-raise --no-progress {DEADLINE_S} exec {child}')",
        "GNU `timeout`": f"subprocess.run(['timeout', '{DEADLINE_S}', *{child.split()!r}])",
    }

    def overshoot_ms(name: str, before: str = "", stopped: bool = False) -> float:
        identity = measured.submit(f"{before}\nstarted = time.time(); {calls[name]};")
        if stopped:
            time.sleep(0.08)
            measured.process.send_signal(signal.SIGSTOP)
        while not (arrived.exists() and (at := arrived.read_text())):
            time.sleep(0.001)
        if stopped:
            measured.process.send_signal(signal.SIGCONT)
        measured.finish(identity)
        arrived.unlink()
        return (float(at) - float(measured.value("started")) - DEADLINE_S) * 1000

    hogging = f"threading.Thread(target=hog, args=(time.time() + {DEADLINE_S + 0.1},)).start()"
    for what, arguments in (
        ("when the machine is idle", {}),
        ("while a thread in the kernel hogs the GIL", {"before": hogging}),
        ("while the kernel is stopped", {"stopped": True}),
    ):
        contenders = {name: partial(overshoot_ms, name, **arguments) for name in calls}
        samples = in_turn(contenders, rounds)
        yield Figure(f"SIGTERM later than its deadline, {what}", "ms", samples, (Goal(5, at="p99"),))


# -- everything gone --------------------------------------------------------------------------------------


def _times_until_gone(measured: Kernel, folder: Path, rounds: int) -> Iterator[Figure]:
    tree = folder / "tree.py"
    tree.write_text(TREE)
    script = f"exec {sys.executable} -S -E {tree} {{fifo}} {{count}}"
    gone_ms = partial(_gone_ms, measured, folder)
    ten = script.replace("{count}", "10")
    contenders = {OURS: partial(gone_ms, f"%%timeout_shell 60\n{ten}", 10), "`!`": partial(gone_ms, f"!{ten}", 10)}
    yield Figure("interrupt until a tree of 10 is gone", "ms", in_turn(contenders, rounds), (Goal(50),))
    for own in ("", " own"):
        sizes = (10, 100, 1000, 3000)
        kill = {
            size: partial(gone_ms, f"%%timeout_shell -k 0 60\n{script.replace('{count}', str(size))}{own}", size)
            for size in sizes
        }
        times = in_turn({str(size): once for size, once in kill.items()}, max(3, rounds // 4))
        where = "each in a session of its own" if own else "in one group"
        for size in sizes:
            goals = (Goal(0.3 * size),) if size >= 1000 else ()
            yield Figure(
                f"SIGKILL to {size} processes, {where}, until all are gone", "ms", {OURS: times[str(size)]}, goals
            )


def _gone_ms(measured: Kernel, folder: Path, code: str, count: int) -> float:
    fifo = folder / "held"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        identity = measured.submit(code.replace("{fifo}", str(fifo)))
        ready = 0
        while ready < count:
            select.select([reading], [], [])
            with contextlib.suppress(BlockingIOError):
                ready += len(os.read(reading, 4096))
            time.sleep(0.001)
        time.sleep(0.2)  # let the start end completely, which is not to be measured
        started = time.perf_counter()
        measured.interrupt()
        poller = select.poll()
        poller.register(reading, 0)  # only the hang-up: no process has it open any more
        assert poller.poll(20_000), "some processes are still there"
        taken = time.perf_counter() - started
        measured.finish(identity)
        return taken * 1000
    finally:
        os.close(reading)
        fifo.unlink()
