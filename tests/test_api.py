"""`run`, the cell magic and the line magic share one engine. The fixture `evaluate` tests a claim through all three."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipython_pgtimeout
from ipython_pgtimeout import CommandFailed, CommandTimeout, InputError, run
from ipython_pgtimeout.caller import keeper

from .kernels import Kernel
from .watching import marked, survivors, wait_until, wait_until_gone

Evaluate = Callable[[dict[str, Any], str, str], object]
"""Run a script with options and evaluate an expression of its result ``r``."""


@pytest.fixture(params=["run", "cell", "line"])
def evaluate(request: pytest.FixtureRequest, kernel: Kernel) -> Evaluate:
    def by_run(options: dict[str, Any], script: str, expression: str) -> object:
        return eval(expression, {"r": run(script, **options)})

    def by_magic(options: dict[str, Any], script: str, expression: str) -> object:
        flags = {name: value for name, value in options.items() if name != "timeout"}
        words = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in flags.items()
        ]
        line = " ".join(["--no-raise --result r", *words, str(options["timeout"])])
        if request.param == "cell":
            kernel.run(f"%%timeout_shell {line}\n{script}")
        else:
            kernel.run(f"get_ipython().run_line_magic('run_timed', {line + ' ' + script!r})")
        return eval(kernel.value(expression))

    return by_run if request.param == "run" else by_magic


@pytest.mark.parametrize(
    ("options", "script", "expression", "expected"),
    [
        ({"timeout": 9}, "echo out; echo err >&2; exit 3", "(r.stdout, r.stderr)", ("out\n", "err\n")),
        ({"timeout": 9}, "exit 3", "(r.returncode, r.reason, r.timed_out)", (3, "exited", False)),
        ({"timeout": 9}, "kill -SEGV $$", "(r.returncode, r.reason)", (-signal.SIGSEGV, "exited")),
        ({"timeout": 9}, "printf 'ä€😀'", "(r.stdout, r.stdout_bytes)", ("ä€😀", 9)),
        ({"timeout": 9}, r"printf 'a\377\342\202'", "r.stdout", "a\ufffd\ufffd"),
        ({"timeout": 9}, "true", "(r.signals, r.survivors, r.error)", ((), (), "")),
        ({"timeout": "9s"}, "true", "(r.timeout, r.args.strip())", (9.0, "true")),
        ({"timeout": "inf"}, "echo hi", "(r.stdout, str(r.timeout))", ("hi\n", "inf")),
        ({"timeout": "200ms"}, "sleep 60", "(r.reason, r.timed_out)", ("timeout", True)),
        ({"timeout": 0.2}, "sleep 60", "([s.signal for s in r.signals], r.returncode)", (["SIGTERM"], -15)),
        ({"timeout": 0.2, "signal": "INT"}, "exec sleep 60", "[s.signal for s in r.signals]", ["SIGINT"]),
        ({"timeout": 0.2, "signal": 9}, "sleep 60", "r.returncode", -signal.SIGKILL),
        ({"timeout": 0.2, "kill_after": 0}, "sleep 60", "[s.signal for s in r.signals]", ["SIGKILL"]),
        ({"timeout": 2}, "trap 'exit 7' TERM; sleep 60 & wait", "(r.timed_out, r.returncode)", (True, 7)),
        ({"timeout": 30, "leftovers": "kill"}, "sleep 60 & exit 4", "(r.reason, r.returncode)", ("exited", 4)),
        ({"timeout": 9, "strict": True}, "false; echo no", "(r.returncode, r.stdout)", (1, "")),
        ({"timeout": 9, "strict": True}, "echo $undefined_name; echo no", "(r.returncode > 0, r.stdout)", (True, "")),
        ({"timeout": 9, "strict": True}, "false | true; echo no", "(r.returncode, r.stdout)", (1, "")),
        ({"timeout": 9}, "false | true; echo yes", "r.stdout", "yes\n"),
        ({"timeout": 9, "cwd": "/"}, "pwd", "r.stdout", "/\n"),
        ({"timeout": 9, "shell": sys.executable}, "print(6 * 7)", "r.stdout", "42\n"),
        ({"timeout": 9}, "cat; echo end", "r.stdout", "end\n"),
        ({"timeout": 9}, "read line; echo $?; echo two", "r.stdout", "1\ntwo\n"),
    ],
)
def test_run_and_the_magics_agree(
    evaluate: Evaluate, options: dict[str, Any], script: str, expression: str, expected: object
) -> None:
    assert evaluate(options, script, expression) == expected


def test_a_deadline_is_kept_and_measured(evaluate: Evaluate) -> None:
    duration = evaluate({"timeout": 0.4}, "sleep 60", "r.duration")
    assert isinstance(duration, float)
    assert 0.4 <= duration < 2.4  # the grace would end at 2.4


def test_processor_time_and_memory_are_measured(evaluate: Evaluate) -> None:
    code = "x = bytearray(60_000_000)\nfor i in range(3_000_000): pass"
    figures = evaluate({"timeout": 30, "shell": sys.executable}, code, "(r.cpu_time, r.duration, r.max_rss)")
    assert isinstance(figures, tuple)
    cpu_time, duration, max_rss = figures
    assert 0.02 < cpu_time <= duration + 0.1
    assert 60_000_000 < max_rss < 600_000_000


def test_the_current_directory_environment_and_umask_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("true", 9)  # the launcher is started before the change
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGTIMEOUT_TEST", "now")
    old_mask = os.umask(0o027)
    try:
        result = run("pwd -P; echo $PGTIMEOUT_TEST; umask; echo $ADDED", 9, env={"ADDED": "$(exit) 'x'"})
    finally:
        os.umask(old_mask)
    assert result.stdout.splitlines() == [str(tmp_path.resolve()), "now", "0027", "$(exit) 'x'"]
    assert "ADDED" not in os.environ


def test_a_directory_may_be_a_path(tmp_path: Path) -> None:
    assert run("pwd -P", 9, cwd=tmp_path).stdout == f"{tmp_path.resolve()}\n"


def test_check_raises_what_subprocess_raises() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run("echo out; exit 3", 9, check=True)
    assert isinstance(failed.value, CommandFailed)
    assert (failed.value.returncode, failed.value.stdout) == (3, "out\n")
    with pytest.raises(subprocess.TimeoutExpired) as timed_out:
        run("echo out; sleep 60", 2, check=True)
    assert isinstance(timed_out.value, CommandTimeout)
    assert (timed_out.value.timeout, timed_out.value.output) == (2, "out\n")


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_raises_keyboard_interrupt_with_the_result(mark: str) -> None:
    script = f"import os, signal; os.kill({os.getpid()}, signal.SIGINT); import time; time.sleep(60)  # {mark}"
    with pytest.raises(KeyboardInterrupt) as caught:
        run(script, 30, shell=sys.executable)
    result = caught.value.result  # type: ignore[attr-defined]
    assert (result.interrupted, result.reason) == (True, "interrupted")
    assert not marked(mark)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = run(f"kill -INT {os.getpid()}; echo on", 9)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (result.stdout, result.interrupted) == ("on\n", False)


def test_run_takes_paths_and_bytes_as_subprocess_does(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    options: list[dict[str, Any]] = [
        {
            "shell": Path("/bin/sh"),
            "cwd": tmp_path / "in",
            "log": tmp_path / "log",
            "env": {"A": Path("/x y"), "B": "b"},
        },
        {
            "shell": b"/bin/sh",
            "cwd": os.fsencode(tmp_path / "in"),
            "log": os.fsencode(tmp_path / "log"),
            "env": {b"A": b"/x y", b"B": b"b"},
        },
    ]
    for given in options:
        result = run("pwd -P; echo $A $B", 9, **given)
        assert result.stdout == f"{(tmp_path / 'in').resolve()}\n/x y b\n"
        assert (tmp_path / "log").read_text() == result.stdout


@pytest.mark.parametrize("name", ["RTMIN+1", "RTMAX-1", str(signal.SIGRTMIN + 1)])
def test_a_real_time_signal_can_be_the_first_signal(name: str) -> None:
    number = signal.SIGRTMAX - 1 if name.startswith("RTMAX") else signal.SIGRTMIN + 1
    result = run("exec sleep 60", 0.2, signal=name)
    assert result.returncode == -number
    assert result.signals[0].signal in ("SIGRTMIN+1", "SIGRTMAX-1")


def test_few_buffers_are_kept_after_many_commands_at_once(tmp_path: Path) -> None:
    """Version 0.1 kept two buffers for each of 200 commands, and never freed these 135 MB. Later ones freed them at the
    command's end: 60 commands that wrote nothing had 31 MB."""
    tracemalloc.start()
    try:
        script = f"mktemp -p {tmp_path} up.XXXXXX >/dev/null; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
        threads = [threading.Thread(target=run, args=(script, 50)) for _ in range(60)]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(list(tmp_path.glob("up.*"))) == 60, 40)
        used_bytes, _ = tracemalloc.get_traced_memory()
        (tmp_path / "go").touch()
        for thread in threads:
            thread.join()
        del threads
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes < 8_000_000, "a command that writes nothing has a buffer"
    assert len(keeper._spare_buffers) <= keeper._MAX_SPARE_BUFFERS
    assert kept_bytes < 8_000_000


def test_leftovers_leave_keeps_processes_running_and_names_them(mark: str) -> None:
    result = run(
        f"MARK={mark} sleep 60 & until [ $(cat /proc/$!/comm) = sleep ]; do :; done; echo $!", 9, leftovers="leave"
    )
    (left,) = result.survivors
    assert result.returncode == 0
    assert (left.pid, left.name) == (int(result.stdout), "sleep")
    assert f"left running: sleep ({left.pid})" in result.summary()
    assert [process.pid for process in marked(mark)] == [left.pid]


def test_no_helper_outlives_the_process_that_used_run(mark: str) -> None:
    """Neither after a normal exit nor after os._exit, which runs no clean-up."""
    for end in ("pass", "import os; os._exit(0)"):
        code = f"from ipython_pgtimeout import run; print(run('echo hi', 9).stdout); {end}"
        environment = {**os.environ, "MARK": mark}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout == "hi\n\n"
        assert not wait_until_gone(mark, 10)


def test_a_list_is_a_program_and_its_arguments_which_no_shell_sees(tmp_path: Path) -> None:
    arguments: list[str | bytes] = ["a b", "", "$HOME", "'", '"; exit 3', "*", "é\n", b"\xff"]
    result = run(["printf", "<%s>", *arguments], 9)
    assert result.stdout == "<a b><><$HOME><'><\"; exit 3><*><é\n><\ufffd>"
    assert shlex.split(result.command)[:4] == ["printf", "<%s>", "a b", ""]
    assert result.command == result.args
    assert run(("cat",), 9, stdin="fed").stdout == "fed"
    assert run(["sh", "-c", "exit 3"], 9).summary().startswith("exit code 3")
    assert run(["printenv", "A"], 9, env={"A": "b"}).stdout == "b\n"
    assert run([Path(sys.executable), "-c", "print(1)"], 9).stdout == "1\n"
    assert run(["nice"], 9, pty=True).returncode == 0


def test_a_path_in_a_list_is_relative_to_the_directory_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("#!/bin/sh\necho $0 $1\n")
    (tmp_path / "here").chmod(0o755)
    assert run(["./here", "x"], 9, cwd=tmp_path).stdout == "./here x\n"
    (tmp_path / "here").chmod(0o644)
    result = run(["./here"], 9, cwd=tmp_path)
    assert (result.reason, result.returncode, result.error) == ("failed-to-start", 126, "Permission denied")


def test_a_list_meets_the_same_endings(mark: str) -> None:
    result = run(["env", f"MARK={mark}", "sh", "-c", "trap '' TERM; setsid sleep 60; sleep 61"], 2, kill_after=0.2)
    assert not survivors(mark)
    assert result.reason == "timeout"
    with pytest.raises(CommandTimeout) as caught:
        run(["sleep", "60"], 0.2, check=True)
    assert caught.value.cmd == "sleep 60"
    with ipython_pgtimeout.start(["sleep", "60"], 9) as job:
        assert job.command == "sleep 60"
        assert repr(job).endswith(": sleep 60>")


def test_a_script_of_several_megabytes_runs() -> None:
    """Linux limits one argument to 128 KiB, so the script can't be passed as one: execve(2)."""
    script = ": " + "x" * 3_000_000 + "\necho end of $0"
    result = run(script, 30)
    assert result.command == script
    assert (result.returncode, result.stdout.split()[:2]) == (0, ["end", "of"])


def test_a_cell_of_several_megabytes_runs(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 30\n" + ": a line of many\n" * 200_000 + "read line; echo end")
    assert reply.stdout == "end\n"


def test_half_a_megabyte_of_environment_reaches_the_command() -> None:
    values = {f"BIG_{number}": str(number) * 100_000 for number in range(4)} | {"BIGGEST": "x" * 120_000}
    result = run("echo ${#BIG_0} ${#BIG_1} ${#BIG_2} ${#BIG_3} ${#BIGGEST}", 9, env=values)
    assert result.stdout == "100000 100000 100000 100000 120000\n"


def test_a_command_with_a_too_large_variable_fails_to_start(tmp_path: Path) -> None:
    """Linux limits one variable to 128 KiB: execve(2)."""
    result = run(f"touch {tmp_path}/started", 9, env={"BIG": "x" * 200_000})
    assert (result.reason, result.returncode) == ("failed-to-start", 126)
    assert result.summary().startswith("could not start: Argument list too long")
    assert not (tmp_path / "started").exists()
    with pytest.raises(CommandFailed, match="could not start"):
        result.check_returncode()


def test_many_commands_leak_no_descriptor() -> None:
    run("true", 9)
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        run("true", 9)
        with pytest.raises(InputError):
            run("true", 9, cwd="/no/such/directory")
    assert wait_until(lambda: len(os.listdir("/dev/fd")) <= before, 5)


def test_public_names_are_sorted_and_documented() -> None:
    assert sorted(ipython_pgtimeout.__all__) == ipython_pgtimeout.__all__
    for name in ipython_pgtimeout.__all__:
        assert getattr(ipython_pgtimeout, name).__doc__
