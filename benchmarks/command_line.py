"""``pgtimeout`` and its peers: what a command that does nothing costs, how exact the deadline is, and what is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil

from .endings import ARRIVAL, DEADLINE_S
from .figures import OURS, Figure, Goal
from .kernels import in_turn

GNU = "GNU `timeout`"
WITH_DEADLINE = {OURS: [f"{Path(sys.executable).parent}/pgtimeout"], GNU: ["timeout"]}
PEERS = {
    **{name: [*command, "60"] for name, command in WITH_DEADLINE.items()},
    "`timeout -k`": ["timeout", "-k", "0.5", "60"],
    "`setsid -w`": ["setsid", "-w"],
    "tini": ["tini", "-s", "--"],
    "dumb-init": ["dumb-init"],
    "`unshare --kill-child`": ["unshare", "-pf", "--mount-proc", "--kill-child"],
    "`bwrap`": ["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid", "--die-with-parent"],
}
LEAVES = """
setsid sleep 600 &
(trap '' TERM; sleep 600; true) &
(setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 &)
sleep 600 &
until [ "$(ps -e -o args= | grep -c '^sleep 600')" -ge 5 ]; do sleep 0.05; done
kill -STOP $!
echo ready
wait
"""
"""A session of its own, one that ignores SIGTERM, a daemon, and one that is stopped."""
ENDS_WITHIN_S = 5.0


def measure(share: float) -> Iterator[Figure]:
    peers = {name: command for name, command in PEERS.items() if name == OURS or shutil.which(command[0])}
    starts = {name: partial(_start_ms, [*command, "true"]) for name, command in peers.items()}
    starts["`python3 -I -S -c pass`"] = partial(_start_ms, [sys.executable, "-I", "-S", "-c", "pass"])
    yield Figure("a command of `true`, from start to end", "ms", in_turn(starts, int(100 * share)), (Goal(25),))
    with tempfile.TemporaryDirectory() as folder:
        timely = {name: partial(_lateness_ms, command, Path(folder)) for name, command in WITH_DEADLINE.items()}
        samples = in_turn(timely, int(60 * share))
    yield Figure("SIGTERM later than its deadline, counted from the start of the program", "ms", samples)
    for name, number in (("SIGTERM", signal.SIGTERM), ("SIGKILL", signal.SIGKILL)):
        samples = {name: [_left(command, number)] for name, command in peers.items()}
        yield Figure(f"processes left after {name} to it, of 8", "processes", samples, (Goal(0, at="worst"),))


def _start_ms(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - started) * 1000


def _lateness_ms(command: Sequence[str], folder: Path) -> float:
    program, arrived = folder / "arrival.py", folder / "arrived"
    program.write_text(ARRIVAL)
    started = time.time()
    subprocess.run([*command, str(DEADLINE_S), sys.executable, "-S", "-E", program, arrived], check=False)
    return (float(arrived.read_text()) - started - DEADLINE_S) * 1000


def _left(command: Sequence[str], number: int) -> float:
    """How many processes are left when the program has ended by a signal, or has not ended by it for some time."""
    mark = uuid.uuid4().hex
    started = subprocess.Popen(
        [*command, "bash", "-c", LEAVES], stdout=subprocess.PIPE, env={**os.environ, "MARK": mark}
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        started.send_signal(number)
        until = time.monotonic() + ENDS_WITHIN_S
        while (left := _marked(mark)) and time.monotonic() < until:
            time.sleep(0.05)
        return len(left)
    finally:
        while left := _marked(mark):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        started.wait()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
