"""The verbs of a `Job`: those of `subprocess.Popen`, and those beyond. Its output: `test_jobs_output`."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import time

import pytest

from ipython_pgtimeout import Job, JobTimeout, start
from ipython_pgtimeout.caller.driven import end_all
from ipython_pgtimeout.caller.job import list_jobs

from .jobs import LONG, NASTY, nasty, ready
from .watching import survivors, wait_until


def test_the_pid_is_the_shells_and_the_return_code_comes_at_the_end() -> None:
    job = start("echo $$; read line; exit $line", "20s", stdin="5\n")
    assert job.pid > 0
    assert job.wait(10) == job.poll() == job.returncode == 5
    assert job.result is not None
    assert (int(job.stdout), job.result.pid, job.is_over, job.remaining) == (job.pid, job.pid, True, 0.0)
    assert job.command == job.args == "echo $$; read line; exit $line"


def test_a_wait_that_runs_out_leaves_the_job_going(mark: str) -> None:
    with ready(start(LONG, 60, env={"MARK": mark})) as job:
        with pytest.raises(subprocess.TimeoutExpired) as ran_out:
            job.wait("50ms")
        assert isinstance(ran_out.value, JobTimeout)
        assert (ran_out.value.timeout, ran_out.value.output) == (0.05, "ready\n")
        assert str(ran_out.value).endswith("stdout ends with 'ready'; the job goes on")
        assert str(pickle.loads(pickle.dumps(ran_out.value))) == str(ran_out.value)
        for no_time in (0, 0.0, -1, -0.5):
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(no_time)
        assert (job.poll(), job.returncode, job.result) == (None, None, None)
        assert survivors(mark)
    assert not survivors(mark)


@pytest.mark.parametrize("wait_s", [None, "inf", 20, "20s", 0])
def test_a_wait_for_a_job_that_is_over_returns_at_once(wait_s: float | str | None) -> None:
    job = start("exit 3", 20)
    job.wait()
    assert job.wait(wait_s) == 3


def test_signals_are_sent_to_every_process_and_told_in_the_result() -> None:
    child = "(trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.02; done) &"
    script = f"trap 'echo shell' USR1; {child} wait; wait"
    job = ready(start(script, 20))
    job.send_signal("USR1")
    assert job.wait(10) == 0
    assert job.result is not None
    assert sorted(job.stdout.split()[1:]) == ["child", "shell"]
    (sent,) = job.result.signals
    assert (sent.signal, sent.on_request, job.pid in sent.pids) == ("SIGUSR1", True, True)
    assert job.result.reason == "exited"


def test_a_job_can_be_stopped_and_continued() -> None:
    with ready(start("echo ready; while :; do echo x; sleep 0.01; done", 20)) as job:
        job.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: _state(job.pid) == "T", 5)
        sizes: list[int] = []

        def is_silent() -> bool:
            sizes.append(len(job.stdout))
            return len(set(sizes[-5:])) == 1 and len(sizes) > 5

        assert wait_until(is_silent, 5)
        job.send_signal("SIGCONT")
        assert wait_until(lambda: len(job.stdout) > sizes[-1] + 10, 5)
    assert job.result is not None
    assert [each.signal for each in job.result.signals][:3] == ["SIGSTOP", "SIGCONT", "SIGTERM"]
    assert [each.on_request for each in job.result.signals][:3] == [True, True, False]


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_a_deadline_ends_a_job_that_was_stopped(mark: str) -> None:
    job = ready(start(LONG, 1, env={"MARK": mark}))
    job.send_signal("STOP")
    job.wait(10)
    assert job.result is not None
    assert (job.result.reason, survivors(mark)) == ("timeout", [])


@pytest.mark.parametrize(
    ("end", "reason", "first", "within_s"),
    [
        (Job.interrupt, "interrupted", "SIGINT", 5),
        (Job.terminate, "terminated", "SIGTERM", 5),
        (Job.kill, "terminated", "SIGKILL", 5),
        (lambda job: job.send_signal("KILL"), "terminated", "SIGKILL", 5),
    ],
    ids=["interrupt", "terminate", "kill", "SIGKILL"],
)
def test_nothing_of_a_tree_survives_its_end(mark: str, end: object, reason: str, first: str, within_s: float) -> None:
    job = ready(start(nasty(mark), 60, kill_after=0.3), len(NASTY))
    started = survivors(mark)
    assert len(started) >= len(NASTY)
    assert callable(end)
    end(job)
    job.wait(within_s)
    assert not survivors(mark)  # at once: the job has said that all are gone
    assert job.result is not None
    assert (job.result.reason, job.result.signals[0].signal) == (reason, first)
    assert job.result.survivors == ()
    assert len(job.result.signals[0].pids) >= len(NASTY)
    for verb in (Job.interrupt, Job.terminate, Job.kill):  # they do nothing when it is over
        verb(job)
    job.send_signal("HUP")
    assert job.poll() == job.wait()


@pytest.mark.parametrize("again", [Job.interrupt, Job.kill, lambda job: [job.interrupt() for _ in range(9)]])
def test_a_second_interrupt_kills(mark: str, again: object) -> None:
    """However often: only a user's third press means that the guard does not answer."""
    script = "trap '' INT TERM; echo ready; sleep 60 & sleep 60; sleep 60"
    job = ready(start(script, 60, kill_after=30, env={"MARK": mark}))
    job.interrupt()
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(0.2)
    assert callable(again)
    again(job)
    job.wait(5)
    assert job.result is not None
    assert [each.signal for each in job.result.signals] == ["SIGINT", "SIGKILL"]
    assert (job.result.reason, survivors(mark)) == ("interrupted", [])


class Leave(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "terminated"), (Leave, "terminated"), (KeyboardInterrupt, "interrupted"), (SystemExit, "terminated")],
)
def test_a_with_block_ends_its_job(mark: str, error: type[BaseException] | None, reason: str) -> None:
    job = start(LONG, 60, env={"MARK": mark})
    with contextlib.nullcontext() if error is None else pytest.raises(error):  # noqa: SIM117
        with ready(job):
            assert survivors(mark)
            if error is not None:
                raise error
    assert not survivors(mark)
    assert job.result is not None
    assert job.result.reason == reason


def test_a_second_interrupt_at_the_end_of_a_with_block_kills_and_waits(mark: str) -> None:
    def interrupt_again(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    script = "trap 'kill -ALRM $PPID_OF_PYTHON' INT; trap '' TERM; echo ready; while :; do sleep 0.02; done"
    job = ready(start(script, 60, kill_after=30, env={"PPID_OF_PYTHON": str(os.getpid()), "MARK": mark}))
    previous = signal.signal(signal.SIGALRM, interrupt_again)
    try:
        with pytest.raises(KeyboardInterrupt), job:
            raise KeyboardInterrupt
        assert not survivors(mark)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert job.result is not None
    assert job.result.signals[-1].signal == "SIGKILL"


def test_a_deadline_can_be_extended_before_it_comes() -> None:
    started = time.monotonic()
    job = start("sleep 60", 0.6)
    remaining = job.extend("500ms")
    assert 1.1 - (time.monotonic() - started) <= remaining < 1.1
    assert job.timeout == pytest.approx(1.1)
    job.wait(10)
    assert time.monotonic() - started > 1.1
    assert job.result is not None
    assert (job.result.reason, job.result.timeout, job.timeout) == ("timeout", 1.1, 1.1)
    assert job.result.summary().startswith("timed out after 1.1 s")
    assert job.extend(5) == 0.0
    assert job.timeout == 1.1


def test_a_deadline_can_be_taken_away_and_an_endless_job_stays_so() -> None:
    with start("sleep 60", 0.5) as job, start("sleep 60", "inf") as endless:
        assert job.extend("inf") == job.timeout == job.remaining == float("inf")
        assert endless.extend(3) == float("inf")
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(0.7)
        assert "of inf s" in job.summary()


@pytest.mark.parametrize("end", [Job.interrupt, Job.terminate])
def test_it_is_too_late_to_extend_what_is_being_ended(end: object) -> None:
    job = ready(start("trap '' INT TERM; echo ready; while :; do sleep 0.02; done", 60, kill_after=0.3))
    assert callable(end)
    end(job)
    job.extend(100)
    job.wait(5)
    assert job.timeout == 60
    late = ready(start("trap '' TERM; echo ready; while :; do sleep 0.02; done", 2, kill_after=0.5))
    assert wait_until(lambda: not late.remaining, 5)
    assert late.extend(100) == 0.0
    assert late.wait(5) == -signal.SIGKILL
    assert late.timeout == 2


def test_what_a_silent_job_was_extended_by_is_not_told(mark: str) -> None:
    job = ready(start("trap '' TERM; echo ready; sleep 60; sleep 60", 60, idle=0.2, kill_after=0.5))
    assert wait_until(lambda: bool(job.status()) and job.driven.status.signal == "SIGTERM", 5)  # type: ignore[union-attr]
    job.extend(100)
    job.wait(5)
    assert job.result is not None
    assert (job.result.reason, job.result.timeout, job.timeout) == ("idle", 60, 60)


def test_status_and_summary_tell_what_goes_on() -> None:
    with ready(start("echo ready; sleep 60 & sleep 60; true", 90)) as job:
        assert wait_until(lambda: (job.status() or job.driven.status).processes == 3, 5)  # type: ignore[union-attr]
        state = r"running for \d\.\d+ s of 90 s"
        assert re.fullmatch(state, job.summary())
        assert re.fullmatch(rf"<Job {job.name}: {state}: echo ready; sleep 60 & sleep 60; true>", repr(job))
        assert job in list_jobs()
    assert job.result is not None
    assert job.summary() == job.result.summary()
    assert job.summary().startswith("terminated: SIGTERM to 3 processes; all are gone")
    assert job.status() is job.driven.status


def test_all_jobs_can_be_ended_at_once(mark: str) -> None:
    jobs = [ready(start(LONG, 60, env={"MARK": mark})) for _ in range(5)]
    end_all()
    assert all(job.result is not None and job.result.reason == "terminated" for job in jobs)
    assert not survivors(mark)
