"""Other code in the caller's process: its signal handlers, finalizers, exit handlers and forked children.

Each test is a program of its own that is killed when it takes too long: what is tested here has hung.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .watching import wait_until_gone

PRELUDE = """
import os, signal, subprocess, sys, threading, time
from ipython_pgtimeout import run
def say(*values):
    print(*values, flush=True)
"""


def _run(code: str, mark: str, prelude: str = PRELUDE) -> str:
    """What the program prints. All its processes must be gone soon after it."""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        env={**os.environ, "MARK": mark},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert wait_until_gone(mark, 10) == [], done
    assert done.stderr == "", done
    return done.stdout


# -- signals --------------------------------------------------------------------------------------------------

FORWARDING_OFF = """
from ipython_pgtimeout.caller.interrupts import WakeUp
WakeUp.clear = lambda self: self._ends and self._ends[0].read(4096)
"""
ASYNCIO = """
import asyncio
sender = "import os, signal, time\\nfor _ in range(200): os.kill(os.getppid(), signal.SIGRTMIN); time.sleep(0.006)"
arrived = []
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGRTMIN, arrived.append, 1)
    sending = subprocess.Popen([sys.executable, "-S", "-c", sender])
    while sending.poll() is None:
        run("true", 20)
        await asyncio.sleep(0)
    until = time.monotonic() + PATIENCE_S
    while len(arrived) < 200 and time.monotonic() < until:
        await asyncio.sleep(0.01)
asyncio.run(main())
say(len(arrived))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals, which are queued")
def test_every_signal_reaches_asyncio(mark: str) -> None:
    """asyncio runs the handler of a signal when its byte comes through the wake-up descriptor, whose socket holds some
    270 bytes that were written one by one: more signals than that in one command are lost without us, too."""
    assert _run("PATIENCE_S = 10" + ASYNCIO, mark) == "200\n"


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals, which are queued")
def test_without_forwarding_asyncio_misses_signals(mark: str) -> None:
    """The negative control."""
    assert int(_run(FORWARDING_OFF + "PATIENCE_S = 0.5" + ASYNCIO, mark)) < 180


IN_A_HANDLER = """
import random
random.seed(1)
right = wrong = 0
def handle(signum, frame):
    global right, wrong
    result = run(f"echo in {right}", 20)
    if result.stdout == f"in {right}\\n": right += 1
    else: wrong += 1
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 5e-3))
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 1e-4)  # in the middle of the start of the launcher
while right + wrong < 400:
    assert run("echo out", 20).stdout == "out\\n"
signal.setitimer(signal.ITIMER_REAL, 0)
say(right >= 400, wrong)
"""


def test_a_signal_handler_can_run_a_command_in_the_middle_of_another(mark: str) -> None:
    """With a plain lock in `Connection` it waited for the code that it had interrupted."""
    assert _run(IN_A_HANDLER, mark) == "True 0\n"


HANDLER_RAISES = """
import random
from ipython_pgtimeout.caller.connection import connection
random.seed(2)
class Alarm(Exception): pass
def handle(signum, frame):
    raise Alarm
signal.signal(signal.SIGALRM, handle)
run("true", 20)
before = signal.getsignal(signal.SIGINT)
raised = 0
for _ in range(400):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-3))
        run("true", 20)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm:
        raised += 1
    assert signal.getsignal(signal.SIGINT) is before
    assert run("echo on", 20).stdout == "on\\n"
say(raised > 100)
"""


def test_a_signal_handler_can_raise_in_the_middle_of_a_command(mark: str) -> None:
    """As the handler of a time limit does. Afterwards Ctrl-C works as before, and the next command runs."""
    assert _run(HANDLER_RAISES, mark) == "True\n"


# -- finalizers and the end of the interpreter ----------------------------------------------------------------

IN_A_FINALIZER = """
import gc
from ipython_pgtimeout.caller import connection
results, garbage = [], []
class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        results.append(run("echo in", 20).stdout)
is_readable = connection.is_readable
def collect_first(*sockets):
    "In the middle of what `Connection` does with its lock."
    if garbage:
        garbage.pop()
        gc.collect()
    return is_readable(*sockets)
connection.is_readable = collect_first
for _ in range(50):
    garbage.append(Cycle())
    assert run("echo out", 20).stdout == "out\\n"
say(len(results), set(results))
"""


def test_a_finalizer_can_run_a_command_in_the_middle_of_another(mark: str) -> None:
    """The garbage collection that runs it can come at any moment."""
    assert _run(IN_A_FINALIZER, mark) == "50 {'in\\n'}\n"


AT_EXIT = """
import atexit
atexit.register(lambda: print(run("echo after", 20).stdout, end="", flush=True))
from ipython_pgtimeout import run
atexit.register(lambda: print(run("echo before", 20).stdout, end="", flush=True))
run("true", 20)
"""


def test_commands_run_before_and_after_the_helpers_are_released_at_exit(mark: str) -> None:
    assert _run(AT_EXIT, mark, prelude="") == "before\nafter\n"


DAEMON_THREADS = """
def work():
    while True:
        run("true", 20)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
threading.Thread(target=run, args=("sleep 1000", 2000), daemon=True).start()
time.sleep(0.3)
say("ends")
"""


def test_commands_of_daemon_threads_end_with_the_process(mark: str) -> None:
    assert _run(DAEMON_THREADS, mark) == "ends\n"


AT_FINALIZATION = """
import atexit
at_exit, is_locked = threading.Event(), threading.Event()
def hold_the_lock():
    at_exit.wait()
    with connection._lock:
        is_locked.set()
        threading.Event().wait()  # in the middle of a locked section, where its thread is stopped for ever
def let_it_hold_the_lock():
    at_exit.set()
    is_locked.wait()
atexit.register(let_it_hold_the_lock)
from ipython_pgtimeout import run
from ipython_pgtimeout.caller.connection import connection
threading.Thread(target=hold_the_lock, daemon=True).start()
class Last:
    def __del__(self, run=run, print=print):
        try:
            run("true", 20)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
run("true", 20)
sys.modules["last"] = types.ModuleType("last")  # not in this one, whose frame the thread keeps
sys.modules["last"].last = Last()
"""


def test_a_command_at_the_finalization_of_the_interpreter_fails_at_once(mark: str) -> None:
    prelude = "import sys, threading, types"
    assert _run(AT_FINALIZATION, mark, prelude) == (
        "GuardDied the launcher, which supervises commands, can't be started: Python is shutting down\n"
    )


# -- forked children ------------------------------------------------------------------------------------------

CHILD = """
from ipython_pgtimeout.caller.blocking import run_to_end
from ipython_pgtimeout.spec import make_spec
def fork():
    "Returns how a child ends that gets SIGINT."
    ready, is_ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(is_ready, b"x")
            while True:
                time.sleep(10)
        except KeyboardInterrupt:
            is_restored = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            os._exit(42 if is_restored and signal.set_wakeup_fd(-1) == -1 else 43)
        finally:
            os._exit(1)
    os.read(ready, 1)
    os.kill(child, signal.SIGINT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
found = []
"""
FORK_IN_A_THREAD = """
def work():
    while not os.path.exists(path):
        time.sleep(0.01)
    for _ in range(20):
        found.append(fork())
    os.unlink(path)
import tempfile
path = os.path.join(tempfile.mkdtemp(), "started")
threading.Thread(target=work).start()
result = run(f"touch {path}; while [ -e {path} ]; do sleep 0.02; done; echo on", 40)
say(result.reason, result.interrupted, result.stdout.strip(), found == [42] * 20)
"""
FORK_IN_A_CALLBACK = """
def show(stream, text):
    if text.startswith("ready"):
        found.append(fork())
result = run_to_end(make_spec({"command": "echo ready; sleep 0.3; echo on", "timeout": 40}), show)
say(result.reason, result.interrupted, result.stdout.split()[-1], found == [42])
"""


@pytest.mark.parametrize("code", [FORK_IN_A_THREAD, FORK_IN_A_CALLBACK], ids=["thread", "callback"])
def test_an_interrupt_of_a_forked_child_is_its_own(code: str, mark: str) -> None:
    """Before, it was swallowed in the child, and ended the command of the parent."""
    assert _run(CHILD + code, mark) == "exited False on True\n"


FORK_WHILE_INTERRUPTED = """
import os, signal, sys
os.register_at_fork(after_in_child=lambda: signal.raise_signal(signal.SIGINT))  # runs before ours
sys.unraisablehook = lambda unraisable: None
def say(*values):
    print(*values, flush=True)
from ipython_pgtimeout.caller.blocking import run_to_end
from ipython_pgtimeout.spec import make_spec
def show(stream, text):
    if text.startswith("ready") and os.fork() == 0:
        os._exit(0)
result = run_to_end(make_spec({"command": "echo ready; sleep 0.3; echo on", "timeout": 40}), show)
say(result.reason, result.interrupted)
"""


def test_an_interrupt_of_a_child_that_is_just_being_forked_is_its_own(mark: str) -> None:
    assert _run(FORK_WHILE_INTERRUPTED, mark, prelude="") == "exited False\n"


CHILD_RETURNS = """
from ipython_pgtimeout.caller.blocking import run_to_end
from ipython_pgtimeout.spec import make_spec
parent = os.getpid()
def show(stream, text):
    if text.startswith("ready"):
        os.fork()
try:
    result = run_to_end(make_spec({"command": "echo ready; sleep 1; echo on", "timeout": 40}), show)
    say("parent" if os.getpid() == parent else "child", result.reason, result.stdout.split())
except RuntimeError as error:
    say("parent" if os.getpid() == parent else "child", error)
    say("child", run("echo works", 20).stdout.strip())
"""


def test_a_child_that_returns_into_the_command_of_its_parent_gets_an_error(mark: str) -> None:
    """It leaves the context of the command, runs one of its own, and ends as a whole program: none of that reaches
    the command of the parent."""
    assert _run(CHILD_RETURNS, mark).splitlines() == [
        "child this command was released, or belongs to the process that this one was forked from",
        "child works",
        "parent exited ['ready', 'on']",
    ]


CHILD_LIVES_ON = """
children = []
def work():
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    children.append(child)
forking = threading.Thread(target=work)
forking.start()
result = run("sleep 1; wc -c", 10, stdin="x" * 1_000_000)
forking.join()
os.kill(children[0], signal.SIGKILL)
say(result.reason, result.stdout.strip())
"""


def test_a_forked_child_does_not_hide_the_end_of_stdin(mark: str) -> None:
    """A child that holds a copy of the pipe to stdin: the command waited for its end of file until the deadline."""
    assert _run(CHILD_LIVES_ON, mark) == "exited 1000000\n"
