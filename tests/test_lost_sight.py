"""Where a guard can't look, it still ends everything, and says nothing that it does not know.

How 0.1 fared: "all are gone" while a setuid program lived behind ``hidepid=2``, and while four processes lived in a PID
namespace with another one's /proc. A process whose main thread had ended counted as a zombie. Without a subreaper it
said "all are gone" of a daemon that lived.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from .isolation import fault_program, run_isolated
from .tampering import tampering_cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's proc(5)")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount proc(5) like that")

STUBBORN = """\
trap '' TERM
setsid bash -c "trap '' TERM; sleep 1000; :" &
set -m; (trap '' TERM; sleep 1001) & set +m
(sleep 1002 &)
sleep 1003; :"""
FACTS = """
facts = dict(said=result.summary(), certain=result.certain, signals=[sent.signal for sent in result.signals],
             survivors=[(process.pid, process.name) for process in result.survivors], returncode=result.returncode,
             late_s=result.signals[0].at_s - 1 if result.signals else 0.0)
"""


WITHOUT_PROC = f"""
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
result = run({STUBBORN!r}, 1, kill_after=0.5)
{FACTS}
ended = run("echo done; exit 3", 5)
subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
told(left=left(), ended=(ended.stdout, ended.returncode), **facts)
"""


@root_only
def test_without_proc_everything_is_ended() -> None:
    told = run_isolated(WITHOUT_PROC)
    assert told["left"] == [], told
    assert (told["signals"], told["survivors"]) == (["SIGTERM", "SIGKILL"], []), told
    assert told["said"].startswith("timed out after 1 s: SIGTERM to "), told
    assert "; all are gone (" in told["said"], told
    assert told["late_s"] < 1, told
    assert told["ended"] == ["done\n", 3], told


IN_A_NAMESPACE = f"""
import json, subprocess
from ipython_pgtimeout import run
result = run({STUBBORN!r}, 1, kill_after=0.5)
{FACTS}
subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
print(json.dumps(dict(facts, ps=subprocess.run(["ps", "-eo", "comm="], capture_output=True, text=True).stdout)))
"""
FOREIGN_PROC = f"""
import subprocess
command = ["unshare", "-pfm", sys.executable, "-c", {IN_A_NAMESPACE!r}]
told(**json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
"""


@root_only
@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
def test_with_the_proc_of_another_namespace_everything_is_ended() -> None:
    """The pids in it are other processes' than ours: nothing read there is used."""
    told = run_isolated(FOREIGN_PROC)
    assert "sleep" not in told["ps"], told
    assert (told["signals"], told["survivors"]) == (["SIGTERM", "SIGKILL"], []), told
    assert "; all are gone (" in told["said"], told


# To have root's real user id makes a process unkillable for others, so the setuid program is setpriv(1).
HIDDEN = f"""
import subprocess, tempfile, shutil
directory = tempfile.mkdtemp()
program = os.path.join(directory, "setuid-setpriv")
shutil.copy(shutil.which("setpriv"), program)
os.chmod(directory, 0o755)
os.chmod(program, 0o4755)
subprocess.run(["mount", "-o", "remount,hidepid=2", "/proc"], check=True)
code = f'''
import json
from ipython_pgtimeout import run
result = run({{program!r}} + " --reuid=0 sleep 1000 & echo $!; sleep 1001", 1, kill_after=0.3)
{FACTS}
print(json.dumps(dict(facts, pid=int(result.stdout))))
'''
# The right to read everything, because the interpreter may be in root's home.
another_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
another_user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
done = subprocess.run([*another_user, sys.executable, "-c", code], capture_output=True, text=True, check=True)
told(left=left(), **json.loads(done.stdout))
"""


@root_only
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_a_process_that_is_hidden_and_cannot_be_killed_is_named_by_its_pid() -> None:
    told = run_isolated(HIDDEN)
    assert told["left"] == [f"sleep ({told['pid']})"], told
    assert told["survivors"] == [[told["pid"], "?"]], told
    assert f"could not be killed: ? ({told['pid']})" in told["said"], told


MAIN_THREAD_GONE = """
result = run({command!r}, 1, kill_after=5)
noticed = run("{command} >/dev/null & exit 0", 2, kill_after=0)
left_running = run("{command} >/dev/null & sleep 0.5", 5, leftovers="leave")
os.kill(left_running.survivors[0].pid, signal.SIGKILL)
told(left=left(), said=result.summary(), stdout=result.stdout, took_s=result.duration, lives=[
     (life.command, life.end) for life in result.processes], names=[each.name for each in left_running.survivors])
"""


def test_a_process_whose_main_thread_has_ended_is_no_zombie(tmp_path: Path) -> None:
    command = fault_program("main_thread_gone.c", tmp_path)
    told = run_isolated(MAIN_THREAD_GONE.format(command=command))
    assert told["left"] == [], told
    assert told["said"].startswith("timed out after 1 s: SIGTERM to 1 process; all are gone"), told
    assert told["stdout"] == "ready\ngot SIGTERM\n", told
    assert told["names"] == [Path(command).name[:15]], told
    assert [name for name, end in told["lives"] if end > 0.9] == [command], told


WITHOUT_SUBREAPER = f"""
{tampering_cell("import ipython_pgtimeout.helper.prctl as p; p.become_subreaper = lambda: False")}
facts = {{{{}}}}
try:
    result = run({{script!r}}, {{timeout}}, kill_after=0.5)
    {FACTS.strip()}
except GuardDied as error:
    facts = dict(said=str(error))
told(left=left(), on=run("echo on", 5).stdout, **facts)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (STUBBORN, r"timed out after 1 s: SIGTERM to "),
        ("setsid bash -c \"trap '' TERM; sleep 1000; :\" & exec sleep 1001", "timed out after 1 s: SIGTERM to "),
        ("(sleep 1000 &); exit 3", "timed out after 1 s: SIGTERM to 1 process"),
        ("(setsid bash -c 'sleep 0.3; exec env -i sleep 1000' &); sleep 1001", "timed out after 1 s: SIGTERM to "),
        ("(setsid sleep 1000 &); sleep 0.3; kill -9 $PPID; sleep 1001", "the guard of this command has died; "),
    ],
    ids=["stubborn", "own session", "shell gone", "wiped later", "guard killed"],
)
def test_without_a_subreaper_what_can_be_found_is_ended_and_no_more_is_said(script: str, said: str) -> None:
    """Simulated: this runs on Linux with the subreaper turned off, and neither on macOS nor on a BSD."""
    told = run_isolated(WITHOUT_SUBREAPER.format(script=script, timeout=1))
    assert told["left"] == [], told
    assert told["said"].startswith(said), told
    assert "; no others found" in told["said"], told
    assert "all are gone" not in told["said"], told
    assert told.get("certain", False) is False, told
    assert told["on"] == "on\n", told


def test_without_a_subreaper_a_daemon_that_hides_at_once_is_lost_and_nothing_false_is_said() -> None:
    """In its own session, with a wiped environment, and an orphan before the first look: nothing leads to it."""
    told = run_isolated(WITHOUT_SUBREAPER.format(script="(env -i setsid sleep 1000 &); exec sleep 1001", timeout=1))
    assert len(told["left"]) == 1, told
    assert "; no others found" in told["said"], told
    assert told["certain"] is False, told


def test_without_a_subreaper_an_orphan_is_waited_for() -> None:
    told = run_isolated(WITHOUT_SUBREAPER.format(script="(sleep 0.5; echo orphan) & exit 3", timeout=20))
    assert told["returncode"] == 3, told
    assert told["said"].startswith("exit code 3 ("), told
    assert float(told["said"].partition("(")[2].partition(" ")[0]) >= 0.5, told


BLIND_AT_FIRST = """\
import ipython_pgtimeout.helper.killing as k
real, calls = k.running_children, []
def blind(but=()):
    calls.append(1)
    return iter(()) if len(calls) <= 8 else real(but)
k.running_children = blind
"""
GUARD_KILLED = f"""
{tampering_cell(BLIND_AT_FIRST)}
try:
    run("(setsid sleep 1000 &); sleep 0.3; kill -9 $PPID; sleep 1001", 60)
except GuardDied as error:
    told(left=left(), said=str(error))
"""


def test_a_round_of_the_launcher_that_finds_nothing_is_not_the_last() -> None:
    """A round can miss a chain of processes that fork and exit. Here the first two are made to find nothing."""
    told = run_isolated(GUARD_KILLED)
    assert told["left"] == [], told
    assert "; all are gone" in told["said"], told


LAUNCHER = "launcher=$(awk '{print $4}' /proc/$PPID/stat)"
LIMITED = """
try:
    said = run({script!r}, 1, kill_after=0.5).summary()
except GuardDied as error:
    said = str(error)
told(left=left(), said=said, on=run("echo on", 20).stdout)
"""


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="there is no prlimit")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("setsid sleep 1000 & prlimit --nofile=3:3 --pid $PPID; exec sleep 1001", "timed out after 1 s: SIGTERM to "),
        (
            f"{LAUNCHER}; setsid sleep 1000 & prlimit --nofile=4:4 --pid $launcher; kill -9 $PPID; exec sleep 1001",
            "the guard of this command has died; the launcher has sent SIGKILL to ",
        ),
    ],
    ids=["guard", "launcher"],
)
def test_helpers_that_may_open_no_files_end_everything(script: str, said: str) -> None:
    """The command has taken the right from them. They can't read /proc then. The guard has ECHILD to tell that all are
    gone, the launcher, which has guards, has not."""
    told = run_isolated(LIMITED.format(script=script))
    assert told["left"] == [], told
    assert told["said"].startswith(said), told
    assert ("; no others found" if "launcher" in script else "; all are gone") in told["said"], told
    assert told["on"] == "on\n", told


FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
script = "for n in {1..60}; do setsid bash -c 'trap \\"exit 7\\" TERM; sleep 1000 & wait' & done; wait"
result = run(script, 2, kill_after=5)
left_running = run("for n in {1..60}; do setsid sleep 1000 & done; sleep 0.5", 9, leftovers="leave")
told(said=result.summary(), sent=len(result.signals[0].pids), named=len(left_running.survivors))
"""


def test_a_small_limit_of_open_files_hides_no_process() -> None:
    """The helpers have the caller's limit. Pins, which are descriptors, leave enough to read /proc."""
    told = run_isolated(FEW_DESCRIPTORS)
    assert told["sent"] == 1 + 2 * 60, told
    assert "SIGKILL" not in told["said"], told
    assert told["named"] == 60, told
