"""The cost of a command that does nothing: as a cell, without the time of a cell that runs `pass`, and by `run()`.

In the figures "back to back", each contender runs several times in a row, and only then the next. So the work that it
leaves for the time after its cell counts in its own figure.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import bounded_subprocess

from ipython_pgtimeout import run

from .figures import OURS, Figure, Goal, Samples
from .kernels import Kernel, in_turn, kernel

CELLS = {
    OURS: "%%timeout_shell 5\ntrue",
    "pass": "pass",
    "`%%bash`": "%%bash\ntrue",
    "`subprocess.run`": "r = subprocess.run(['bash', '-c', 'true'], capture_output=True)",
    "bounded_subprocess": "r = bounded_subprocess.run(['bash', '-c', 'true'])",
    "GNU `timeout`": "r = subprocess.run(['timeout', '5', 'bash', '-c', 'true'], capture_output=True)",
    "`%sx`": "r = %sx true",
    "`!`": "!true",
}
SLOW = ("`%sx`", "`!`")
BASH = ["bash", "-c", "true"]
CALLS: dict[str, Callable[[], object]] = {
    OURS: lambda: run("true", 5),
    "`subprocess.run`": lambda: subprocess.run(BASH, capture_output=True),
    "bounded_subprocess": lambda: bounded_subprocess.run(BASH),
    "GNU `timeout`": lambda: subprocess.run(["timeout", "5", *BASH], capture_output=True),
}
IN_A_ROW = 10
PAUSE_S = 0.2


def measure(share: float) -> Iterator[Figure]:
    goals = (Goal(1.0, "`%%bash`"),)
    with kernel() as measured:
        measured.execute("import subprocess, bounded_subprocess")
        cells = {name: partial(_cell_ms, measured, code) for name, code in CELLS.items()}
        quick = {name: partial(_in_a_row, cell) for name, cell in cells.items() if name not in SLOW}
        samples = _net(in_turn(quick, int(60 * share)))
        yield Figure("a cell that runs `true`, net of `pass`, back to back", "ms", samples, goals)
        samples = _net(in_turn(cells, int(60 * share), PAUSE_S))
        yield Figure("the same with 0.2 s between cells", "ms", samples, goals)
    calls = {name: partial(_call_ms, call) for name, call in CALLS.items()}
    samples = in_turn({name: partial(_in_a_row, call) for name, call in calls.items()}, int(60 * share))
    yield Figure("`run()` of `true`, back to back", "ms", samples)
    yield Figure("the same with 0.2 s between calls", "ms", in_turn(calls, int(60 * share), PAUSE_S))


def _cell_ms(measured: Kernel, code: str) -> float:
    return measured.execute(code).seconds * 1000


def _call_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _in_a_row(once_ms: Callable[[], float]) -> float:
    return sum(once_ms() for _ in range(IN_A_ROW)) / IN_A_ROW


def _net(samples: Samples) -> Samples:
    base = statistics.median(samples.pop("pass"))
    return {name: [taken - base for taken in of] for name, of in samples.items()}
