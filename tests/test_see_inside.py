"""What happens in the helper processes is visible: their errors reach the user, and a log records their actions."""

from __future__ import annotations

import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

from ipython_pgtimeout import GuardDied

from .kernels import LOAD, Kernel, named_children
from .tampering import tampering_cell
from .watching import wait_until, wait_until_gone

BREAKS_WHEN_REAPING = "import ipython_pgtimeout.helper.reaping as r; r.Reaper.reap = lambda self: 1 / 0"
BREAKS_WHEN_FORKING = "import ipython_pgtimeout.helper.launcher as m; m.Launcher._serve_request = lambda self: 1 / 0"


def test_an_error_in_the_guard_is_shown_with_its_traceback(mark: str) -> None:
    with Kernel(tampering_cell(BREAKS_WHEN_REAPING), LOAD) as kernel:
        reply = kernel.execute(f"%%timeout_shell 20\nsleep 60; : {mark}")
        assert reply.ename == "GuardDied"
        assert re.fullmatch(
            r"the guard of this command has died of an error of its own, ZeroDivisionError: division by zero; "
            r"the launcher has sent SIGKILL to \d process(es)? it left; all are gone",
            reply.evalue,
        )
        assert "Traceback (most recent call last)" in reply.traceback
        assert "supervision.py" in reply.traceback
        assert wait_until_gone(mark, 1) == []


def test_an_error_in_the_launcher_is_shown(mark: str) -> None:
    with Kernel(tampering_cell(BREAKS_WHEN_FORKING), LOAD) as kernel:
        reply = kernel.execute(f"%%timeout_shell 20\nsleep 60; : {mark}")
        assert reply.ename == "GuardDied"
        assert "ZeroDivisionError: division by zero" in reply.evalue
        assert "launcher.py" in reply.traceback


def test_the_cause_is_shown_if_a_launcher_cannot_start() -> None:
    with Kernel(tampering_cell("import no_such_module"), LOAD) as kernel:
        reply = kernel.execute("%%timeout_shell 20\ntrue")
        assert reply.ename == "GuardDied"
        assert "ModuleNotFoundError: No module named 'no_such_module'" in reply.evalue


def test_a_killed_guard_is_not_reported_as_an_error_of_its_own(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell 20\nkill -9 $PPID; sleep 60")
    assert reply.evalue.startswith("the guard of this command has died; the launcher has sent SIGKILL")


def test_guard_died_survives_pickling_with_its_details() -> None:
    error = GuardDied("it has died", "Traceback: boom")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.details) == (GuardDied, "it has died", "Traceback: boom")


WITH_SECRETS = """
from ipython_pgtimeout import run
run("echo $SECRET; : in-the-script", 2, env={"SECRET": "in-the-environment"}, stdin="on-stdin")
run("trap '' TERM; sleep 60", 2, kill_after=0.2)
"""


def test_the_log_has_the_actions_of_each_process_and_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "debug.log"
    environment = {**os.environ, "PGTIMEOUT_DEBUG": str(log)}
    subprocess.run([sys.executable, "-c", WITH_SECRETS], env=environment, timeout=40, check=True)
    lines = log.read_text().splitlines()
    for expected in (
        r"[\d.]+ caller\[\d+\] has started launcher \d+",
        r"[\d.]+ launcher\[\d+\] is ready",
        r"[\d.]+ launcher\[\d+\] has forked guard \d+",
        r"[\d.]+ guard\[\d+\] started the shell, pid \d+",
        r"[\d.]+ guard\[\d+\] sent SIGTERM to \[[\d, ]+\]",
        r"[\d.]+ guard\[\d+\] sent SIGKILL to \[[\d, ]+\]",
        r"[\d.]+ guard\[\d+\] the shell has exited, return code -9",
        r"[\d.]+ guard\[\d+\] reports timeout, return code -9, 0 left",
    ):
        assert any(re.fullmatch(expected, line) for line in lines), (expected, lines)
    assert not re.search("in-the-script|in-the-environment|on-stdin|sleep 60", log.read_text())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_the_log_is_switched_on_and_off_by_config(fresh_kernel: Kernel, tmp_path: Path) -> None:
    log = tmp_path / "debug.log"
    fresh_kernel.run("%run_timed 9 true")
    fresh_kernel.run(f"%config PgTimeout.debug = {str(log)!r}")
    fresh_kernel.run("%run_timed 9 true")
    assert "started the shell" in log.read_text()
    fresh_kernel.run("%config PgTimeout.debug = ''")
    size = log.stat().st_size
    fresh_kernel.run("%run_timed 9 true")
    assert log.stat().st_size == size
    reply = fresh_kernel.execute("%config PgTimeout.debug = '/no/such/directory/log'")
    assert "No such file or directory" in reply.text
    assert fresh_kernel.run("%run_timed 9 echo on").stdout == "on\n"


FORKS_LATER = """\
import os
real = os.fork
def fork():
    with open({failures!r}, "r+") as file:
        left = file.read()
        file.truncate(max(0, len(left) - 1))
    if left:
        raise OSError(11, "Resource temporarily unavailable")
    return real()
os.fork = fork
"""


def test_a_guard_that_cannot_be_forked_costs_one_command_only(tmp_path: Path) -> None:
    """There is no process left for a guard, three times: for the spare one, and for the first command, which is tried
    twice, the second time with another launcher."""
    failures = tmp_path / "failures"
    failures.write_text("xxx")
    with Kernel(tampering_cell(FORKS_LATER.format(failures=str(failures))), LOAD) as kernel:
        assert wait_until(lambda: named_children(kernel.pid, "pgtimeout"), 10), "the launcher has not started"
        assert wait_until(lambda: failures.read_text() == "xx", 10)
        reply = kernel.execute("%%timeout_shell 20\necho lost")
        assert reply.ename == "GuardDied"
        assert "Resource temporarily unavailable" in reply.evalue
        assert kernel.run("%%timeout_shell 20\necho on").stdout == "on\n"
