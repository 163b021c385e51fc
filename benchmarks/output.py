"""Output: how fast it comes, how soon, and what it costs the kernel."""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from .figures import OURS, Figure, Goal
from .kernels import Kernel, in_turn, kernel

LINE = "x" * 78 + "\n"
LIMIT, LOOP = "kernel's print limit (1 MB writes)", "`print` loop"


def measure(share: float) -> Iterator[Figure]:
    with kernel() as measured:
        yield _throughput(measured, max(2, int(50 * share)))
    with kernel() as measured:
        yield from _drain(measured, rounds=max(2, int(5 * share)), seconds=max(1, int(4 * share)))
    with kernel() as measured:
        yield _first_byte(measured, max(5, int(100 * share)))
        yield _messages(measured)


def _throughput(measured: Kernel, megabytes: int) -> Figure:
    """Slow contenders show fewer lines: all lines would take minutes, and the rate is the same."""
    lines = megabytes * 1_000_000 // len(LINE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines")
        path.write_text(LINE * lines)
        measured.execute(f"import subprocess, sys\nblock = {LINE!r} * {1_000_000 // len(LINE)}")
        cells = {
            OURS: (f"%%timeout_shell --max-output inf 200\ncat {path}", 1),
            LIMIT: (f"for _ in range({megabytes}): n = sys.stdout.write(block)", 1),
            "`subprocess.run` and `print`": (
                f"print(subprocess.run(['cat', '{path}'], capture_output=True, text=True).stdout)",
                1,
            ),
            "`%sx` and `print`": (f"r = %sx cat {path}\nprint(r.n)", 1),
            LOOP: (f"for _ in range({lines // 5}): print({LINE.rstrip()!r})", 5),
            "`!`": (f"!head -n {lines // 5} {path}", 5),
            "`%%bash`": (f"%%bash\nhead -n {lines // 50} {path}", 50),
        }

        def rate(code: str, part: int) -> float:
            return lines // part * len(LINE) / 1e6 / measured.execute(code).seconds

        samples = in_turn({name: partial(rate, *cell) for name, cell in cells.items()}, 5)
    goals = (Goal(0.7, LIMIT), Goal(8, "`!`"), Goal(100, "`%%bash`"))
    return Figure(f"{megabytes} MB of {len(LINE)}-byte lines shown", "MB/s", samples, goals, more_is_better=True)


def _drain(measured: Kernel, rounds: int, seconds: int) -> Iterator[Figure]:
    """Output beyond the bound is read and thrown away, as fast as a pipe allows. (IPython 9 keeps what a cell has
    shown. That is 2 MB of the kernel's growth, as for any other output.)"""
    grown_mb: list[float] = []

    def ours() -> float:
        before = measured.process.memory_info().rss
        measured.execute(f"%%timeout_shell --no-raise --no-progress --result r {seconds}\nyes")
        grown_mb.append((measured.process.memory_info().rss - before) / 1e6)
        return float(measured.value("r.stdout_bytes / r.duration / 1e6"))

    peer = "`yes \\| cat >/dev/null`"
    samples = in_turn({OURS: ours, peer: partial(_through_cat, seconds)}, rounds)
    yield Figure("`yes` drained beyond the bound", "MB/s", samples, (Goal(0.5, peer),), more_is_better=True)
    yield Figure("what the kernel's memory grows by meanwhile", "MB", {OURS: grown_mb}, (Goal(20, at="worst"),))


def _through_cat(seconds: int) -> float:
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    cat = subprocess.Popen(["cat"], stdin=yes.stdout, stdout=subprocess.DEVNULL)
    assert yes.stdout is not None
    yes.stdout.close()
    time.sleep(seconds)
    rate = psutil.Process(yes.pid).io_counters().write_chars / seconds / 1e6
    yes.kill()
    yes.wait()
    cat.wait()
    return float(rate)


def _first_byte(measured: Kernel, rounds: int) -> Figure:
    """The time from the child's write, by its own clock, to the arrival of the message at the client."""
    script = 'for n in {1..10}; do sleep 0.12; echo "<$EPOCHREALTIME>"; done'
    cells = {
        OURS: f"%%timeout_shell 100\n{script}",
        "`%%bash`": f"%%bash\n{script}",
        "`!`": f"!bash -c '{script.replace('{', '{{').replace('}', '}}')}'",
    }
    delays_ms: dict[str, list[float]] = {name: [] for name in cells}

    def median_ms(name: str) -> float:
        cell = measured.execute(cells[name])
        of_cell = [
            (at - float(written)) * 1000 for at, text in cell.messages for written in re.findall("<(.*?)>", text)
        ]
        delays_ms[name] += of_cell
        return statistics.median(of_cell)

    contenders: dict[str, Callable[[], float]] = {name: partial(median_ms, name) for name in cells}
    in_turn(contenders, rounds // 10)
    goals = (Goal(10), Goal(30, at="p99"))
    return Figure("the first byte after silence at the client", "ms", delays_ms, goals)


def _messages(measured: Kernel) -> Figure:
    script = "for n in {1..10000}; do printf '\\r%s' $n; if ((n % 20 == 0)); then sleep 0.01; fi; done"
    cells = {OURS: f"%%timeout_shell 100\n{script}", "`%%bash`": f"%%bash\n{script}"}
    counts = {name: [float(len(measured.execute(code).messages))] for name, code in cells.items()}
    return Figure("messages for a progress bar of 10,000 updates", "messages", counts, (Goal(200),))
