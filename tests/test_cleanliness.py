"""What commands leave in the kernel and its helpers: nothing. It is read in the process table, from outside."""

from __future__ import annotations

import ast
import os
import random
import signal
import threading
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from .kernels import LOAD, RUN, Kernel
from .watching import survivors, wait_until


class Census(NamedTuple):
    """What a kernel and its launcher hold: what each process that is left may not have more of."""

    kernel_fds: int
    kernel_threads: int
    kernel_children: tuple[str, ...]
    launcher_fds: int
    launcher_threads: int
    launcher_children: tuple[str, ...]
    guard_fds: tuple[int, ...]
    guard_threads: tuple[int, ...]


def census(kernel: Kernel) -> Census:
    process, launcher = psutil.Process(kernel.pid), kernel.launcher()
    return Census(
        process.num_fds(),
        process.num_threads(),
        _names(process),
        launcher.num_fds(),
        launcher.num_threads(),
        _names(launcher),
        tuple(guard.num_fds() for guard in kernel.guards()),
        tuple(guard.num_threads() for guard in kernel.guards()),
    )


def settled(kernel: Kernel) -> Census:
    """The census with no guard on its way out: the launcher's one child is the guard of the next command."""
    assert wait_until(lambda: census(kernel).launcher_children == ("pgtimeout-guard sleeping",), 5), census(kernel)
    return census(kernel)


def _names(parent: psutil.Process) -> tuple[str, ...]:
    """Zombies have a name too, so each shows."""
    return tuple(sorted(f"{child.name()} {child.status()}" for child in parent.children()))


def assert_settles(kernel: Kernel, before: Census) -> None:
    wait_until(lambda: census(kernel) == before, 5)
    assert census(kernel) == before


def unshared_bytes(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


@pytest.mark.alone
def test_a_thousand_commands_leave_nothing(fresh_kernel: Kernel) -> None:
    loop = "for _ in range({times}): " + RUN.format(line="10 echo x")
    fresh_kernel.run(loop.format(times=300))  # caches, arenas and stacks fill once
    before = settled(fresh_kernel)
    processes = [psutil.Process(fresh_kernel.pid), fresh_kernel.launcher(), *fresh_kernel.guards()]
    bytes_before = [unshared_bytes(process) for process in processes]
    reply = fresh_kernel.run(loop.format(times=1000), timeout_s=50)
    assert reply.stdout == "x\n" * 1000
    assert_settles(fresh_kernel, before)
    grown = [unshared_bytes(process) - then for process, then in zip(processes, bytes_before, strict=True)]
    assert all(growth < 1_500_000 for growth in grown), f"kernel, launcher and guard have grown by {grown} bytes"
    assert fresh_kernel.value("_exit_code") == "0"


@pytest.mark.parametrize(
    "line",
    [
        "--no-raise 0.1 sleep 1000",
        "--no-raise --kill-after 0.1 0.1 sh -c \"trap '' TERM; while :; do sleep 1; done\"",
        "--no-raise 10 exit 3",
        "--no-raise 10 setsid sleep 0.01 & exit",
        "--no-raise --leftovers kill 10 sleep 1000 &",
    ],
    ids=["timeout", "killed", "failed", "orphan", "leftovers"],
)
def test_other_endings_leave_nothing(kernel: Kernel, line: str) -> None:
    kernel.run(RUN.format(line=line))
    before = settled(kernel)
    kernel.run(f"for _ in range(10): {RUN.format(line=line)}")
    assert_settles(kernel, before)


def test_unload_leaves_nothing(fresh_kernel: Kernel) -> None:
    process = psutil.Process(fresh_kernel.pid)
    fresh_kernel.run("%%timeout_shell 10\ntrue")
    fresh_kernel.run("%unload_ext ipython_pgtimeout")
    before = process.num_fds()
    fresh_kernel.run(LOAD)
    fresh_kernel.run("%%timeout_shell 10\ntrue")
    helpers = [fresh_kernel.launcher(), *fresh_kernel.guards()]
    fresh_kernel.run("%unload_ext ipython_pgtimeout")
    assert wait_until(lambda: not any(helper.is_running() for helper in helpers), 5)
    assert wait_until(lambda: process.num_fds() == before, 5), (process.num_fds(), before)
    assert process.children() == []


STORM = """
import collections, os, signal, time
from ipython_pgtimeout import run
outcomes = collections.Counter()
inside = False
def raise_once(number, frame):
    global inside
    if inside:
        inside = False
        raise KeyboardInterrupt
previous = signal.signal(signal.SIGINT, raise_once)
lines = ["--no-raise 20 : {mark}; sleep 0.03 & sleep 0.03", "--no-raise 20 : {mark}; trap '' INT; sleep 0.03; :"]
print("storm begins", flush=True)
for number in range({times}):
    try:
        try:
            inside = True
            outcome = get_ipython().run_line_magic("run_timed", lines[number % 2]).reason
        except KeyboardInterrupt:
            outcome = "KeyboardInterrupt"
        inside = False
    except KeyboardInterrupt:
        outcome = "KeyboardInterrupt"
    except BaseException as error:
        outcome = repr(error)
    inside = False
    outcomes[outcome] += 1
put_back = signal.getsignal(signal.SIGINT) is raise_once
print("storm ends", flush=True)
while not os.path.exists({calm!r}):
    time.sleep(0.01)
signal.signal(signal.SIGINT, previous)
"""


def test_a_storm_of_interrupts(fresh_kernel: Kernel, mark: str, tmp_path: Path) -> None:
    """At any moment, several in one command: each command ends with KeyboardInterrupt or normally."""
    times, calm, over, sent = 200, tmp_path / "calm", threading.Event(), 0
    fresh_kernel.run("for _ in range(50): " + RUN.format(line="10 true"))
    before = settled(fresh_kernel)
    reply = fresh_kernel.submit(STORM.format(times=times, mark=mark, calm=str(calm)))
    fresh_kernel.wait_for_text(reply, "storm begins")

    def storm() -> None:
        nonlocal sent
        while not over.wait(random.choice([0, 0.0005, 0.005, 0.1])):
            os.kill(fresh_kernel.pid, signal.SIGINT)
            sent += 1

    storming = threading.Thread(target=storm)
    storming.start()
    try:
        fresh_kernel.wait_for_text(reply, "storm ends", 50)
    finally:
        over.set()
        storming.join()
        calm.touch()
    fresh_kernel.wait(reply)
    assert reply.status == "ok", reply
    outcomes: dict[str, int] = ast.literal_eval(fresh_kernel.value("dict(outcomes)"))
    assert set(outcomes) <= {"KeyboardInterrupt", "exited"}, outcomes
    assert sum(outcomes.values()) == times
    assert outcomes["KeyboardInterrupt"] > times / 4, f"{sent} interrupts: {outcomes}"
    assert fresh_kernel.value("put_back") == "True"
    assert survivors(mark) == []
    assert_settles(fresh_kernel, before)
    assert fresh_kernel.run("%%timeout_shell 10\necho usable").stdout == "usable\n"
