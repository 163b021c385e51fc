"""What goes wrong with a `Job`: bad input, a dead guard."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipython_pgtimeout import GuardDied, InputError, Job, start
from ipython_pgtimeout.caller.connection import connection
from ipython_pgtimeout.caller.guard_handle import GuardHandle
from ipython_pgtimeout.caller.job import list_jobs

from .jobs import NASTY, busy_guard, nasty, ready
from .watching import survivors, wait_until


class Leave(Exception):
    pass


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("true", 0), {}, "timeout"),
        ((3, 5), {}, ""),
        (("  ", 5), {}, ""),
        (("true", 5), {"shell": "no-such-shell"}, "shell"),
        (("true", 5), {"cwd": "/no/such/directory"}, "cwd"),
        (("true", 5), {"on_output": 3}, "on_output"),
        (("true", 5), {"signal": "NONE"}, "signal"),
    ],
)
def test_bad_input_starts_nothing(arguments: tuple[object, ...], options: dict[str, object], field: str) -> None:
    before = list_jobs()
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError) as refused:
        start(*arguments, **options)  # type: ignore[arg-type]
    assert refused.value.field.replace("command", "") == field
    assert (list_jobs(), len(os.listdir("/proc/self/fd"))) == (before, fds)


def test_bad_arguments_of_a_method_are_named_and_change_nothing() -> None:
    with start("sleep 60", 60) as job:
        for call, said in (
            (lambda: job.wait("soon"), "timeout can't be 'soon'; write for example timeout='30', "),
            (lambda: job.wait_for("x", timeout="soon"), "timeout can't be 'soon'"),
            (lambda: job.status("soon"), "timeout can't be 'soon'"),
            (lambda: job.extend(0), "duration must be more than zero"),
            (lambda: job.send_signal("NONE"), "sig: there is no signal 'NONE'"),
        ):
            with pytest.raises(InputError) as refused:
                call()
            assert str(refused.value).startswith(said)
        assert (job.timeout, job.poll()) == (60, None)


def test_what_can_not_be_started_is_a_result(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_bytes(b"\x7fELF nothing")
    shell.chmod(0o755)
    job = start("true", 5, shell=shell)
    assert job.wait(10) == 126
    assert job.result is not None
    assert (job.result.reason, job.pid) == ("failed-to-start", 0)


@pytest.mark.parametrize("look", [Job.wait, Job.poll, lambda job: job.wait_for("never")])
def test_the_death_of_the_guard_is_raised_by_each_look(mark: str, look: object) -> None:
    job = ready(start(nasty(mark), 60), len(NASTY))
    os.kill(busy_guard(job), signal.SIGKILL)
    assert callable(look)
    for _ in range(2):
        with pytest.raises(GuardDied, match="all are gone"):
            assert wait_until(lambda: look(job) is not None, 10)
    assert not survivors(mark)
    assert (job.result, job.returncode, job.is_over) == (None, None, True)
    assert job.summary().startswith("the guard of this command has died")
    assert "ready" in job.stdout
    job.terminate()
    assert start("echo again", 10).wait(10) == 0


def test_the_death_of_the_guard_is_raised_at_the_end_of_a_with_block(mark: str) -> None:
    def use(error: BaseException | None) -> None:
        with ready(start(nasty(mark), 60), len(NASTY)) as job:
            os.kill(busy_guard(job), signal.SIGKILL)
            assert wait_until(lambda: job.is_over, 10)
            if error is not None:
                raise error

    with pytest.raises(GuardDied, match="all are gone"):
        use(None)
    with pytest.raises(Leave):  # it does not replace the exception that leaves the block
        use(Leave())
    assert not survivors(mark)


@pytest.mark.parametrize("cwd", [None, "below"])
def test_a_command_is_tried_again_in_the_directory_of_its_start(
    cwd: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its guard dies before it has read the request."""
    assert start("true", 10).wait(10) == 0
    taken: list[int] = []

    def take(fingerprint: tuple[object, ...]) -> GuardHandle:
        guard = type(connection).take(connection, fingerprint)
        if not taken:
            assert wait_until(lambda: guard.is_waiting() and guard.pid, 5)
            guard.signal(signal.SIGKILL)
        taken.append(guard.pid)
        return guard

    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    with background_held():
        monkeypatch.setattr(connection, "take", take)
        job = start("pwd", 20, cwd=cwd)
        os.chdir("/")
    assert job.wait(10) == 0
    assert (job.stdout.strip(), len(taken)) == (str(tmp_path / (cwd or "")), 2)


@contextlib.contextmanager
def background_held() -> Iterator[None]:
    """The thread that drives all jobs waits meanwhile."""
    go, held = threading.Event(), threading.Event()

    def hold(stream: str, text: str) -> None:
        held.set()
        go.wait(10)

    job = start("echo x", 20, on_output=hold)
    assert held.wait(10)
    yield
    go.set()
    job.wait(10)
