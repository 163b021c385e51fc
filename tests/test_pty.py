"""--pty gives the command a real terminal. Everything it starts is ended as without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipython_pgtimeout import run

from .kernels import Kernel
from .watching import marked, program, wait_until, wait_until_gone


def test_the_command_has_a_controlling_terminal_with_a_size() -> None:
    tests = "for fd in 0 1 2; do test -t $fd && echo $fd; done; stty size; tty; (tty </dev/tty); ps -o tty= -p $$"
    lines = run(tests, 30, pty=True).stdout.splitlines()
    assert lines[:3] == ["0", "1", "2"]
    rows, columns = (int(word) for word in lines[3].split())
    assert rows > 0
    assert columns > 0
    assert lines[4].startswith("/dev/pts/")
    assert lines[5] == "/dev/tty"
    assert f"/dev/{lines[6].strip()}" == lines[4]


def test_without_pty_there_is_no_terminal() -> None:
    assert run(
        "test -t 0 || test -t 1 || test -t 2 || echo none; (echo x >/dev/tty) 2>/dev/null || echo no tty", 30
    ).stdout == ("none\nno tty\n")


def test_newlines_stay_unchanged_and_stderr_is_merged_in_order() -> None:
    result = run("for n in {1..300}; do echo o$n; echo e$n >&2; done; printf 'a\\r\\nb'", 30, pty=True)
    assert result.stdout == "".join(f"o{n}\ne{n}\n" for n in range(1, 301)) + "a\r\nb"
    assert (result.stderr, result.stderr_bytes) == ("", 0)


def test_job_control_works() -> None:
    script = "set -m; sleep 0.2 & jobs -l | grep -c Running; fg %1 >/dev/null; echo back"
    assert run(script, 30, pty=True).stdout == "1\nback\n"


def test_the_last_output_is_not_lost() -> None:
    for _ in range(50):
        assert run("seq 20000", 30, pty=True).stdout_bytes == 108894


@pytest.mark.parametrize(
    "prompt",
    ["read x; echo $?; read y; echo $?", "cat; echo $?; cat; echo $?", "read x </dev/tty; echo $?; read y; echo $?"],
)
def test_every_read_from_the_terminal_gets_end_of_file(prompt: str) -> None:
    result = run(prompt, 20, pty=True)
    assert result.reason == "exited"
    assert result.duration < 10
    assert len(result.stdout.split()) == 2


HINT = "[pgtimeout] stdin is empty; hand over --stdin NAME\n"


def test_a_command_that_fails_at_a_prompt_is_told_that_stdin_is_empty(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell --pty 20\nread -p 'Name? ' name")
    assert (reply.ename, reply.stdout, reply.stderr) == ("CommandFailed", "Name? ", HINT)


def test_a_command_that_fails_after_an_end_of_file_is_told_that_stdin_is_empty(kernel: Kernel, tmp_path: Path) -> None:
    read = f"read name; echo read; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo no name; exit 1"
    reply = kernel.submit(f"%%timeout_shell --pty 20\n{read}")
    kernel.wait_for_text(reply, "read")
    (tmp_path / "go").touch()
    kernel.wait(reply)
    assert (reply.ename, reply.stdout, reply.stderr) == ("CommandFailed", "read\nno name\n", HINT)


@pytest.mark.parametrize(
    ("options", "script"),
    [
        ("--pty", "echo words; sleep 0.3; exit 1"),
        ("--pty", "read -p 'Name? ' name; printf done"),
        ("--pty --stdin text", "read -p 'Name? ' name; printf \"$name\"; exit 1"),
        ("--pty", "printf ready; kill -9 $$"),
        ("", "printf 'Name? '; read name"),
    ],
    ids=["nothing read", "successful", "stdin given", "ended by a signal", "no terminal"],
)
def test_nothing_is_said_about_stdin_otherwise(kernel: Kernel, options: str, script: str) -> None:
    kernel.run("text = 'word\\n'")
    assert "stdin" not in kernel.execute(f"%%timeout_shell {options} 20\n{script}").stderr


def test_the_terminal_is_at_end_of_file_with_stdin_too() -> None:
    """Version 0.1 waited until the deadline."""
    assert run("read x </dev/tty; echo $?; cat", 20, pty=True, stdin="word").stdout == "1\nword"


def test_stdin_arrives_unchanged_while_output_goes_to_the_terminal() -> None:
    data = bytes(range(256)) * 20_000
    result = run("test -t 1 && wc -c", 30, pty=True, stdin=data)
    assert int(result.stdout) == len(data)


@pytest.mark.parametrize("name", ["ignores.sh", "own_session.sh", "hidden_daemon.py", "stopped_job.sh"])
def test_nothing_survives_a_deadline_in_a_terminal(name: str, mark: str) -> None:
    result = run(program(name, mark), 1.5, pty=True, kill_after=0.3)
    assert "ready" in result.stdout
    assert result.timed_out
    assert result.survivors == ()
    assert wait_until_gone(mark, 3) == []


def test_the_stop_button_works_in_a_terminal(kernel: Kernel, mark: str) -> None:
    reply = kernel.submit(f"%%timeout_shell --pty 30\necho ready; sleep 60; : {mark}")
    kernel.wait_for_text(reply, "ready")
    kernel.interrupt()
    kernel.wait(reply)
    assert reply.ename == "KeyboardInterrupt"
    assert wait_until_gone(mark, 3) == []


def test_only_a_process_that_ignores_the_hangup_outlives_the_shell(mark: str) -> None:
    """As with ssh -t: the terminal hangs up when the session leader exits."""
    job = f"MARK={mark} sleep 60 &"
    assert run(f"{job} echo started", 30, pty=True).duration < 10
    result = run(f"trap '' HUP; {job} echo started", 30, pty=True, leftovers="leave")
    assert result.stdout == "started\n"
    assert wait_until(lambda: len(marked(mark)) == 1, 5)  # execve(2) hides the mark for a moment
    assert result.survivors
