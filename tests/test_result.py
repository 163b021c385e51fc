"""The Result of a command, its summary, and the exceptions that carry it."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
import signal
import subprocess

import pytest

from ipython_pgtimeout import CommandFailed, CommandTimeout, GuardDied, InputError, Result, run
from ipython_pgtimeout.result import make_interrupt
from ipython_pgtimeout.wording import describe_exit, format_limit, format_seconds, name_processes

from .kernels import Kernel

ENDED = r"; all are gone \(\d+\.\d+ s\)$"


@pytest.fixture(scope="module")
def timed_out() -> Result:
    return run("echo out; echo err >&2; sleep 60", 2)


@pytest.fixture(scope="module")
def failed() -> Result:
    return run("echo out; exit 3", 9)


@pytest.mark.parametrize(
    ("script", "options", "sentence"),
    [
        ("true", {}, r"^exit code 0 \(\d+\.\d+ s\)$"),
        ("exit 3", {}, r"^exit code 3 \("),
        ("kill -SEGV $$", {}, r"^ended by SIGSEGV \("),
        ("exec sleep 60", {"timeout": 0.2}, r"^timed out after 0\.2 s: SIGTERM to 1 process" + ENDED),
        ("sleep 60; sleep 61", {"timeout": 2}, r"^timed out after 2 s: SIGTERM to 2 processes" + ENDED),
        (
            "trap '' TERM; sleep 60; sleep 61",
            {"timeout": 2, "kill_after": 0.2},
            r"^timed out after 2 s: SIGTERM to 2 processes, SIGKILL to 2" + ENDED,
        ),
        ("sleep 60 & exit 4", {"leftovers": "kill"}, r"^exit code 4; leftovers ended: SIGTERM to 1 process" + ENDED),
        ("echo one >&2; echo two >&2; echo out; exit 128", {}, r"^exit code 128: two \("),
        ("echo two >&2; sleep 60 & exit 4", {"leftovers": "kill"}, r"^exit code 4: two; leftovers ended: SIGTERM to"),
        (r"printf 'a\n\033[1;31mred\033[0m \n \n' >&2; exit 1", {}, r"^exit code 1: red \("),
        (r"printf '10%%\r50%%\r' >&2; exit 1", {}, r"^exit code 1: 50% \("),
        (r"printf '\033]0;x\a\342\200\256\0' >&2; exit 1", {}, r"^exit code 1: \\x1b\]0;x\\x07\\u202e\\x00 \("),
        ("printf %9999s x | tr ' ' x >&2; exit 1", {}, r"^exit code 1: x{159}… \("),
        (r"printf ' \n\033[0m\n' >&2; exit 1", {}, r"^exit code 1 \("),
        ("echo warning >&2", {}, r"^exit code 0 \("),
        ("echo words >&2; kill -SEGV $$", {}, r"^ended by SIGSEGV \("),
        ("echo words >&2; exec sleep 60", {"timeout": 2}, r"^timed out after 2 s: SIGTERM to 1 process" + ENDED),
    ],
)
def test_the_summary_is_one_sentence(script: str, options: dict[str, object], sentence: str) -> None:
    result = run(script, **{"timeout": 9, **options})  # type: ignore[call-overload]
    assert re.search(sentence, result.summary()), result.summary()
    assert str(result) == result.summary()
    assert "\n" not in result.summary()


def test_each_signal_is_recorded_with_time_name_and_pids() -> None:
    result = run("trap '' TERM; echo $$; sleep 60; sleep 61", 2, kill_after=0.4)
    term, kill = result.signals
    assert (term.signal, kill.signal) == ("SIGTERM", "SIGKILL")
    assert int(result.stdout) == result.pid
    assert result.pid in term.pids
    assert result.pid in kill.pids
    assert 2 <= term.at_s < kill.at_s - 0.39
    assert kill.at_s <= result.duration


def test_a_result_has_the_attributes_of_a_completed_process(failed: Result) -> None:
    assert (failed.args, failed.returncode, failed.stdout, failed.stderr) == ("echo out; exit 3", 3, "out\n", "")
    with pytest.raises(subprocess.CalledProcessError):
        failed.check_returncode()
    assert run("true", 9).check_returncode() is None  # type: ignore[func-returns-value]


def test_a_result_is_immutable_and_can_be_copied(failed: Result) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        failed.returncode = 0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(failed)) == failed
    assert copy.deepcopy(failed) == failed
    assert "out" not in repr(failed).replace("timeout", "").replace("stdout_bytes", "").replace("echo out", "")


@pytest.mark.parametrize("fixture", ["timed_out", "failed"])
def test_an_exception_survives_pickling_with_its_result(request: pytest.FixtureRequest, fixture: str) -> None:
    result: Result = request.getfixturevalue(fixture)
    with pytest.raises(subprocess.SubprocessError) as caught:
        result.check_returncode()
    assert isinstance(caught.value, CommandTimeout | CommandFailed)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is type(caught.value)
    assert twin.result == result
    assert str(twin) == str(caught.value) == result.summary()


def test_an_interrupt_survives_pickling_with_its_result(timed_out: Result) -> None:
    twin = pickle.loads(pickle.dumps(make_interrupt(timed_out)))
    assert type(twin) is KeyboardInterrupt
    assert twin.result == timed_out  # type: ignore[attr-defined]
    assert twin._render_traceback_()[0].endswith(timed_out.summary())  # type: ignore[attr-defined]


def test_the_repr_of_an_exception_shows_the_summary() -> None:
    result = run("exit 3", 9, env={"A": "x" * 10_000})
    for error in (CommandTimeout(result), CommandFailed(result), make_interrupt(result)):
        assert repr(error) == f"{type(error).__name__}({result.summary()!r})"


def test_the_exceptions_are_subclasses_of_familiar_ones(timed_out: Result, failed: Result) -> None:
    late, wrong = CommandTimeout(timed_out), CommandFailed(failed)
    assert isinstance(late, subprocess.TimeoutExpired)
    assert not isinstance(late, subprocess.CalledProcessError)
    assert [late.cmd, late.timeout, late.output, late.stderr] == [timed_out.command, 2, "out\n", "err\n"]
    assert isinstance(wrong, subprocess.CalledProcessError)
    assert (wrong.cmd, wrong.returncode, wrong.output) == (failed.command, 3, "out\n")
    assert issubclass(InputError, ValueError)
    assert issubclass(GuardDied, RuntimeError)
    stop = make_interrupt(timed_out)
    assert type(stop) is KeyboardInterrupt  # not a subclass: loops and front ends know the plain one
    assert stop.result is timed_out  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(0, "exit code 0"), (255, "exit code 255"), (-9, "ended by SIGKILL"), (None, "not ended")],
)
def test_a_return_code_is_described(returncode: int | None, words: str) -> None:
    assert describe_exit(returncode) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0 s"), (0.0123, "0.012 s"), (0.0999, "0.100 s"), (0.1, "0.1 s"), (3.21, "3.2 s"), (30.0, "30.0 s")],
)
def test_a_measured_time_is_formatted(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(30.0, "30 s"), (0.3, "0.3 s"), (1e6, "1000000 s"), (math.inf, "inf s")]
)
def test_a_time_limit_is_formatted_as_it_was_set(seconds: float, words: str) -> None:
    assert format_limit(seconds) == words


def test_an_end_by_a_real_time_signal_is_described() -> None:
    """Most real-time signals have a number but no name."""
    number = signal.SIGRTMIN + 2
    result = run(f"kill -{number} $$", 9)
    assert result.returncode == -number
    assert str(number) in result.summary() or "SIGRT" in result.summary()


def test_many_processes_are_named_by_the_first_few() -> None:
    survivors = run("sleep 60 & sleep 61 & echo $!", 9, leftovers="leave").survivors
    run(f"kill {' '.join(str(process.pid) for process in survivors)}", 9, check=True)
    assert len(survivors) == 2
    names = name_processes(survivors, 9)
    assert re.fullmatch(r"\w+ \(\d+\), \w+ \(\d+\) and 7 more", names)


def test_the_exceptions_render_as_one_line_in_a_notebook(kernel: Kernel) -> None:
    for code, name, words in (
        ("%run_timed 0.2 sleep 60", "CommandTimeout", "timed out after 0.2 s: SIGTERM to 1 process; all are gone"),
        ("%%timeout_shell 9\nexit 3", "CommandFailed", "exit code 3"),
    ):
        reply = kernel.execute(code)
        assert (reply.status, reply.ename) == ("error", name)
        (line,) = re.sub(r"\x1b\[[0-9;]*m", "", reply.traceback).splitlines()
        assert line.startswith(f"{name}: {words}")
        assert reply.evalue == line.removeprefix(f"{name}: ")


def test_a_notebook_can_catch_the_exceptions(kernel: Kernel) -> None:
    reply = kernel.run(
        "import subprocess\n"
        "try:\n    get_ipython().run_line_magic('run_timed', '0.2 sleep 60')\n"
        "except subprocess.TimeoutExpired as error:\n    print(error.result.reason, error.timeout)\n"
        "try:\n    get_ipython().run_cell_magic('timeout_shell', '9', 'exit 3')\n"
        "except subprocess.CalledProcessError as error:\n    print(error.result.reason, error.returncode)\n"
    )
    assert reply.stdout == "timeout 0.2\nexited 3\n"
