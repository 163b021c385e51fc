"""No other process gets a signal, even where pids are few and are used again at once.

At 0.1 it happened with 330 to 1,000 pids and 40 programs that fork without pause: SIGTERM to other processes, and once
SIGKILL.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from .isolation import fault_program, run_isolated
from .tampering import tampering_cell

pytestmark = pytest.mark.alone  # its programs fork without pause

# The delay makes it likely that a process that has been found is gone, and its pid another's, before the signal.
SLOW = """\
import os, time
real = os.getpgid
def getpgid(pid):
    time.sleep(0.005)
    return real(pid)
os.getpgid = getpgid
"""
WITHOUT_PINS = "import ipython_pgtimeout.shared.walk as w; w._open_pidfd = lambda pid: -1\n"
MEETS = """
import subprocess
with open("/proc/sys/kernel/pid_max", "w") as limit:
    limit.write("400")
bystanders = subprocess.Popen([{bystanders!r}, "40"], stdout=subprocess.PIPE, bufsize=0)
os.set_blocking(bystanders.stdout.fileno(), False)
hits, commands, until = "", 0, time.monotonic() + {seconds}
while time.monotonic() < until and not hits:
    run({command!r}, 0.1, kill_after=0.02)
    commands += 1
    hits += (bystanders.stdout.read() or b"").decode()
told(hits=hits.split(), commands=commands)
"""


def _commands_and_hits(tampering: str, seconds: float, directory: Path) -> tuple[int, list[str]]:
    meets = MEETS.format(
        bystanders=fault_program("bystanders.c", directory),
        command=fault_program("short_lives.c", directory),
        seconds=seconds,
    )
    before = Path("/proc/sys/kernel/pid_max").read_text()
    told = run_isolated(tampering_cell(tampering) + meets)
    assert Path("/proc/sys/kernel/pid_max").read_text() == before
    return told["commands"], told["hits"]


@pytest.fixture(autouse=True)
def own_pid_max() -> None:
    """Skips where a PID namespace has no limit of its own: before Linux 6.14 the test would change the machine's."""
    release = platform.release().split("-")[0].split(".")
    if platform.system() != "Linux" or tuple(map(int, release[:2])) < (6, 14):
        pytest.skip("Linux 6.14 is needed")
    if os.geteuid() != 0:
        pytest.skip("only root may set the limit")


def test_no_other_process_gets_a_signal(tmp_path: Path) -> None:
    commands, hits = _commands_and_hits(SLOW, 10, tmp_path)
    assert commands > 5
    assert hits == []


def test_without_pins_other_processes_get_signals(tmp_path: Path) -> None:
    """The negative control. It ends at the first such signal."""
    _, hits = _commands_and_hits(SLOW + WITHOUT_PINS, 30, tmp_path)
    assert hits
