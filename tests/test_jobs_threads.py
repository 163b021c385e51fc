"""Jobs among threads, signal handlers and forks, at the end of the interpreter, and many at once.

What may hang or leave something behind runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ipython_pgtimeout import Job, start
from ipython_pgtimeout.caller.background import background

from .isolation import run_isolated
from .jobs import LONG, NASTY, nasty, ready
from .watching import survivors, wait_until, wait_until_gone

PRELUDE = """
import contextlib, ctypes, json, os, random, signal, subprocess, sys, threading, time
from ipython_pgtimeout import *
def told(**values):
    print("told " + json.dumps(values), flush=True)
def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def run_python(code: str, *options: str, mark: str = "") -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """Run code in a new interpreter, with ``mark`` in its environment. What it has ``told``, and how it ended."""
    command = [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, env={**os.environ, "MARK": mark}, capture_output=True, text=True, timeout=50)
    lines = [line for line in done.stdout.splitlines() if line.startswith("told ")]
    assert lines, done
    return json.loads(lines[-1].removeprefix("told ")), done


# -- threads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Job.interrupt, Job.terminate, Job.kill])
def test_every_method_works_from_many_threads_at_once(mark: str, end: Callable[[Job], None]) -> None:
    job = ready(start(LONG, 60, env={"MARK": mark}))
    failures: list[BaseException] = []
    barrier = threading.Barrier(8)

    def use() -> None:
        try:
            barrier.wait(10)
            seen = [job.pid, job.poll(), job.stdout, job.status(), job.remaining, repr(job), job.extend(1)]
            assert seen[0] == job.pid
            end(job)
            assert job.wait(10) == job.poll() == job.returncode
            assert list(job) == ["ready\n"]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert not survivors(mark)


def test_the_thread_is_there_only_while_jobs_run() -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "pgtimeout-jobs"]

    jobs = [ready(start(LONG, 60)) for _ in range(3)]
    assert threads() == ["pgtimeout-jobs"]
    for job in jobs:
        job.kill()
        job.wait(10)
    assert wait_until(lambda: not threads(), 5)
    assert background._thread is None


def test_jobs_can_be_started_without_a_pause_while_the_thread_ends() -> None:
    for _ in range(100):
        assert start("true", 20).wait(20) == 0


def test_nothing_is_started_when_no_thread_can_be_had(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job has one. When the thread that had not started was kept, all jobs after it hung."""
    assert wait_until(lambda: background._thread is None, 5)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fds = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            start(LONG, 60, env={"MARK": mark})
    assert not wait_until_gone(mark, 5)
    assert start("true", 20).wait(20) == 0
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= fds, 5)


def test_other_code_that_closes_a_pipe_of_a_job_ends_that_job_alone(mark: str) -> None:
    told, _ = run_python(
        """
        other, job = start("sleep 1; echo on", 20), start("echo ready; sleep 60", 60, kill_after=0.2, stdin="x" * 10**6)
        job.wait_for("ready")
        os.close(job.driven._running._streams.fds[0])
        job.terminate()
        try:
            ended = job.wait(5)
        except OSError as error:
            ended = type(error).__name__
        told(ended=ended, other=other.wait(10), on=other.stdout)
        os._exit(0)
        """,
        mark=mark,
    )
    assert (told["other"], told["on"]) == (0, "on\n"), told
    assert told["ended"] is not None
    assert not wait_until_gone(mark, 5)


# -- signal handlers --------------------------------------------------------------------------------------------

HANDLER = """
    job = start("while :; do echo x; sleep 0.01; done", 60)
    calls = {"handler": 0, "main": 0}
    def handle(signum, frame):
        calls["handler"] += 1
        job.pid, job.poll(), job.stdout, repr(job), job.extend(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(0.0001)
        start("true", 20).wait(20)
        signal.setitimer(signal.ITIMER_REAL, 0.003 + random.random() / 200)
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.003)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        calls["main"] += 1
        job.pid, job.poll(), job.stdout, repr(job), job.extend(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(0.001)
        if calls["main"] % 10 == 0:
            start("true", 20).wait(20)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    job.kill()
    told(code=job.wait(5), **calls)
"""


def test_a_signal_handler_can_use_a_job_in_the_middle_of_its_methods() -> None:
    told, _ = run_python(HANDLER)
    assert told["code"] == -9
    assert told["handler"] > 20
    assert told["main"] > 20


INTERRUPTS = """
    job = start("while :; do echo x; sleep 0.01; done", 60)
    end, interrupts, is_shooting = time.monotonic() + 2, 0, True
    def shoot():
        while is_shooting:
            time.sleep(random.random() * 0.0006)
            os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=shoot)
    thread.start()
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                job.stdout, job.remaining
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(0.0002)
        except (KeyboardInterrupt, RuntimeError):
            interrupts += 1
    is_shooting = False
    while thread.is_alive():
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
    has_lock, is_running = job.driven.lock._is_owned(), job.poll() is None
    job.kill()
    told(has_lock=has_lock, is_running=is_running, interrupts=interrupts, code=job.wait(5))
"""


def test_interrupts_of_a_wait_leave_the_job_going_and_its_lock_free() -> None:
    """`with` on the condition instead of its lock has left the lock taken once in some 15,000 interrupts."""
    told, _ = run_python(INTERRUPTS)
    assert told["interrupts"] > 500
    assert (told["has_lock"], told["is_running"], told["code"]) == (False, True, -9)


# -- fork -------------------------------------------------------------------------------------------------------

FORKS = """
    job = start("echo ready; cat >&2; echo end", 20, stdin="x" * 100_000)
    job.wait_for("ready")
    fed = start("sleep 0.3; cat | wc -c", 20, stdin="x" * 100_000)  # being fed while the child is forked
    child = {fork}
    if child == 0:
        {in_child}
        os._exit(0)
    codes = job.wait(10), fed.wait(10)
    told(codes=codes, status=os.waitpid(child, 0)[1], stdout=job.stdout, size=len(job.stderr), fed=fed.stdout)
"""
IN_CHILD = """
        try:
            for use in job.wait, job.poll, lambda: job.wait_for("never"):
                try:
                    use()
                except RuntimeError as error:
                    assert "belongs to the process that this one was forked from" in str(error), error
                else:
                    os._exit(1)
            job.kill(); job.terminate(); job.send_signal("TERM"); job.interrupt(); job.extend(5)
            assert list(job) and job.is_over and "belongs" in repr(job) and job.stdout == "ready\\n"
            own = start("echo own", 10)
            assert own.wait(10) == 0 and own.stdout == "own\\n"
            time.sleep(0.5)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
"""


def test_a_forked_child_leaves_the_jobs_of_its_parent_alone() -> None:
    """The child lives longer than the commands read their stdin: its copy of the pipe would hide the end of file."""
    told, done = run_python(FORKS.format(fork="os.fork()", in_child=IN_CHILD.strip()), "-W", "ignore")
    assert told["codes"] == [0, 0], done
    assert told["status"] == 0, done
    assert (told["stdout"], told["size"], told["fed"].strip()) == ("ready\nend\n", 100_000, "100000")


BUSY = """
    {start}
    child = ctypes.PyDLL(None).fork()  # Python does not know of this child, which has all descriptors
    if child == 0:
        signal.pause()
    {use}
    keeper = start("sleep 60", 60)  # the thread goes on
    keeper.pid
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.4)
    used_s = time.process_time() - before
    os.kill(child, signal.SIGKILL)
    keeper.kill()
    keeper.wait(5)
    told(used_s=used_s)
"""


@pytest.mark.parametrize(
    ("begin", "use"),
    [
        ('job = start("sleep 0.2; head -c 10", 20, stdin="x" * 500_000)', "job.wait(10)"),
        ('job = start("exec 0<&-; echo ready; sleep 30", 60, stdin="x" * 500_000)', 'job.wait_for("ready")'),
        ('job = start("sleep 0.2; echo x", 20)', "job.wait(10)"),
        ('job = start("sleep 30 & sleep 0.2; echo x", 20, leftovers="leave")', "job.wait(10)"),
        ('job = start("sleep 0.2; exec >&- 2>&-; sleep 30", 60)', "time.sleep(0.4)"),
    ],
    ids=["fed and over", "reader gone", "over", "left", "output closed"],
)
def test_a_description_that_another_process_also_has_keeps_the_thread_idle(begin: str, use: str, mark: str) -> None:
    """epoll(7) reports a closed descriptor for as long as another process has it, unless it was unregistered before. A
    pipe to stdin that was closed first took a whole processor."""
    told, _ = run_python(BUSY.format(start=begin, use=use), mark=mark)
    assert told["used_s"] < 0.1


# -- the end of the interpreter ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "sys.exit(3)", "raise LookupError", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_nothing_survives_the_end_of_the_interpreter(mark: str, how: str) -> None:
    code = f"""
    job = start({nasty(mark)!r}, 60, kill_after=0.3)
    job.wait_for("(?s)" + "ready.*" * {len(NASTY)})
    told(at=time.monotonic())
    {how}
    """
    told, done = run_python(code, "-W", "always")
    took_s = time.monotonic() - told["at"]
    assert took_s < 0.4, "the launcher was waited for half a second"
    assert "LookupError" in how or done.stderr == ""
    assert not wait_until_gone(mark, 5)


@pytest.mark.parametrize("hold", ["os.kill(os.getpid(), signal.SIGSTOP)", "ctypes.PyDLL(None).sleep(2)"])
def test_the_deadline_holds_while_the_process_is_stopped_or_its_interpreter_is_held(mark: str, hold: str) -> None:
    code = f"""
    job = start("echo ready; sleep 60; true", 0.5, env={{"MARK": input()}})
    job.wait_for("ready")
    print("ready", flush=True)
    {hold}
    told(code=job.wait(5), duration=job.result.duration, reason=job.result.reason)
    """
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(mark, file=process.stdin, flush=True)
        assert process.stdout.readline() == "ready\n"
        left = wait_until_gone(mark, 1.5)
        process.send_signal(signal.SIGCONT)
        assert not left
        told = json.loads(process.stdout.readline().removeprefix("told "))
    assert (told["code"], told["reason"]) == (-15, "timeout")
    assert told["duration"] < 1.5


# -- many -------------------------------------------------------------------------------------------------------

MANY = """
from ipython_pgtimeout import start
import contextlib, random
start("true", 20).wait()
def threads():
    return [thread.name for thread in threading.enumerate()]
def count():
    return len(os.listdir("/proc/self/fd"))
while "pgtimeout-jobs" in threads():
    time.sleep(0.01)
before, failures, codes = count(), [], []
def work():
    try:
        for _ in range(25):
            script = random.choice(["sleep 60", "setsid sleep 60 & wait", "trap '' TERM; sleep 60", "echo x", "yes"])
            job = start(script, 60, kill_after=0.1, stdin=random.choice([None, "x" * 100000]))
            time.sleep(random.random() * 0.03)
            random.choice([job.kill, job.kill, job.terminate, job.interrupt])()
            codes.append(job.wait(20))
    except BaseException as error:
        failures.append(repr(error))
workers = [threading.Thread(target=work) for _ in range(8)]
for worker in workers: worker.start()
for worker in workers: worker.join()
end = time.monotonic() + 10
while (count() > before or "pgtimeout-jobs" in threads()) and time.monotonic() < end:
    time.sleep(0.01)
told(left=left(), fds=count() - before, threads=threads(), failures=failures, ended=len(codes))
"""


def test_200_jobs_started_and_ended_at_random_leave_nothing() -> None:
    told = run_isolated(MANY)
    assert told["failures"] == []
    assert told["ended"] == 200
    assert told["left"] == []
    assert told["fds"] <= 0
    assert told["threads"] == ["MainThread"]
