"""Commands leave nothing in the kernel and its helpers. The tests read the process table, from outside the kernel."""

from __future__ import annotations

import ast
import contextlib
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
    """What a kernel, its launcher and its guards hold. Commands may not add to it."""

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
        _count_fds(process, len(kernel.guards())),
        process.num_threads(),
        _children(process),
        launcher.num_fds(),
        launcher.num_threads(),
        _children(launcher),
        tuple(guard.num_fds() for guard in kernel.guards()),
        tuple(guard.num_threads() for guard in kernel.guards()),
    )


def _count_fds(process: psutil.Process, guards: int) -> int:
    """The descriptors of the kernel. Those for guards' processes are counted apart: of an idle guard it has one only
    after it has read that the guard is ready."""
    links = []
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(path.readlink()))
    pidfds = sum("pidfd" in link for link in links)
    assert pidfds <= guards, links
    return len(links) - pidfds


def settled_census(kernel: Kernel) -> Census:
    """The census once every ending guard is gone: the launcher's only child is the idle guard."""
    assert wait_until(lambda: census(kernel).launcher_children == ("pgtimeout-guard sleeping",), 5), census(kernel)
    return census(kernel)


def _children(parent: psutil.Process) -> tuple[str, ...]:
    """Names and states. Zombies have a name too, so they are included."""
    return tuple(sorted(f"{child.name()} {child.status()}" for child in parent.children()))


def assert_settles(kernel: Kernel, before: Census) -> None:
    wait_until(lambda: census(kernel) == before, 5)
    assert census(kernel) == before


def unshared_bytes(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


@pytest.mark.alone
def test_a_thousand_commands_leave_nothing_and_use_no_more_memory(fresh_kernel: Kernel) -> None:
    loop = "for _ in range({times}): " + RUN.format(line="10 echo x")
    fresh_kernel.run(loop.format(times=300))  # caches, arenas and stacks fill once
    before = settled_census(fresh_kernel)
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
    before = settled_census(kernel)
    kernel.run(f"for _ in range(10): {RUN.format(line=line)}")
    assert_settles(kernel, before)


def test_unloading_leaves_no_helper_and_no_descriptor(fresh_kernel: Kernel) -> None:
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


def test_interrupts_at_any_moment_leave_nothing(fresh_kernel: Kernel, mark: str, tmp_path: Path) -> None:
    """Interrupts come at random moments, several in one command. Each command is interrupted or ends normally."""
    times, calm, over, sent = 200, tmp_path / "calm", threading.Event(), 0
    fresh_kernel.run("for _ in range(50): " + RUN.format(line="10 true"))
    before = settled_census(fresh_kernel)
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
