"""The promise: nothing a cell starts outlives the cell's deadline, its interrupt, or its kernel.

Every misbehaving program is tested with the three endings that matter most. The worst four, all at once, are tested
with every other ending. The tests find survivors in the whole process table by a mark, without the package's help.
``test_negative_controls`` shows that these tests can fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from .forking import forked_pid, forking_stdout
from .jobs import NASTY
from .kernels import LOAD, Kernel, Reply
from .tallies import SURVIVORS, Combination
from .watching import PROGRAMS, program, survivors, wait_until, wait_until_gone

ALL = sorted(path.name for path in PROGRAMS.iterdir() if path.suffix in (".py", ".sh"))
GRACE_S = 0.3
SOON_S = 5.0
"""How long a guard may take after the death of its kernel: the grace, and some time because the machine is busy."""


def cell(*programs: str, mark: str, timeout: str = "60", options: str = "") -> str:
    """A cell that runs the programs, all at once if they are several."""
    lines = [program(name, mark) for name in programs]
    script = lines[0] if len(lines) == 1 else " &\n".join([*lines, "wait"])
    return f"%%timeout_shell {timeout} --kill-after {GRACE_S}s {options}\n{script}"


class Watch:
    """One trial: start programs in a kernel, wait until all are ready, and count what is left after the ending."""

    def __init__(self, mark: str, ending: str) -> None:
        self.mark = mark
        self._ending = ending
        self._programs: tuple[str, ...] = ()
        self._started = 0

    def start(self, kernel: Kernel, *programs: str, timeout: str = "60", options: str = "") -> Reply:
        reply = kernel.submit(cell(*programs, mark=self.mark, timeout=timeout, options=options))
        kernel.wait_for_text(reply, "ready", times=len(programs))
        self.count_running(*programs)
        return reply

    def count_running(self, *programs: str) -> None:
        """Count the processes that the programs have started: at least one for each program."""
        there = survivors(self.mark)
        assert len(there) >= len(programs), there
        self.record_started(len(there), *programs)

    def record_started(self, started: int, *programs: str) -> None:
        self._programs, self._started = programs, started

    def assert_none_left(self, within_s: float = 0.0) -> None:
        left = wait_until_gone(self.mark, within_s)
        for number, name in enumerate(self._programs):
            once = number == 0  # processes are counted for the whole batch
            SURVIVORS.append(Combination(name, self._ending, self._started * once, len(left) * once))
        assert not left, f"{len(left)} of {self._started} have survived:\n" + "\n".join(left)


@pytest.fixture
def watch(mark: str, request: pytest.FixtureRequest) -> Watch:
    return Watch(mark, request.node.originalname.removeprefix("test_nothing_survives_"))


# -- every program: deadline, interrupt, death of the kernel ------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_nothing_survives_a_deadline(kernel: Kernel, watch: Watch, name: str) -> None:
    reply = watch.start(kernel, name, timeout="4")  # time enough to be counted before, on a busy machine
    kernel.wait(reply)
    watch.assert_none_left()  # at once: the cell has reported that all are gone
    assert reply.ename == "CommandTimeout", reply
    assert "all are gone" in reply.evalue


@pytest.mark.parametrize("name", ALL)
def test_nothing_survives_an_interrupt(kernel: Kernel, watch: Watch, name: str) -> None:
    reply = watch.start(kernel, name)
    kernel.interrupt()
    kernel.wait(reply)
    watch.assert_none_left()
    assert reply.ename == "KeyboardInterrupt", reply
    assert "all are gone" in reply.evalue


@pytest.mark.parametrize("name", ALL)
def test_nothing_survives_sigkill_of_the_kernel(fresh_kernel: Kernel, watch: Watch, name: str) -> None:
    watch.start(fresh_kernel, name)
    fresh_kernel.kill9()
    watch.assert_none_left(SOON_S)


@pytest.mark.parametrize("function", ["fork_with_multiprocessing", "fork_with_os", "fork_with_libc"])
def test_nothing_survives_sigkill_of_a_kernel_with_a_forked_child(
    fresh_kernel: Kernel, watch: Watch, function: str
) -> None:
    """The child was forked while a command ran. If Python does not know of it, it holds the channel open."""
    fresh_kernel.run(forking_stdout(function))
    # No status: if it appeared before the programs are ready, what the test itself has printed would be cleared away.
    reply = watch.start(fresh_kernel, *NASTY, options="--no-progress")
    child = forked_pid(reply)
    try:
        fresh_kernel.kill9()
        watch.assert_none_left(SOON_S)
        assert psutil.pid_exists(child), "the child must be there for this test to mean anything"
    finally:
        os.kill(child, signal.SIGKILL)


# -- the worst programs: every other ending -----------------------------------------------------------------


def test_nothing_survives_a_second_interrupt(kernel: Kernel, watch: Watch) -> None:
    reply = watch.start(kernel, *NASTY, "forking_trap.sh", options="--kill-after 30s")
    kernel.interrupt()
    kernel.wait_for_text(reply, "caught")
    kernel.interrupt()
    kernel.wait(reply, 10)  # far below the grace
    watch.assert_none_left()
    assert reply.ename == "KeyboardInterrupt"


def test_nothing_survives_an_interrupt_during_the_grace(kernel: Kernel, watch: Watch) -> None:
    reply = watch.start(kernel, *NASTY, "forking_trap.sh", timeout="4", options="--kill-after 30s")
    kernel.wait_for_text(reply, "caught")
    kernel.interrupt()
    kernel.wait(reply, 10)
    watch.assert_none_left()
    assert reply.ename == "KeyboardInterrupt"
    assert reply.evalue.startswith("timed out after 4 s")


@pytest.mark.parametrize("now", [True, False], ids=["now", "gracefully"])
def test_nothing_survives_a_restart_of_a_busy_kernel(fresh_kernel: Kernel, watch: Watch, now: bool) -> None:
    watch.start(fresh_kernel, *NASTY)
    fresh_kernel.restart(now=now)
    watch.assert_none_left(SOON_S)
    assert fresh_kernel.run(LOAD)
    assert fresh_kernel.run("%%timeout_shell 5\necho again").stdout == "again\n"


def test_nothing_survives_a_shutdown_of_a_busy_kernel(fresh_kernel: Kernel, watch: Watch) -> None:
    watch.start(fresh_kernel, *NASTY)
    fresh_kernel.shutdown()
    watch.assert_none_left(SOON_S)


@pytest.mark.parametrize("interrupt", [True, False], ids=["interrupt", "no interrupt"])
def test_nothing_survives_the_cell_timeout_of_nbclient(watch: Watch, tmp_path: Path, interrupt: bool) -> None:
    """The time limit that nbclient sets for a cell is much shorter than the command's own deadline."""
    cells = [LOAD, cell(*NASTY, mark=watch.mark)]
    v4: Any = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    client = NotebookClient(notebook, timeout=3, interrupt_on_timeout=interrupt)
    manager = client.create_kernel_manager()
    manager.connection_file, manager.transport = str(tmp_path / "kernel.json"), "ipc"
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    with pytest.raises(CellExecutionError if interrupt else CellTimeoutError):
        client.execute(env={**os.environ, "IPYTHONDIR": str(tmp_path)})
    outputs = notebook.cells[1].outputs
    ready = sum(output.get("text", "").count("ready") for output in outputs)
    assert ready == len(NASTY)
    watch.record_started(ready, *NASTY)
    watch.assert_none_left(SOON_S)
    if interrupt:
        assert outputs[-1].ename == "KeyboardInterrupt"


def test_nothing_survives_sigkill_of_the_guard(kernel: Kernel, watch: Watch) -> None:
    reply = watch.start(kernel, *NASTY)
    guard = busy_guard(reply, kernel)
    guard.kill()
    kernel.wait(reply, 10)
    watch.assert_none_left()
    assert reply.ename == "GuardDied"
    assert "all are gone" in reply.evalue
    assert kernel.run("%%timeout_shell 5\necho again").stdout == "again\n"


def test_nothing_survives_a_deadline_after_sigkill_of_the_launcher(kernel: Kernel, watch: Watch) -> None:
    """The running command goes on until its deadline, and the next command has a new launcher."""
    reply = watch.start(kernel, *NASTY, timeout="2")
    before = kernel.launcher()
    before.kill()
    assert wait_until(lambda: not before.is_running() or before.status() == psutil.STATUS_ZOMBIE, 5)
    assert survivors(watch.mark)
    kernel.wait(reply, 10)
    watch.assert_none_left()
    assert reply.ename == "CommandTimeout"
    assert kernel.run("%%timeout_shell 5\necho again").stdout == "again\n"
    assert kernel.launcher() != before


def test_nothing_survives_sigkill_of_kernel_and_launcher(fresh_kernel: Kernel, watch: Watch) -> None:
    """Each guard notices the death of the kernel without the launcher."""
    watch.start(fresh_kernel, *NASTY)
    fresh_kernel.launcher().kill()
    fresh_kernel.kill9()
    watch.assert_none_left(SOON_S)


def test_nothing_survives_an_exception_in_the_callers_loop(kernel: Kernel, watch: Watch, tmp_path: Path) -> None:
    """A write to the cell's stdout raises an exception in the middle of a command."""
    now = tmp_path / "now"
    kernel.run(BREAKING_STDOUT)
    with restored_stdout(kernel):
        script = cell(*NASTY, mark=watch.mark).removesuffix("wait")
        reply = kernel.submit(f"{script}until [ -e {now} ]; do sleep 0.02; done; echo break")
        kernel.wait_for_text(reply, "ready", times=len(NASTY))
        watch.count_running(*NASTY)
        now.touch()
        kernel.wait(reply)
        watch.assert_none_left(SOON_S)
    assert reply.ename == "RuntimeError"
    assert reply.evalue == "a stdout that breaks"
    assert kernel.run("%%timeout_shell 5\necho again").stdout == "again\n"


BREAKING_STDOUT = """
import sys
class Breaks:
    def __init__(self, out):
        self.out = out
    def write(self, text):
        if "break" in text:
            raise RuntimeError("a stdout that breaks")
        return self.out.write(text)
    def __getattr__(self, name):
        return getattr(self.out, name)
working, sys.stdout = sys.stdout, Breaks(sys.stdout)
"""


@contextlib.contextmanager
def restored_stdout(kernel: Kernel) -> Iterator[None]:
    try:
        yield
    finally:
        kernel.run("sys.stdout = working")


def busy_guard(reply: Reply, kernel: Kernel) -> psutil.Process:
    """The guard that has children. The other guard is idle."""
    (busy,) = (guard for guard in kernel.guards() if guard.children())
    return busy
