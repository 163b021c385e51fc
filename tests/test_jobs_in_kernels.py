"""Jobs and `await run_async` in a kernel: the stop button, and every way in which a kernel ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .jobs import NASTY, nasty
from .kernels import LOAD, Kernel
from .tallies import SURVIVORS, Combination
from .watching import survivors, wait_until, wait_until_gone

IMPORT = "import asyncio, os, time; from ipython_pgtimeout import run, run_async, start"
SOON_S = 5.0
CANCELLED = "\x1b[31mCancelledError\x1b[0m: "


@pytest.fixture(scope="module", autouse=True)
def _with_jobs(kernel: Kernel) -> None:
    kernel.run(IMPORT)


def started(kernel: Kernel, mark: str, name: str = "job") -> int:
    """Start the worst programs as a job. How many processes there are, once all are ready and those that only start
    others are gone: the number stays the same for some looks."""
    kernel.run(f"{name} = start({nasty(mark)!r}, 60, kill_after=0.3)")
    kernel.run(f"{name}.wait_for('(?s)' + 'ready.*' * {len(NASTY)}, timeout=20)")
    there: list[int] = []

    def stays_the_same() -> bool:
        there.append(len(survivors(mark)))
        return len(there) >= 5 and len(set(there[-5:])) == 1

    assert wait_until(stays_the_same, 20), there
    assert there[-1] >= len(NASTY)
    return there[-1]


def gone_after_s(mark: str, since: float, within_s: float = 10.0) -> float:
    assert wait_until(lambda: not psutil_marked(mark), within_s), survivors(mark)
    return time.monotonic() - since


def psutil_marked(mark: str) -> bool:
    """Quicker than `marked`: the command's own argument, in the process table's command lines."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                if mark.encode() in cmdline.read():
                    return True
        except OSError:
            continue
    return False


# -- the stop button --------------------------------------------------------------------------------------------


def interrupted_run_async(kernel: Kernel, mark: str) -> tuple[float, float]:
    """Seconds from the interrupt until the command is gone, and until the cell is over."""
    cell = kernel.submit(
        "print('begins', flush=True)\n"
        f"await run_async('echo ready; : {mark}; sleep 60; true', 90, echo=True, kill_after=0.5)\n"
        "print('goes on')"
    )
    kernel.wait_for_text(cell, "ready")
    assert psutil_marked(mark)
    since = time.monotonic()
    kernel.interrupt()
    gone_s = gone_after_s(mark, since)
    kernel.wait(cell)
    assert cell.status == "error"
    assert cell.ename == "CancelledError"
    assert cell.traceback.startswith(f"{CANCELLED}interrupted: SIGINT to "), cell.traceback
    assert "\n" not in cell.traceback
    assert "goes on" not in cell.stdout
    return gone_s, time.monotonic() - since


AT_ONCE_S = 1.0
"""Far less than until something else wakes an event loop that the interrupt has not woken: see the control."""


def test_the_stop_button_ends_an_awaited_command_at_once(kernel: Kernel, mark: str) -> None:
    for _ in range(3):
        gone_s, _ = interrupted_run_async(kernel, mark)
        if gone_s < AT_ONCE_S:
            break
    assert gone_s < AT_ONCE_S
    assert kernel.run("1 + 1").result == "2"
    assert kernel.run("(await run_async('echo again', 20)).stdout").result == "'again\\n'"


def test_without_a_signal_descriptor_the_stop_button_has_to_wait(fresh_kernel: Kernel, mark: str) -> None:
    """The negative control: ipykernel, issue 881. Something else must wake its event loop."""
    fresh_kernel.run(IMPORT)
    fresh_kernel.run("from ipython_pgtimeout.caller.interrupts import WakeUp\nWakeUp.install = lambda wake_up: None")
    cell = fresh_kernel.submit(
        "asyncio.get_running_loop().call_later(4.0, print, 'wakes')\n"
        f"await run_async('echo ready; : {mark}; sleep 60; true', 90, echo=True)"
    )
    fresh_kernel.wait_for_text(cell, "ready")
    since = time.monotonic()
    fresh_kernel.interrupt()
    assert gone_after_s(mark, since) > AT_ONCE_S
    fresh_kernel.wait(cell)
    assert cell.ename == "CancelledError"


def test_an_interrupt_stops_a_loop_of_awaited_commands(kernel: Kernel, mark: str) -> None:
    cell = kernel.submit(
        "for number in range(100):\n"
        f"    await run_async(f'echo ready {{number}}; : {mark}; sleep 60; true', 90, echo=True)"
    )
    kernel.wait_for_text(cell, "ready 0")
    kernel.interrupt()
    kernel.wait(cell, 10)
    assert cell.ename == "CancelledError"
    assert "ready 1" not in cell.stdout
    assert not wait_until_gone(mark, 1)


def test_an_interrupt_of_a_wait_leaves_the_job_going(kernel: Kernel, mark: str) -> None:
    started(kernel, mark)
    for wait, said in (
        ("await job", f"{CANCELLED}waited no longer; the job goes on"),
        ("job.wait()", "KeyboardInterrupt"),
        ("[text async for text in job]", ""),
        ("job.wait_for('never')", "KeyboardInterrupt"),
        ("for text in job: pass", "KeyboardInterrupt"),
    ):
        cell = kernel.submit(f"print('begins', flush=True)\n{wait}")
        kernel.wait_for_text(cell, "begins")
        time.sleep(0.1)
        kernel.interrupt()
        kernel.wait(cell, 5)
        assert cell.status == "error", cell
        assert said in cell.traceback
        assert kernel.value("job.poll()") == ""
    assert survivors(mark)
    kernel.run("job.terminate(); job.wait(10)")
    assert not survivors(mark)


@pytest.mark.parametrize("cell", ["%%timeout_shell 60\necho begins; sleep 60", "print('begins'); time.sleep(60)"])
def test_an_interrupt_of_another_cell_does_not_touch_a_job(kernel: Kernel, mark: str, cell: str) -> None:
    there = started(kernel, mark)
    reply = kernel.submit(cell)
    kernel.wait_for_text(reply, "begins")
    kernel.interrupt()
    kernel.wait(reply, 10)
    assert reply.ename == "KeyboardInterrupt"
    # Not at once: some of the programs start a process after the other.
    assert wait_until(lambda: len(survivors(mark)) >= there, 10), survivors(mark)
    assert kernel.value("job.poll(), job.is_over") == "(None, False)"
    kernel.run("job.kill(); job.wait(10)")
    assert not survivors(mark)


# -- every way in which a job ends with its kernel --------------------------------------------------------------


def by_sigkill(kernel: Kernel) -> None:
    kernel.kill9()


def by_restart(kernel: Kernel) -> None:
    kernel.restart(now=False)


def by_restart_now(kernel: Kernel) -> None:
    kernel.restart(now=True)


def by_shutdown(kernel: Kernel) -> None:
    kernel.shutdown()


def by_sigkill_of_a_kernel_with_a_child(kernel: Kernel) -> None:
    """Python does not know of the child, which has copies of all descriptors."""
    kernel.run("import ctypes, signal\nif not (child := ctypes.PyDLL(None).fork()):\n    while True: signal.pause()")
    child = int(kernel.value("child"))
    try:
        kernel.kill9()
        time.sleep(0.1)
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)


ENDINGS = [by_sigkill, by_restart, by_restart_now, by_shutdown, by_sigkill_of_a_kernel_with_a_child]


@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__.removeprefix("by_"))
def test_no_job_survives_its_kernel(fresh_kernel: Kernel, mark: str, end: Callable[[Kernel], None]) -> None:
    fresh_kernel.run(IMPORT)
    there = started(fresh_kernel, mark)
    end(fresh_kernel)
    record(there, wait_until_gone(mark, SOON_S), end.__name__.removeprefix("by_") + ", a job")


def record(there: int, left: list[str], ending: str) -> None:
    for number, name in enumerate(NASTY):
        once = number == 0  # processes are counted for the whole batch
        SURVIVORS.append(Combination(name, ending, there * once, len(left) * once))
    assert not left, left


def test_unloading_the_extension_ends_all_jobs_before_it_returns(kernel: Kernel, mark: str) -> None:
    there = started(kernel, mark) + started(kernel, mark, "other")
    kernel.run("%unload_ext ipython_pgtimeout")
    record(there, survivors(mark), "unload, jobs")
    try:
        assert kernel.value("job.result.reason, other.result.reason") == "('terminated', 'terminated')"
        assert kernel.value("start('echo on', 20).wait()") == "0"
    finally:
        kernel.run(LOAD)


def test_a_with_block_that_an_exception_leaves_ends_its_job(kernel: Kernel, mark: str) -> None:
    cell = kernel.submit(
        f"with start({nasty(mark)!r}, 60, kill_after=0.3) as job:\n"
        f"    job.wait_for('(?s)' + 'ready.*' * {len(NASTY)}, timeout=20)\n"
        "    raise LookupError"
    )
    kernel.wait(cell)
    record(len(NASTY), survivors(mark), "with block, a job")
    assert cell.ename == "LookupError"


def test_an_interrupt_of_a_with_block_interrupts_its_job(kernel: Kernel, mark: str) -> None:
    cell = kernel.submit(
        f"with start({nasty(mark)!r}, 60, kill_after=0.3) as job:\n"
        f"    job.wait_for('(?s)' + 'ready.*' * {len(NASTY)}, timeout=20)\n"
        "    print('begins', flush=True)\n"
        "    time.sleep(60)"
    )
    kernel.wait_for_text(cell, "begins")
    kernel.interrupt()
    kernel.wait(cell, 10)
    assert cell.ename == "KeyboardInterrupt"
    record(len(NASTY), survivors(mark), "interrupt of a with block, a job")
    assert kernel.value("job.result.reason") == "'interrupted'"


def test_a_server_is_started_used_by_the_next_cell_and_ended(kernel: Kernel, mark: str, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("here")
    command = f"{sys.executable} -u -m http.server 0 --bind 127.0.0.1; : {mark}"
    kernel.run(f"server = start({command!r}, 60, cwd={str(tmp_path)!r})")
    kernel.run(r"port = server.wait_for(r'port (\d+)', timeout='20s')[1]")
    kernel.run("import urllib.request")
    assert kernel.value("urllib.request.urlopen(f'http://127.0.0.1:{port}/page', timeout=10).read()") == "b'here'"
    kernel.run("server.terminate(); server.wait(10)")
    assert not psutil_marked(mark)
