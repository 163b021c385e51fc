"""Helpers that are stopped, held or hang: the cell comes back all the same, nothing is left, and what is said is true.

Most of the time these tests wait for the caller's backstop, two seconds after the guard should have given up. At 0.1,
when guard and launcher were stopped, the cell never came back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .isolation import fault_program, run_isolated
from .tallies import record_fault
from .tampering import tampering_cell
from .watching import PROGRAMS

BACK_S = 20.0
"""When the cell must be back: after 8 to 11 s on a quiet machine. Without a backstop it never is. How long the backstop
waits is tested with a clock of its own, in ``test_model``."""

HELPERS_STOPPED = """
started = time.monotonic()
died = ""
presses = {presses}
is_ready = threading.Event()
def press():
    is_ready.wait({ready_within_s})
    for _ in range(presses):
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
try:
    said = run({command!r}, {timeout}, kill_after=0.5, on_output=lambda *_: is_ready.set()).summary()
except GuardDied as error:
    said, died = str(error), type(error).__name__
except KeyboardInterrupt as stop:
    said = str(stop)
took_s = time.monotonic() - started
on = run("echo on", 20).stdout
told(late_s=took_s - {timeout}, took_s=took_s, left=left(), said=said, died=died, on=on)
"""


def test_stopped_helpers_are_continued(tmp_path: Path) -> None:
    """Both are stopped by the command. Past deadline, grace and a margin the caller continues them."""
    command = fault_program("stop_helpers.py", tmp_path)
    told = run_isolated(HELPERS_STOPPED.format(command=command, timeout=3, presses=0, ready_within_s=0))
    record_fault("stop_helpers.py", "deadline", told)
    assert told["said"].startswith("timed out after 3 s: SIGTERM to "), told
    assert told["took_s"] < BACK_S, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


# The death of its tracer sets a traced guard free before it is killed itself.
KILLED_LATE = """
from ipython_pgtimeout.caller.guard_handle import GuardHandle
send = GuardHandle.signal
def send_late(guard, number):
    if number == signal.SIGKILL:
        time.sleep(0.3)
    send(guard, number)
GuardHandle.signal = send_late
"""


@pytest.mark.parametrize(("timeout", "presses"), [(3, 0), (60, 3)], ids=["deadline", "three presses"])
def test_traced_guard_is_killed(tmp_path: Path, timeout: int, presses: int) -> None:
    """A debugger holds the guard: it can't be continued. The caller kills it with all that is below it, and what the
    guard says of that is not taken for the command's own end."""
    command = fault_program("trace_guard.py", tmp_path)
    code = HELPERS_STOPPED.format(command=command, timeout=timeout, presses=presses, ready_within_s=20)
    told = run_isolated(KILLED_LATE + code)
    record_fault("trace_guard.py", "three presses" if presses else "deadline", told)
    assert told["died"] == "GuardDied", told
    assert told["said"].startswith("the guard of this command did not answer, and was killed with "), told
    assert told["said"].endswith("; all are gone"), told
    assert told["took_s"] < BACK_S, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


# The guard waits for ever in vfork(2), as it does when the file system of the shell never answers.
HANGS_IN_SPAWN = """\
import ipython_pgtimeout.helper.supervision as supervision, time
supervision.spawn = lambda *_: time.sleep(3600)
"""


@pytest.mark.parametrize(("timeout", "presses"), [(1, 0), (60, 3)], ids=["deadline", "three presses"])
def test_guard_that_hangs_while_it_starts_the_shell_is_killed(timeout: int, presses: int) -> None:
    code = HELPERS_STOPPED.format(command="true", timeout=timeout, presses=presses, ready_within_s=0)
    told = run_isolated(tampering_cell(HANGS_IN_SPAWN) + code.replace('on = run("echo on", 20).stdout', 'on = ""'))
    record_fault("hang in the start of the shell", "three presses" if presses else "deadline", told)
    assert told["died"] == "GuardDied", told
    assert told["said"].startswith("the guard of this command did not answer, and was killed with 0 processes"), told
    assert told["took_s"] < BACK_S, told
    assert told["left"] == [], told


HANGING_SHELL = """
import subprocess
directory = {directory!r}
mount = subprocess.Popen([sys.executable, {program!r}, directory], stdout=subprocess.PIPE, text=True)
ours.add(mount.pid)
if mount.stdout.readline():
    started = time.monotonic()
    died = ""
    try:
        run("true", 1, kill_after=0.5, shell=directory + "/sh")
    except GuardDied as error:
        died = str(error)
    took_s = time.monotonic() - started
    on = run("echo on", 20).stdout
    mount.kill()  # and its requests fail: what waits for them can end
    until = time.monotonic() + 10
    while left() and time.monotonic() < until:
        time.sleep(0.02)
    told(died=died, took_s=took_s, on=on, left=left())
else:
    told(died=None)
"""


def test_shell_on_a_file_system_that_hangs_is_named(tmp_path: Path) -> None:
    """Even SIGKILL does not end a process that waits for an answer of such a file system."""
    told = run_isolated(
        HANGING_SHELL.format(program=str(PROGRAMS / "faults" / "hanging_fs.py"), directory=str(tmp_path))
    )
    if told["died"] is None:
        pytest.skip("no FUSE can be mounted here")
    record_fault(
        "hanging_fs.py", "deadline", {"late_s": told["took_s"] - 1, "said": told["died"], "left": told["left"]}
    )
    assert told["died"].startswith("the guard of this command did not answer, and was killed with 1 process"), told
    assert "; could not be killed: " in told["died"], told
    assert told["took_s"] < BACK_S, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


LAUNCHER_STOPPED = """
run("true", 20)
from ipython_pgtimeout.caller.connection import connection
connection._launcher.process.send_signal(signal.SIGSTOP)
said = []
def work():
    try:
        said.append(run("sleep 60", 1, kill_after=0.5).summary())
    except GuardDied as error:
        said.append(str(error))
threads = [threading.Thread(target=work) for _ in range(3)]
started = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join(20)
told(left=left(), said=said, took_s=time.monotonic() - started, on=run("echo on", 20).stdout)
"""


def test_stopped_launcher_is_continued() -> None:
    """Three threads want a guard each, one of which is there already: at 0.1 two of them never came back."""
    told = run_isolated(LAUNCHER_STOPPED)
    assert len(told["said"]) == 3, told
    assert all(said.startswith("timed out after 1 s") for said in told["said"]), told
    assert told["took_s"] < BACK_S, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


STOPPED_WITHOUT_CALLER = """
import subprocess
code = "from ipython_pgtimeout import run; run(%r, 60, kill_after=0.3)" % {script!r}
caller = subprocess.Popen([sys.executable, "-c", code])
ours.add(caller.pid)
def states():
    found = {{}}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{{pid}}/stat") as stat:
                name, state = stat.read().partition("(")[2].rpartition(") ")[::2]
        except OSError:  # it has ended meanwhile
            continue
        found[name] = state[0]
    return found
until = time.monotonic() + 20
while not all(states().get(name) == state for name, state in {states!r}.items()) and time.monotonic() < until:
    time.sleep(0.02)
caller.kill()
caller.wait()
until = time.monotonic() + 10
while left() and time.monotonic() < until:
    time.sleep(0.02)
told(left=left())
"""
LAUNCHER = "launcher=$(awk '{print $4}' /proc/$PPID/stat)"


@pytest.mark.parametrize(
    ("script", "states"),
    [
        (f"{LAUNCHER}; kill -STOP $launcher $PPID; exec sleep 1000", {"pgtimeout": "T", "pgtimeout-guard": "T"}),
        (f"{LAUNCHER}; kill -STOP $launcher; kill -9 $PPID; exec sleep 1000", {"pgtimeout": "T", "sleep": "S"}),
    ],
    ids=["both stopped", "guard killed"],
)
def test_stopped_helpers_are_continued_when_their_caller_dies(script: str, states: dict[str, str]) -> None:
    """The backstop dies with the caller. Without the kernel's signal at the death of a parent, nothing ever ended."""
    told = run_isolated(STOPPED_WITHOUT_CALLER.format(script=script, states=states))
    assert told["left"] == [], told
