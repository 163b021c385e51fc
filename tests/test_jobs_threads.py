"""Jobs among threads and signal handlers, and many at once.

What may hang or leave something behind runs in a process of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from ipython_pgtimeout import Job, start
from ipython_pgtimeout.caller.background import background

from .isolation import run_isolated
from .jobs import LONG, ready, run_python
from .watching import survivors, wait_until, wait_until_gone

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
        os.close(job.driven._running.streams.fds[0])
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
    end, interrupts, raises = time.monotonic() + 2, 0, False
    def interrupt(*_):
        global raises
        if raises:
            raises = False
            raise KeyboardInterrupt
    signal.signal(signal.SIGINT, interrupt)
    def shoot():
        while time.monotonic() < end:
            time.sleep(random.random() * 0.0006)
            os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=shoot)
    thread.start()
    while time.monotonic() < end:
        try:
            raises = True
            while time.monotonic() < end:
                job.stdout, job.remaining
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(0.0002)
            raises = False
        except (KeyboardInterrupt, RuntimeError):  # RuntimeError: a rare fault of threading.Condition
            interrupts += 1
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


# -- many -------------------------------------------------------------------------------------------------------

MANY = """
from ipython_pgtimeout import start
from ipython_pgtimeout.caller.connection import connection
import contextlib, random
start("true", 20).wait()
def threads():
    return [thread.name for thread in threading.enumerate()]
def count():
    return len(os.listdir("/proc/self/fd"))
while "pgtimeout-jobs" in threads():
    time.sleep(0.01)
connection.close()  # and with it the idle guards, of which a few are kept
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
while "pgtimeout-jobs" in threads() and time.monotonic() < end:
    time.sleep(0.01)
connection.close()
told(left=left(), fds=count() - before, threads=threads(), failures=failures, ended=len(codes))
"""


@pytest.mark.alone
def test_200_jobs_started_and_ended_at_random_leave_nothing() -> None:
    told = run_isolated(MANY)
    assert told["failures"] == []
    assert told["ended"] == 200
    assert told["left"] == []
    assert told["fds"] <= 0
    assert told["threads"] == ["MainThread"]
