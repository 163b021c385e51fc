"""Throughput and cost of output, against the peers, in one run: `python benchmarks/output.py [--quick]`.

Prints: 50 MB of 79-column lines through ours, `%%bash`, `!`, a print loop and the kernel's own print limit;
how fast `yes` is drained; what the kernel's memory grows by; the time from a child's write to its message;
the messages sent.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.manager import start_new_kernel

LINE = "x" * 78 + "\n"


@dataclass
class Cell:
    """What one cell took, and its stream messages with the time each arrived."""

    seconds: float = 0.0
    messages: list[tuple[float, str]] = field(default_factory=list)


def execute(client: Any, code: str) -> Cell:
    cell = Cell()

    def note(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            cell.messages.append((time.time(), message["content"]["text"]))

    started = time.perf_counter()
    client.execute_interactive(code, output_hook=note, timeout=300)
    cell.seconds = time.perf_counter() - started
    return cell


def throughput(client: Any, megabytes: int) -> None:
    lines = megabytes * 1_000_000 // len(LINE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines")
        path.write_text(LINE * lines)
        execute(client, f"block = {LINE!r} * {1_000_000 // len(LINE)}\nimport sys")
        few = lines // 50  # it would take minutes
        rows = {
            "print limit (1 MB writes)": (f"for _ in range({megabytes}): n = sys.stdout.write(block)", lines),
            "%%timeout_shell --max-output inf": (f"%%timeout_shell --max-output inf 200\ncat {path}", lines),
            "%%timeout_shell": (f"%%timeout_shell 200\ncat {path}", lines),
            "!": (f"!cat {path}", lines),
            "print loop, a fifth": (f"for _ in range({lines // 5}): print({LINE.rstrip()!r})", lines // 5),
            "%%bash, a fiftieth": (f"%%bash\nhead -n {few} {path}", few),
        }
        rates: dict[str, list[float]] = {name: [] for name in rows}
        sent: dict[str, int] = {}
        for _ in range(3):
            for name, (code, count) in rows.items():
                cell = execute(client, code)
                rates[name].append(count * len(LINE) / 1e6 / cell.seconds)
                sent[name] = len(cell.messages)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    limit, bash = medians["print limit (1 MB writes)"], medians["%%bash, a fiftieth"]
    print(f"{megabytes} MB of {len(LINE)}-byte lines, median of 3")
    for name, rate in medians.items():
        ratios = f"{rate / limit:5.2f} x limit {rate / bash:6.0f} x %%bash"
        print(f"  {name:34} {rate:8.1f} MB/s {ratios} {sent[name]:6} messages")


def drain(client: Any, pid: int, seconds: int) -> None:
    kernel = psutil.Process(pid)
    execute(client, "%run_timed 5 seq 300000")
    before = kernel.memory_info().rss
    execute(client, f"%%timeout_shell --no-raise --result r {seconds}\nyes")
    grown = kernel.memory_info().rss - before
    ours = float(execute(client, "print(r.stdout_bytes / r.duration / 1e6)").messages[0][1])
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    cat = subprocess.Popen(["cat"], stdin=yes.stdout, stdout=subprocess.DEVNULL)
    assert yes.stdout is not None
    yes.stdout.close()
    time.sleep(seconds)
    through = psutil.Process(yes.pid).io_counters().write_chars / seconds / 1e6
    yes.kill()
    yes.wait()
    cat.wait()
    print(f"`yes` for {seconds} s: {ours:.0f} MB/s drained, `yes | cat >/dev/null` {through:.0f} MB/s")
    print(f"  ratio {ours / through:.2f}; the kernel's RSS grew by {grown / 1e6:.1f} MB")


def latency(client: Any, rounds: int) -> None:
    code = f"import time\nfor _ in range({rounds}):\n    time.sleep(0.15)\n    print(f'<{{time.time()}}>', flush=True)"
    cell = execute(client, f'%%timeout_shell 100\n{sys.executable} -S -E -c "{code}"')
    delays_ms = [
        (arrived - float(written)) * 1000 for arrived, text in cell.messages for written in re.findall("<(.*?)>", text)
    ]
    median, worst = statistics.median(delays_ms), max(delays_ms)
    print(f"first byte after silence: median {median:.1f} ms, worst of {len(delays_ms)} {worst:.1f} ms")
    bar = "import time\nfor n in range(10000):\n    print(f'\\r{n}', end='', flush=True); time.sleep(0.0005)"
    cell = execute(client, f'%%timeout_shell 100\n{sys.executable} -S -E -c "{bar}"')
    print(f"progress bar of 10,000 updates in {cell.seconds:.1f} s: {len(cell.messages)} messages")


def main() -> None:
    quick = "--quick" in sys.argv
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        execute(client, "%load_ext ipython_pgtimeout")
        throughput(client, 10 if quick else 50)
        drain(client, int(execute(client, "import os; print(os.getpid())").messages[0][1]), 2 if quick else 10)
        latency(client, 10 if quick else 40)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
