"""A command runs with the rights that its caller has at that moment, and can't change what the next command gets.

At 0.1, a process that had dropped root went on to run commands as root, with all capabilities, and a command that had
reniced its guard was a gift to the next one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's rights")

LOOK = (
    "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status; "
    "readlink /proc/self/ns/{mnt,user,pid,net}; "
    "cat /proc/self/oom_score_adj /proc/self/personality; chrt -p $$ | sed 's/pid [0-9]*//'; ionice -p $$; nice"
)
COMPARE = """
import ctypes, os, subprocess
from ipython_pgtimeout import run
from ipython_pgtimeout.caller.connection import Connection
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    assert result == 0, os.strerror(ctypes.get_errno())
look = {look!r}
before = run(look, 20, check=True, oom_score_adj=0).stdout
{control}
{change}
expected = subprocess.run(["bash", "-c", look], capture_output=True, text=True, check=True).stdout
found = run(look, 20, check=True, oom_score_adj=0).stdout
again = run(look, 20, check=True, oom_score_adj=0).stdout
print("changed" if expected != before else "not changed", "same" if found == again == expected else (expected, found))
"""
CHANGES = {
    "no new privileges": "call(libc.prctl(38, 1, 0, 0, 0))",
    "a capability less": "call(libc.prctl(24, 21, 0, 0, 0))",
    "another user": "os.setgroups([]); os.setgid(65534); os.setuid(65534)",
    "another group": "os.setgroups([1, 2, 3])",
    "another network": "call(libc.unshare(0x40000000))",
    "another namespace of mounts": "call(libc.unshare(0x20000))",
    "another scheduling policy": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "another priority of input and output": "call(libc.syscall(251, 1, 0, 3 << 13))",
    "another score when memory runs out": "open('/proc/self/oom_score_adj', 'w').write('500')",
    "another personality": "assert libc.personality(0x0040000) >= 0",
}
UNPRIVILEGED = (
    "no new privileges",
    "another scheduling policy",
    "another score when memory runs out",
    "another personality",
)


def _compare(change: str, control: str = "") -> str:
    code = COMPARE.format(look=LOOK, change=CHANGES[change], control=control)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done
    return done.stdout.strip()


def _nobody_may_run_python() -> bool:
    """Whether another user can start this interpreter and import this package: not if they are in root's home."""
    code = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    code += "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import ipython_pgtimeout'], check=True)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_command_has_the_rights_that_its_caller_has_now(change: str) -> None:
    if os.geteuid() != 0 and change not in UNPRIVILEGED:
        pytest.skip("only root may do that")
    if change == "another user" and not _nobody_may_run_python():
        pytest.skip("another user may not run this Python")
    assert _compare(change) == "changed same"


def test_without_a_new_launcher_it_keeps_the_old_ones() -> None:
    """The negative control."""
    assert _compare("no new privileges", "Connection._retire = lambda self: None").startswith("changed (")


def test_without_a_change_the_launcher_stays() -> None:
    code = (
        "from ipython_pgtimeout import run\n"
        "from ipython_pgtimeout.caller.connection import connection\n"
        "run('true', 20); first = connection._launcher.process.pid\n"
        "for _ in range(5): run('true', 20)\n"
        "print(connection._launcher.process.pid == first)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("whose", ["guard", "guard and launcher"])
@pytest.mark.parametrize(
    "change",
    [
        "renice -n 5 $PPID",
        "taskset -pc 0 $PPID",
        "prlimit --nofile=100:100 --pid $PPID",
        "prlimit --nofile=5:5 --pid $PPID",
        "prlimit --stack=1:1 --pid $PPID",
        "chrt -b -p 0 $PPID",
        "ionice -c 3 -p $PPID",
        "echo 700 >/proc/$PPID/oom_score_adj",
    ],
)
def test_a_command_cannot_change_what_the_next_one_gets(change: str, whose: str) -> None:
    if shutil.which(change.split()[0]) is None and not change.startswith("echo"):
        pytest.skip(f"there is no {change.split()[0]}")
    if "launcher" in whose:
        change = f"launcher=$(awk '{{print $4}}' /proc/$PPID/stat); {change}; {change.replace('$PPID', '$launcher')}"
    code = (
        "from ipython_pgtimeout import run\n"
        f"look = {LOOK!r} + '; ulimit -n; taskset -p $$ | sed \"s/pid [0-9]*//\"'\n"
        "before = run(look, 20, check=True).stdout\n"
        f"changed = run({change!r}, 20)\n"
        "print(changed.returncode, run(look, 20, check=True).stdout == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "0 True\n", done


def test_a_guard_from_before_a_change_does_not_serve_after_it() -> None:
    """A command of another thread began before the change and ends after it: its guard has the old rights."""
    code = (
        "import ctypes, threading\n"
        "from ipython_pgtimeout import run\n"
        "look = 'grep NoNewPrivs /proc/self/status'\n"
        "script = 'until [ -e $GO ]; do sleep 0.02; done'\n"
        "import os, tempfile; go = os.path.join(tempfile.mkdtemp(), 'go')\n"
        "thread = threading.Thread(target=run, args=(script, 30), kwargs={'env': {'GO': go}})\n"
        "run('true', 20); thread.start()\n"
        "from ipython_pgtimeout.caller.connection import connection\n"
        "while not connection._busy: pass\n"
        "assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0\n"
        "found = [run(look, 20).stdout]\n"
        "open(go, 'w').close(); thread.join()\n"
        "found += [run(look, 20).stdout for _ in range(3)]\n"
        "print(set(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "{'NoNewPrivs:\\t1\\n'}\n", done
