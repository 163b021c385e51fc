"""Floods: deadline and interrupt are kept all the same, nothing is left, and what is said is true.

Each fault meets each ending in a PID namespace of its own. A table at the end of the session tells how late the first
signal was sent to all.

How 0.1 fared: with a storm of orphans SIGTERM came 9 s late on a busy machine, and never when the storm had a high
priority; 20 chains got no signal at all; a look-up that hung, and a caller that did not read, suspended everything.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .isolation import fault_program, run_isolated
from .tallies import record_fault

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
    record_fault(fault, ending, told)
    assert told["reason"] == ("timeout" if ending == "deadline" else "interrupted"), told
    assert told["late_s"] < LATE_S, told
    assert told["left"] == [], told
    assert told["survivors"] == 0, told
    assert "; all are gone (" in told["said"], told


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
    record_fault("caller that does not read", "deadline", told)
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
    record_fault("flood of output", "interrupt", told)
    assert told["late_s"] < 0.2 + LATE_S, told
    assert told["left"] == [], told
