"""The output of a `Job` while it runs, and of `run`: kept, iterated over, searched, and passed on."""

from __future__ import annotations

import random
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ipython_pgtimeout import CommandEnded, Job, JobTimeout, Result, run, start

from .watching import survivors, wait_until

ERROR_OF_USER = "a function that breaks"


def test_output_so_far_is_kept_within_its_bound() -> None:
    with start("seq 100000; echo done >&2; sleep 60", 60, max_output=1000) as job:
        job.wait_for("done", timeout=20)
        assert wait_until(lambda: job.stdout.endswith("\n100000\n"), 5)
        assert job.stdout.startswith("1\n2\n3\n")
        assert len(job.stdout) < 1100
        assert re.search(r"\n\[… [\d,]+ bytes left out …\]\n", job.stdout)
        assert job.stderr == "done\n"
        before = job.stdout
    assert job.result is not None
    assert (job.result.stdout, job.result.truncated, job.stdout) == (before, True, before)


def test_a_pattern_is_found_beyond_the_head() -> None:
    with start("seq 100000; echo 'Listening on 8080'; sleep 60", 60, max_output=1000) as job:
        match = job.wait_for(r"Listening on (\d+)", timeout="20s")
        assert match[1] == "8080"
        assert job.wait_for(re.compile("^1$", re.MULTILINE)).start() == 0  # in what has come before


def test_a_pattern_that_does_not_come_leaves_the_job_going() -> None:
    with start("echo almost; sleep 60", 60) as job:
        job.wait_for("almost", timeout=20)
        with pytest.raises(subprocess.TimeoutExpired) as ran_out:
            job.wait_for("Listening", timeout=0.05)
        assert isinstance(ran_out.value, JobTimeout)
        assert ran_out.value.pattern == "Listening"
        assert str(ran_out.value) == "waited 0.05 s for 'Listening'; stdout ends with 'almost'; the job goes on"
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait_for("Listening", timeout=0)
        with pytest.raises(re.error):
            job.wait_for("(")
        assert job.poll() is None


def test_a_pattern_that_never_came_is_told_with_the_end() -> None:
    job = start("echo address in use >&2; exit 3", 60)
    with pytest.raises(CommandEnded) as ended:
        job.wait_for("Listening", timeout=20)
    assert str(ended.value).startswith("the command has ended without 'Listening': exit code 3")
    assert "stderr ends with 'address in use'" in str(ended.value)
    assert ended.value.result is job.result
    assert job.wait_for("in use")[0] == "in use"


def test_the_last_words_of_a_command_are_searched() -> None:
    """A pattern that comes together with the end is found."""
    for _ in range(20):
        assert start("echo last words", 20).wait_for("words", timeout=20)


def test_a_slow_pattern_holds_no_other_job_up() -> None:
    """When it was searched with the lock of the job, the thread that drives all jobs waited for it. Nor does output
    that comes all the time prolong the wait."""
    searches, may_end = threading.Event(), threading.Event()
    ended: list[bool] = []

    def search() -> None:
        searches.set()
        assert may_end.wait(20)

    with start("while :; do echo; sleep 0.01; done", 60) as job:
        waiting = threading.Thread(target=lambda: ended.append(job.driven.wait_until(search, 0.5)))
        waiting.start()
        assert searches.wait(10)
        assert start("true", 20).wait(10) == 0
        assert not may_end.is_set()
        may_end.set()
        waiting.join(5)
        assert ended == [False]


def test_two_threads_can_iterate_over_all_output() -> None:
    job = start("for i in $(seq 200); do echo $i; echo $i >&2; done; sleep 0.1; echo end", 20)
    read: dict[int, str] = {}

    def iterate(number: int) -> None:
        read[number] = "".join(job)

    threads = [threading.Thread(target=iterate, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert read[0] == read[1] == "".join(job)  # and once more when it is over
    assert sorted(read[0].split()[:-1], key=int) == [str(i) for i in range(1, 201) for _ in range(2)]
    assert read[0].endswith("end\n")


def test_texts_come_as_they_are_written(tmp_path: Path) -> None:
    job = start(f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo two", 20)
    texts = iter(job)
    assert next(texts) == "one\n"
    (tmp_path / "go").touch()
    assert "".join(texts) == "two\n"
    waiting = start("echo one; sleep 60", 60)
    assert next(iter(waiting)) == "one\n"
    waiting.kill()


def test_output_of_many_jobs_at_once_never_mixes() -> None:
    heard: list[list[str]] = [[] for _ in range(50)]

    def hear(number: int) -> Callable[[str, str], None]:
        return lambda stream, text: heard[number].append(text)

    script = "for i in $(seq 40); do echo {0}-$i; done; echo {0}-err >&2"
    jobs = [start(script.format(number), 60, on_output=hear(number)) for number in range(50)]
    for number, job in enumerate(jobs):
        assert job.wait(50) == 0
        lines = [f"{number}-{i}\n" for i in range(1, 41)]
        assert (job.stdout, job.stderr) == ("".join(lines), f"{number}-err\n")
        assert sorted("".join(heard[number]).splitlines(True)) == sorted([*lines, f"{number}-err\n"])


# -- on_output and echo -----------------------------------------------------------------------------------------


@pytest.fixture(params=["run", "start"])
def finish(request: pytest.FixtureRequest) -> Callable[..., Result]:
    def by_start(*arguments: object, **options: object) -> Result:
        job = start(*arguments, **options)  # type: ignore[arg-type]
        job.wait(20)
        assert job.result is not None
        return job.result

    return by_start if request.param == "start" else run


def test_on_output_gets_each_stream_as_it_comes(finish: Callable[..., Result]) -> None:
    heard: list[tuple[str, str]] = []
    result = finish("echo out; sleep 0.2; echo err >&2", 20, on_output=lambda *each: heard.append(each))
    assert heard == [("stdout", "out\n"), ("stderr", "err\n")]
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_on_output_of_a_job_misses_nothing_beyond_the_bound() -> None:
    # By stream: a read of one of them can end within a line, and then the other's text comes between.
    heard = {"stdout": "", "stderr": ""}

    def hear(stream: str, text: str) -> None:
        heard[stream] += text

    start("seq 50000; echo err >&2; seq 3", 20, max_output=10, on_output=hear).wait(20)
    assert heard["stdout"].splitlines() == [*map(str, range(1, 50001)), "1", "2", "3"]
    assert heard["stderr"] == "err\n"


def test_echo_prints_to_both_streams(finish: Callable[..., Result], capfd: pytest.CaptureFixture[str]) -> None:
    finish("echo out; echo err >&2", 20, echo=True)
    assert capfd.readouterr() == ("out\n", "err\n")
    finish("echo out; echo err >&2", 20)
    assert capfd.readouterr() == ("", "")


def test_an_error_in_on_output_ends_run(mark: str) -> None:
    def fail(stream: str, text: str) -> None:
        raise LookupError(ERROR_OF_USER)

    with pytest.raises(LookupError, match=ERROR_OF_USER):
        run("echo x; sleep 60; true", 60, on_output=fail, env={"MARK": mark}, kill_after=0.3)
    assert wait_until(lambda: not survivors(mark), 5)


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_an_error_in_on_output_ends_the_job_alone(mark: str, error: type[BaseException]) -> None:
    """`Job.wait` raises it once nothing is left."""

    def fail(stream: str, text: str) -> None:
        raise error(ERROR_OF_USER)

    other = start("sleep 0.3; echo on", 20)
    script = "trap '' TERM; echo x; while :; do sleep 0.02; done"
    job = start(script, 60, on_output=fail, env={"MARK": mark}, kill_after=0.2)
    with pytest.raises(error, match=ERROR_OF_USER):
        job.wait(10)
    assert not survivors(mark)
    with pytest.raises(error, match=ERROR_OF_USER):
        job.poll()
    assert (job.result, job.stdout) == (None, "x\n")
    assert (other.wait(10), other.stdout) == (0, "on\n")


def test_an_error_at_the_last_output_is_raised_too() -> None:
    def fail(stream: str, text: str) -> None:
        raise LookupError(ERROR_OF_USER)

    for _ in range(5):
        with pytest.raises(LookupError, match=ERROR_OF_USER):
            start("echo x", 60, on_output=fail).wait(10)
    assert start("echo on", 10).wait(10) == 0  # by the same guard


def test_on_output_can_use_the_job_but_not_wait_for_it() -> None:
    jobs: list[Job] = []
    done: list[object] = []
    is_there = threading.Event()

    def use(stream: str, text: str) -> None:
        is_there.wait(10)
        (job,) = jobs
        if "enough" in text:
            job.terminate()
            return
        done.extend([job.pid > 0, job.poll(), job.stdout, job.extend(5) > 60, repr(job)[:5], job.wait_for("x")[0]])
        for wait in (job.wait, job.status, lambda: job.wait_for("never"), lambda: list(job), lambda: job.wait(3)):
            with pytest.raises(RuntimeError, match="on_output can't wait for a job: all jobs would wait for it"):
                wait()

    jobs.append(start("echo x; sleep 0.2; echo enough; sleep 60", 60, on_output=use))
    is_there.set()
    jobs[0].wait(10)
    assert done == [True, None, "x\n", True, "<Job ", "x"]
    assert jobs[0].result is not None
    assert jobs[0].result.reason == "terminated"


def test_output_before_the_pid_waits_for_it() -> None:
    """The shell writes at once, and the guard may tell its pid later."""
    pids: list[int] = []
    jobs: list[Job] = []
    is_there = threading.Lock()

    def note(stream: str, text: str) -> None:
        with is_there:
            pids.append(jobs[-1].pid)

    for _ in range(random.randint(20, 30)):
        with is_there:
            jobs.append(start("echo x", 20, on_output=note))
        jobs[-1].wait(20)
    assert [job.pid for job in jobs] == pids
