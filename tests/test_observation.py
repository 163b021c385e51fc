"""A look at a process may hang. The deadline, the interrupt and the report do not wait for it.

In version 0.1 they did: one thread kept the deadline and looked at processes, so a look that hung suspended everything.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .kernels import LOAD, Kernel
from .tampering import tampering_cell
from .watching import kill_marked, marked, wait_until, wait_until_gone

HANGING = "import time, ipython_pgtimeout.helper.observation as o; o.look_up = lambda pid, known=None: time.sleep(30)"
LATE_S = 3.0
"""How late an ending may be: a tenth of what a look takes. Most of it is for a busy machine that runs tests side by
side; ``test_faults`` measures how late it is."""


@pytest.fixture(scope="module")
def blind() -> Iterator[Kernel]:
    """A kernel with guards in which every look at a process hangs."""
    with Kernel(tampering_cell(HANGING), LOAD) as kernel:
        yield kernel


def _facts(kernel: Kernel, expression: str) -> Any:
    return ast.literal_eval(kernel.value(expression))


def test_a_deadline_is_kept_while_a_look_hangs(blind: Kernel, mark: str) -> None:
    blind.execute(f"%%timeout_shell 1 --kill-after 0.5 --result r\ntrap '' TERM; sleep 60 & sleep 60; : {mark}")
    term, kill = _facts(blind, "[sent.at_s for sent in r.signals]")
    assert 1.0 <= term < 1.0 + LATE_S
    assert 0.5 <= kill - term < 0.5 + LATE_S
    assert _facts(blind, "[len(sent.pids) for sent in r.signals]") == [3, 3]
    assert _facts(blind, f"r.survivors, r.duration < 1.5 + 2 * {LATE_S}") == ((), True)
    assert wait_until_gone(mark, 1) == []


def test_an_interrupt_ends_the_command_while_a_look_hangs(blind: Kernel, mark: str) -> None:
    reply = blind.submit(f"%%timeout_shell 60 --result r\necho ready; sleep 60; : {mark}")
    blind.wait_for_text(reply, "ready")
    time.sleep(0.3)  # until the guard has begun a look, which hangs
    pressed = time.monotonic()
    blind.interrupt()
    blind.wait(reply)
    assert time.monotonic() - pressed < 2 * LATE_S
    assert reply.ename == "KeyboardInterrupt"
    assert wait_until_gone(mark, 1) == []


def test_a_process_left_running_is_reported_by_its_pid(blind: Kernel, mark: str) -> None:
    """Its name is unknown, because that takes a look. Its pid is found by a walk, which takes no lock."""
    reply = blind.run(f"%%timeout_shell 60 --leftovers leave --result r\nMARK={mark} sleep 60 & echo job $!")
    pid = int(reply.stdout.split()[1])
    try:
        assert _facts(blind, "[(process.pid, process.name) for process in r.survivors]") == [(pid, "?")]
        assert f"left running: ? ({pid})" in reply.stderr
        assert _facts(blind, "r.duration") < 0.25 + LATE_S
    finally:
        kill_marked(mark)


def test_the_notice_of_leftovers_is_not_delayed(blind: Kernel, mark: str) -> None:
    reply = blind.execute(f"%%timeout_shell 2\nMARK={mark} sleep 60 & echo job $!")
    pid = int(reply.stdout.split()[1])
    assert re.search(rf"waiting for 1 process: \? \({pid}\)", reply.stderr), reply.stderr
    assert reply.ename == "CommandTimeout"


def test_a_guard_with_a_hanging_look_is_not_reused(blind: Kernel, mark: str) -> None:
    """Its second thread still runs, which makes it unsafe to start a shell in a terminal."""
    blind.execute("%%timeout_shell 0.5\nsleep 60")
    assert blind.run("%%timeout_shell --pty 20\necho on").stdout == "on\n"


def test_a_process_left_running_is_named_if_looks_do_not_hang(kernel: Kernel, mark: str) -> None:
    """The control: the same with guards whose looks do not hang."""
    reply = kernel.run(f"%%timeout_shell 60 --leftovers leave --result r\nMARK={mark} exec sleep 60 & echo job $!")
    try:
        assert wait_until(lambda: marked(mark), 5)
        assert _facts(kernel, "[process.name for process in r.survivors]") in (["sleep"], ["bash"])
        assert "left running: ?" not in reply.stderr
    finally:
        kill_marked(mark)
