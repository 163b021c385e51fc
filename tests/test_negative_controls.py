"""The tests of survivors can fail: with a mechanism switched off, or with the usual recipe, processes survive.

The fixture ``mark`` kills the survivors at the end of each test.
"""

from __future__ import annotations

import os
import signal

import pytest

from .forking import forked_pid, forking_stdout
from .kernels import LOAD, Kernel
from .tampering import tampering_cell
from .watching import program, survivors, wait_until, wait_until_gone

LONG_S = 1.5
"""Longer than a guard needs to end a command here: the grace is 0.3 s."""

WITHOUT_SUBREAPERS = tampering_cell("import ipython_pgtimeout.helper.prctl as p; p.become_subreaper = lambda: True")
WITHOUT_PIDFD = """
from ipython_pgtimeout.caller import connection
assert connection._pidfd_of_this_process() >= 0
connection._pidfd_of_this_process = lambda: -1
"""
USUAL_RECIPE = """
import os, signal, subprocess
shell = subprocess.Popen({command!r}, shell=True, start_new_session=True)
try:
    shell.wait({timeout_s})
except subprocess.TimeoutExpired:
    os.killpg(shell.pid, signal.SIGTERM)
"""


# These programs write nothing after "ready", so SIGPIPE can't end them.
@pytest.mark.parametrize("name", ["hidden_daemon.py", "pipe_holder.sh"])
def test_without_subreapers_an_orphan_survives(mark: str, name: str) -> None:
    with Kernel(WITHOUT_SUBREAPERS, LOAD) as kernel:
        kernel.execute(f"%%timeout_shell 1 --kill-after 0.3\n{program(name, mark)}")
        assert wait_until_gone(mark, LONG_S)


def test_without_pidfd_a_forked_child_hides_the_death_of_the_kernel(mark: str) -> None:
    with Kernel(WITHOUT_PIDFD, LOAD, forking_stdout("fork_with_libc")) as kernel:
        reply = kernel.submit(f"%%timeout_shell 60 --no-progress --kill-after 0.3\n{program('two_sleeps.sh', mark)}")
        kernel.wait_for_text(reply, "ready")
        child = forked_pid(reply)
        try:
            kernel.kill9()
            assert wait_until_gone(mark, LONG_S)
        finally:
            os.kill(child, signal.SIGKILL)
        assert not wait_until_gone(mark, 5), "the guard must notice the death once the child is gone"


@pytest.mark.parametrize("name", ["own_session.sh", "own_group.sh", "ignores.sh", "daemon.py", "hidden_daemon.py"])
def test_programs_survive_the_usual_recipe(mark: str, name: str) -> None:
    """The usual recipe: a new session, and SIGTERM to its process group at the deadline."""
    with Kernel() as kernel:
        kernel.run(USUAL_RECIPE.format(command=program(name, mark), timeout_s=1))
        assert wait_until_gone(mark, LONG_S)


def test_ordinary_programs_do_not_survive_the_usual_recipe(mark: str) -> None:
    """The control of the test above: the usual recipe does end processes that do not resist."""
    with Kernel() as kernel:
        reply = kernel.submit(USUAL_RECIPE.format(command=program("two_sleeps.sh", mark), timeout_s=1))
        assert wait_until(lambda: survivors(mark), 10)
        kernel.wait(reply)
        assert not wait_until_gone(mark, LONG_S)
