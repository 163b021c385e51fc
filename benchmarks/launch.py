"""What a command costs: its launch, its interrupt, and the helpers at rest. Everything in a real kernel.

    python benchmarks/launch.py [--quick]

Launch: the round trip of a cell that runs `true`, less that of `pass`, in interleaved rounds, so that what
else the machine does hits all alike. Interrupt: from SIGINT at the kernel until none of the command's
processes is left in the process table. Memory: PSS, in which a page that is shared counts in parts.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.manager import start_new_kernel

CELLS = {
    "pass": "pass",
    "%run_timed 5 true": "%run_timed 5 true",
    "r = %run_timed 5 true": "r = %run_timed 5 true",
    "%%timeout_shell 5": "%%timeout_shell 5\ntrue",
    "%%bash": "%%bash\ntrue",
    "subprocess.run": "import subprocess; r = subprocess.run(['bash', '-c', 'true'], capture_output=True)",
    "!true": "!true",
}
INTERRUPTED = {
    "one process": "exec sleep 1000",
    "10 in the group": "for i in $(seq 10); do sleep 1000 & done; wait",
    "10 in sessions of their own": "for i in $(seq 10); do setsid sleep 1000 & done; wait",
    "one that ignores INT and TERM (-k 0.2)": "trap '' INT TERM; while :; do sleep 1000; done",
}
SETTLE_S = 0.02
"""Between rounds, as between cells in a notebook: the next guard is forked meanwhile."""


@contextmanager
def kernel() -> Iterator[tuple[Any, psutil.Process, Any]]:
    """A kernel with the extension loaded: its manager, its process and a client."""
    with tempfile.TemporaryDirectory() as directory:
        manager, client = start_new_kernel(env={**os.environ, "IPYTHONDIR": directory})
        try:
            provisioner: Any = manager.provisioner
            process = psutil.Process(provisioner.pid)
            run(client, "%load_ext ipython_pgtimeout")
            yield manager, process, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def run(client: Any, code: str) -> float:
    """Seconds from the request to the kernel's being idle again, with all output received."""
    started = time.perf_counter()
    reply = client.execute_interactive(code, output_hook=lambda _message: None, timeout=60, store_history=False)
    seconds = time.perf_counter() - started
    assert reply["content"]["status"] == "ok", reply["content"]
    return seconds


def launch_seconds(client: Any, rounds: int) -> dict[str, list[float]]:
    for code in CELLS.values():
        run(client, code)
    times: dict[str, list[float]] = {name: [] for name in CELLS}
    for _ in range(rounds):
        for name, code in CELLS.items():
            time.sleep(SETTLE_S)
            times[name].append(run(client, code))
    return times


def end_seconds(client: Any, kernel_process: psutil.Process, script: str) -> float:
    """From SIGINT until the command's processes are gone; the cell's own end is awaited too."""
    before = {child.pid for child in kernel_process.children(recursive=True)}
    identity = client.execute(f"%%timeout_shell -k 0.2 60\n{script}", store_history=False)
    wanted = script.count("seq 10") * 10 or 1
    processes: list[psutil.Process] = []
    until = time.monotonic() + 20
    while sum(_is_sleep(process) for process in processes) < wanted:
        assert time.monotonic() < until, processes
        processes = [child for child in kernel_process.children(recursive=True) if child.pid not in before]
    own = [process for process in processes if not _is_helper(process)]
    started = time.perf_counter()
    kernel_process.send_signal(signal.SIGINT)
    while any(_is_alive(process) for process in own):
        assert time.monotonic() < until, own
    seconds = time.perf_counter() - started
    while client.get_shell_msg(timeout=20)["parent_header"].get("msg_id") != identity:
        pass
    return seconds


def _is_sleep(process: psutil.Process) -> bool:
    try:
        return process.name() == "sleep"
    except psutil.Error:
        return False


def _is_helper(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("pgtimeout")
    except psutil.Error:
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_kib(kernel_process: psutil.Process) -> dict[str, int]:
    """PSS of the helpers while nothing runs."""
    helpers = [child for child in kernel_process.children(recursive=True) if _is_helper(child)]
    return {f"{helper.name()} ({helper.pid})": _pss_kib(helper.pid) for helper in helpers}


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a command costs")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    rounds = 20 if parser.parse_args().quick else 200
    versions = ", ".join(f"{name} {version(name)}" for name in ("ipython", "ipykernel"))
    print(f"Python {platform.python_version()}, {versions}, {os.cpu_count()} cores, {rounds} rounds\n")
    with kernel() as (_, process, client):
        times = launch_seconds(client, rounds)
        base = statistics.median(times["pass"])
        print(f"{'launch of true, ms':42} {'median':>8} {'net':>8} {'90 %':>8}")
        for name, seconds in times.items():
            median, high = statistics.median(seconds), statistics.quantiles(seconds, n=10)[-1]
            print(f"{name:42} {median * 1e3:8.2f} {(median - base) * 1e3:8.2f} {high * 1e3:8.2f}")
        print(f"\n{'SIGINT to all gone, ms':42} {'median':>8} {'':8} {'worst':>8}")
        for name, script in INTERRUPTED.items():
            ends = [end_seconds(client, process, script) for _ in range(max(3, rounds // 10))]
            print(f"{name:42} {statistics.median(ends) * 1e3:8.2f} {'':8} {max(ends) * 1e3:8.2f}")
        print(f"\n{'at rest, PSS':42} {'KiB':>8}")
        for name, kib in memory_kib(process).items():
            print(f"{name:42} {kib:8}")
        print(f"{'the kernel itself':42} {_pss_kib(process.pid):8}")


if __name__ == "__main__":
    main()
