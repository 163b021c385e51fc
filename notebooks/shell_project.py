"""The project of notebook 4: traces that a shell with job control must pass, on a real terminal.

``grade(main)`` makes a program of the notebook cell that defines ``main``, runs it as the leader of a session on a
pseudo-terminal, types what a user would type, and looks at the processes. All of this is below a guard of
ipython_pgtimeout, which is a subreaper and ends what is left: a shell that hangs or forks without end, too.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType

import psutil
from lesson import NotYet, expect
from terminal import CTRL_C, CTRL_D, CTRL_Z, Shell, Terminal


def trace_1(s: Shell) -> None:
    """a command runs and the prompt comes back"""
    s.computes()


def trace_2(s: Shell) -> None:
    """a pipeline is one process group, and in the foreground"""
    shown = s.run("echo 42 | tr 2 3", "no end of file: who has the writing end of the pipe still open?")
    expect(shown.strip() == "43", f"`echo 42 | tr 2 3` shows {shown[-80:]!r} and not 43: see os.pipe and os.dup2")
    os.killpg(s.start("nap | nap", 2), 9)
    s.until_back("the end of a pipeline")


def trace_3(s: Shell) -> None:
    """& gives the prompt back at once"""
    s.run("nap &")
    s.until(s.naps, "`nap &` starts no process")
    expect(os.getpgid(s.naps()[0].pid) != s.leader.pid, "`nap &` is in the shell's own process group")
    s.computes()


def trace_4(s: Shell) -> None:
    """^C ends the foreground job, not the shell, not the background job"""
    s.run("nap &")
    s.until(s.naps, "`nap &` starts no process")
    group = s.start("nap | nap", 2)
    s.type(CTRL_C)
    s.until(lambda: not s.states(group), "a process survives ^C: has it inherited that SIGINT is ignored?")
    s.until_back("^C")
    expect(len(s.naps()) == 1, "^C has ended the background job, too")
    s.computes()


def trace_5(s: Shell) -> None:
    """^Z stops the job, jobs lists it, fg continues it in the foreground"""
    group = s.start("nap | nap", 2)
    s.type(CTRL_Z)
    s.until(
        lambda: set(s.states(group)) == {"stopped"}, "^Z does not stop the job: has it inherited an ignored SIGTSTP?"
    )
    s.until_back("^Z: see os.WUNTRACED")
    s.lists(1, "stopped")
    s.type("fg\n")
    s.until(lambda: "stopped" not in s.states(group), "`fg` does not continue each process of the job: see SIGCONT")
    s.until(lambda: s.foreground() == group, "`fg` does not put the job into the foreground")
    s.type(CTRL_C)
    s.until_back("`fg` and ^C")


def trace_6(s: Shell) -> None:
    """bg continues a stopped job in the background; fg N takes job N"""
    group = s.start("nap | nap", 2)
    s.type(CTRL_Z)
    s.until_back("^Z")
    s.run("bg")
    s.until(lambda: "stopped" not in s.states(group), "`bg` does not continue each process of the job")
    s.until_in_front("`bg`")
    s.lists(1, "running")
    s.run("nap &")
    s.lists(2, "running")
    s.type("fg 1\n")
    s.until(lambda: s.foreground() == group, "`fg 1` does not put job 1 into the foreground")
    s.type(CTRL_Z)
    s.until_back("`fg 1` and ^Z")
    s.lists(1, "stopped")


def trace_7(s: Shell) -> None:
    """a background job that reads is stopped; fg lets it read"""
    s.run("cat &")
    is_stopped = "`cat &` is not stopped by SIGTTIN: it reads from the terminal, or ignores the signal"
    s.until(lambda: [p for p in psutil.Process(s.leader.pid).children() if p.status() == "stopped"], is_stopped)
    s.lists(1, "stopped")
    s.type("fg\n")
    s.until(lambda: s.foreground() != s.leader.pid, "`fg` does not put cat into the foreground")
    s.type("hello\n")
    s.until(lambda: s.screen.count("hello") == 2, "after `fg` cat does not read: is it continued?")
    s.type(CTRL_D)
    s.until_back("the end of cat")


def trace_8(s: Shell) -> None:
    """no zombie is left, and exit leaves nothing"""
    s.run("true | true &")
    child = psutil.Process(s.leader.pid).children
    s.until(lambda: s.run("true") or not child(), "a zombie is left of `true | true &`: see os.WNOHANG")
    s.run("nap &")
    s.start("nap | nap", 2)
    s.type(CTRL_Z)
    s.until_back("^Z")
    s.type("exit\n")
    Terminal.until(s, s.has_ended, "`exit` does not end the shell", 5)
    Terminal.until(s, lambda: not s.naps(), "`exit` leaves jobs: send them SIGHUP and SIGCONT", 5)


TRACES = (trace_1, trace_2, trace_3, trace_4, trace_5, trace_6, trace_7, trace_8)


def play(program: str) -> int:
    """Play all traces, and print a line for each. Returns how many are passed."""

    def find_fault(trace: Callable[[Shell], None]) -> str:
        shell = Shell(program)
        try:
            shell.wait_for_first_prompt()
            trace(shell)
        except NotYet as fault:
            return str(fault)
        except (psutil.Error, OSError) as error:
            return f"a process or the terminal is gone: {error}"
        finally:
            shell.close()
        return ""

    passed, before = 0, ""
    with ThreadPoolExecutor(len(TRACES)) as pool:
        for number, (trace, fault) in enumerate(zip(TRACES, pool.map(find_fault, TRACES), strict=True), 1):
            print(f"trace {number} {'FAILED' if fault else 'passed'}: {trace.__doc__}")
            if fault:
                print(f"    {fault if fault != before else 'as above'}")
            passed, before = passed + (not fault), fault
    return passed


def watch_for_storm(limit: int = 1000) -> None:
    """End this program when the machine has so many more processes that the shell must be forking without end."""

    def count() -> int:
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])

    normal = count()
    while count() < normal + limit:
        time.sleep(0.1)
    print("the shell forks without end", flush=True)
    os._exit(1)


def cell_of(function: FunctionType) -> str:
    """The text of the notebook cell that defines this function."""
    return "".join(linecache.getlines(function.__code__.co_filename)) + "\n"


def grade(main: FunctionType) -> int:
    """Grade the shell whose function ``main`` is this one. Returns the points: 1 for each trace but the first."""
    from ipython_pgtimeout import run

    program = cell_of(main) + "main()\n"
    here = {"PYTHON": sys.executable, "TRACES": __file__}
    result = run('exec "$PYTHON" "$TRACES"', timeout=60, leftovers="kill", stdin=program, env=here)
    print(result.stdout, end="")
    found = re.search(r"^(\d) of (\d) traces", result.stdout, re.M)
    expect(found, f"the traces did not come to an end ({result.reason}) {result.stderr[-300:]}")
    assert found
    points, most = int(found[1]) - 1, int(found[2]) - 1
    expect(points > 0, f"0 of {most} points; begin with the first trace that failed")
    print(f"right: {points} of {most} points")
    return points


if __name__ == "__main__":
    threading.Thread(target=watch_for_storm, daemon=True).start()
    print(play(sys.stdin.read()), "of", len(TRACES), "traces are passed")
