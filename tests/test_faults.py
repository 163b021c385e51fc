"""Floods and stopped helpers: deadline and interrupt are kept all the same, nothing is left, and what is said is true.

Each fault meets each ending in a PID namespace of its own. A table at the end of the session tells how late the first
signal was sent to all.

How 0.1 fared: with a storm of orphans SIGTERM came 9 s late on a busy machine, and never when the storm had a high
priority; 20 chains got no signal at all; a look-up that hung, and a caller that did not read, suspended everything; and
when guard and launcher were stopped, the cell never came back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from .isolation import fault_program, run_isolated
from .tallies import FAULTS, Fault
from .tampering import tampering_cell
from .watching import PROGRAMS

LATE_S = 0.25
"""How late the first signal may be, on two processors that do other things as well."""
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
pytestmark = pytest.mark.alone  # a storm starves whatever else runs

MEETS = """
command, ending = {command!r}, {ending!r}
from ipython_pgtimeout.shared import debuglog
debuglog.open_log(os.environ.setdefault("PGTIMEOUT_DEBUG", {log!r}))  # it tells when a signal has been sent
run("true", 20)  # the helpers are there before the storm
from ipython_pgtimeout.caller.running import Running
pressed_s = 2.0
if ending == "interrupt":
    stop = Running.stop
    def note_stop(running, presses):
        "When the caller's handler ran: the caller itself has to wait for a processor in a storm."
        global pressed_s
        pressed_s = time.monotonic() - started
        stop(running, presses)
    Running.stop = note_stop
    def press():
        time.sleep(2.0)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=press, daemon=True).start()
started = time.monotonic()
try:
    result = run(command, 2.0 if ending == "deadline" else 60, kill_after=1)
except KeyboardInterrupt as stop:
    result = stop.result
with open(os.environ["PGTIMEOUT_DEBUG"]) as log:
    sent_at = next(float(line.split()[0]) for line in log if " sent " in line)
told(late_s=sent_at - started - pressed_s, left=left(), reason=result.reason, said=result.summary(),
     survivors=len(result.survivors), took_s=time.monotonic() - started)
"""


def _record(fault: str, ending: str, told: dict[str, Any]) -> None:
    FAULTS.append(Fault(fault, ending, told["late_s"], len(told["left"]), told["said"]))


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("ending", ["deadline", "interrupt"])
@pytest.mark.parametrize(
    "fault", ["orphan_storm.c", "nice orphan_storm.c", "chains.c", "bash_storm.sh", "signal_flood.c"]
)
def test_storm(fault: str, ending: str, round_: int, tmp_path: Path) -> None:
    nice, _, name = fault.rpartition(" ")
    if nice and os.geteuid() != 0:
        pytest.skip("only root may give a storm a high priority")
    command = f"exec {'nice -n -20 ' if nice else ''}{fault_program(name, tmp_path)}"
    told = run_isolated(MEETS.format(command=command, ending=ending, log=str(tmp_path / "log")))
    _record(fault, ending, told)
    assert told["reason"] == ("timeout" if ending == "deadline" else "interrupted"), told
    assert told["late_s"] < LATE_S, told
    assert told["left"] == [], told
    assert told["survivors"] == 0, told
    assert "; all are gone (" in told["said"], told


HELPERS_STOPPED = """
started = time.monotonic()
died = ""
presses = {presses}
def press():
    for _ in range(presses):
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
try:
    said = run({command!r}, {timeout}, kill_after=0.5).summary()
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
    told = run_isolated(HELPERS_STOPPED.format(command=command, timeout=1, presses=0))
    _record("stop_helpers.py", "deadline", told)
    assert told["said"].startswith("timed out after 1 s: SIGTERM to "), told
    assert told["took_s"] < 9, told
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


@pytest.mark.parametrize(("timeout", "presses"), [(1, 0), (60, 3)], ids=["deadline", "three presses"])
def test_traced_guard_is_killed(tmp_path: Path, timeout: int, presses: int) -> None:
    """A debugger holds the guard: it can't be continued. The caller kills it with all that is below it, and what the
    guard says of that is not taken for the command's own end."""
    command = fault_program("trace_guard.py", tmp_path)
    told = run_isolated(KILLED_LATE + HELPERS_STOPPED.format(command=command, timeout=timeout, presses=presses))
    _record("trace_guard.py", "three presses" if presses else "deadline", told)
    assert told["died"] == "GuardDied", told
    assert told["said"].startswith("the guard of this command did not answer, and was killed with "), told
    assert told["said"].endswith("; all are gone"), told
    assert told["took_s"] < 12, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


# The guard waits for ever in vfork(2), as it does when the file system of the shell never answers.
HANGS_IN_SPAWN = """\
import ipython_pgtimeout.helper.supervision as supervision, time
supervision.spawn = lambda *_: time.sleep(3600)
"""


@pytest.mark.parametrize(("timeout", "presses"), [(1, 0), (60, 3)], ids=["deadline", "three presses"])
def test_guard_that_hangs_while_it_starts_the_shell_is_killed(timeout: int, presses: int) -> None:
    code = tampering_cell(HANGS_IN_SPAWN) + HELPERS_STOPPED.format(command="true", timeout=timeout, presses=presses)
    told = run_isolated(code.replace('on = run("echo on", 20).stdout', 'on = ""'))
    _record("hang in the start of the shell", "three presses" if presses else "deadline", told)
    assert told["died"] == "GuardDied", told
    assert told["said"].startswith("the guard of this command did not answer, and was killed with 0 processes"), told
    assert told["took_s"] < 12, told
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
    _record("hanging_fs.py", "deadline", {"late_s": told["took_s"] - 1, "said": told["died"], "left": told["left"]})
    assert told["died"].startswith("the guard of this command did not answer, and was killed with 1 process"), told
    assert "; could not be killed: " in told["died"], told
    assert told["took_s"] < 14, told
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
    assert told["took_s"] < 12, told
    assert (told["left"], told["on"]) == ([], "on\n"), told


CALLER_STOPPED = """
import subprocess
large = "x" * 100_000
script = "for n in {{1..20}}; do bash -c 'sleep 1000; : $0' " + large + " & done"
code = f"from ipython_pgtimeout import run; run({{script!r}}, 2, kill_after=0.5)"
caller = subprocess.Popen([sys.executable, "-c", code])
ours.add(caller.pid)
until = time.monotonic() + 10
while sum(name.startswith("sleep") for name in left()) < 20 and time.monotonic() < until:
    time.sleep(0.01)
started_all = time.monotonic()
caller.send_signal(signal.SIGSTOP)
until = time.monotonic() + 10
while left() and time.monotonic() < until:
    time.sleep(0.02)
told(late_s=time.monotonic() - started_all - 2, left=left(), said="")
caller.kill()
"""


def test_caller_that_does_not_read_delays_nothing() -> None:
    """Stopped before the notice of 20 leftovers with 100 kB of arguments each, which fills the channel."""
    told = run_isolated(CALLER_STOPPED.format())
    _record("caller that does not read", "deadline", told)
    assert told["left"] == [], told
    assert told["late_s"] < 1.5, told


FLOOD = """
pressed_s = 0.0
def press():
    global pressed_s
    time.sleep(2.0)
    pressed_s = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
from ipython_pgtimeout.caller.blocking import run_to_end
from ipython_pgtimeout.caller.output import Pace
from ipython_pgtimeout.spec import make_spec
threading.Thread(target=press, daemon=True).start()
pace = Pace()
pace.note(2_700_000)
result = run_to_end(make_spec({{"command": "yes", "timeout": 60}}), lambda stream, text: None, pace=pace)
told(late_s=time.monotonic() - pressed_s, left=left(), said=result.summary(), shown=len(result.stdout))
"""


def test_interrupted_flood_does_not_wait_for_the_pace_of_its_output() -> None:
    told = run_isolated(FLOOD.format())
    _record("flood of output", "interrupt", told)
    assert told["late_s"] < 0.2 + LATE_S, told
    assert told["left"] == [], told


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
