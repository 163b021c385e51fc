"""Input that can't be run raises a one-line error with a correct example, and nothing is started."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from ipython_pgtimeout import InputError, run

from .kernels import Kernel
from .watching import wait_until

# The options as a user types them, and words of the message.
BAD_OPTIONS = [
    ("0", "TIMEOUT must be more than zero"),
    ("-1", "TIMEOUT can't be '-1'"),
    ("nan", "TIMEOUT can't be 'nan'"),
    ("1e400", "longer than a year"),
    ("1000000d", "longer than a year"),
    ("soon", "TIMEOUT can't be 'soon'; write for example 30, 1.5, 500ms, 2m, 5m30s, 1h or inf"),
    ("--signal BANANA 5", "there is no signal 'BANANA'; write for example TERM"),
    ("--shell /no/such/shell 5", "there is no program '/no/such/shell'; write for example bash"),
    ("--shell no-such-shell 5", "there is no program 'no-such-shell'"),
    ("--shell /etc/passwd 5", "there is no program '/etc/passwd'"),
    ("--cwd /no/such/directory 5", "--cwd '/no/such/directory': No such file or directory; write"),
    ("--cwd /etc/passwd 5", "Not a directory"),
    ("--bananas 5", "unknown option --bananas"),
    ("--leftover kill 5", "did you mean --leftovers?"),
    ("--leftovers maybe 5", "--leftovers can't be 'maybe'; write wait, kill or leave"),
    ("--kill-after never 5", "--kill-after can't be 'never'; write for example 2s"),
    ("--kill-after inf 5", "--kill-after can't be 'inf'"),
    ("--kill-after -1 5", "--kill-after can't be '-1'"),
    ("--env undefined_name 5", "there is no Python variable undefined_name; define it, or write"),
    ("--env a_list 5", "a list can't be an environment variable; make it a str"),
    ("--env with_nul 5", "--env with_nul: a value can't hold a NUL byte"),
    ("--env =x 5", "--env can't be '=x'; write NAME or NAME=VALUE"),
    ("--env lone_surrogate 5", "--env lone_surrogate: '\\ud800' can't be encoded"),
    ("--stdin undefined_name 5", "there is no Python variable undefined_name; define it"),
    ("--stdin a_list 5", "--stdin: a value of type list can't be fed to a command; make it a str or bytes"),
    ("--idle never 5", "--idle can't be 'never'; write for example 30s"),
    ("--idle 0 5", "--idle must be more than zero"),
    ("--memory 0 5", "--memory must be more than zero, not '0'; write for example 500MB, 2GB or inf"),
    ("--memory big 5", "--memory can't be 'big'; write for example 500k"),
    ("--cpu never 5", "--cpu can't be 'never'; write for example 30s"),
    ("--processes 0 5", "--processes can't be '0'; write for example 50, 200 or inf"),
    ("--processes few 5", "--processes can't be 'few'; write for example 50"),
    ("--oom-score-adj 1001 5", "--oom-score-adj can't be '1001'; it is a number from 0 to 1000; write"),
    ("--max-output lots 5", "--max-output can't be 'lots'; write for example 500k"),
    ("--log /no/such/directory/log 5", "--log /no/such/directory/log: No such file or directory; write"),
    ("--result 1x 5", "--result can't be '1x'"),
    ("--out 1x 5", "--out can't be '1x'"),
    ("--err 'a b' 5", "--err can't be 'a b'"),
    ("--cwd 'a 5", "a quote is not closed"),
    ("--strict=1 5", "--strict takes no value; write --strict alone"),
    ("--pty=yes 5", "--pty takes no value; write --pty alone"),
]


@pytest.mark.parametrize("magic", ["cell", "line"])
@pytest.mark.parametrize(("given", "words"), BAD_OPTIONS, ids=[given for given, _ in BAD_OPTIONS])
def test_a_bad_option_is_reported_in_one_line_and_starts_nothing(
    kernel: Kernel, tmp_path: Path, magic: str, given: str, words: str
) -> None:
    kernel.run("a_list, with_nul, lone_surrogate = [1], 'a\\0b', chr(0xD800)")
    touch = f"touch {tmp_path}/started"
    code = f"%%timeout_shell {given}\n{touch}" if magic == "cell" else f"%run_timed {given} {touch}"
    _assert_refused(kernel, tmp_path, code, words)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%%timeout_shell\n{touch}", "TIMEOUT is missing; write for example %%timeout_shell 30"),
        ("%%timeout_shell --strict\n{touch}", "TIMEOUT is missing"),
        ("%%timeout_shell 5 echo hi\n{touch}", "unexpected 'echo hi'; write %%timeout_shell [options] TIMEOUT"),
        ("%%timeout_shell 5 10\n{touch}", "unexpected '10'"),
        ("%%timeout_shell 5 --signal\n{touch}", "--signal needs a value; write --signal SIG"),
        ("%%timeout_shell 5", "there is nothing to run; write a script below %%timeout_shell, for example: make test"),
        ("\n%%timeout_shell 5\n", "there is nothing to run"),
        ("%%timeout_shell 5\n \n\t\n", "there is nothing to run"),
        ("%%timeout_shell", "TIMEOUT is missing; write for example %%timeout_shell 30"),
        ("%run_timed", "TIMEOUT is missing; write for example %run_timed 30 make test"),
        ("%run_timed 5", "there is nothing to run"),
        ("%run_timed {touch}", "TIMEOUT can't be 'touch'"),
        ("get_ipython().run_cell_magic('timeout_shell', '5', '{touch}\\necho \\0')", "a NUL byte in line 2"),
        ("get_ipython().run_line_magic('run_timed', '5 {touch} \\0')", "a NUL byte in line 1"),
    ],
)
def test_a_malformed_magic_is_reported_in_one_line_and_starts_nothing(
    kernel: Kernel, tmp_path: Path, code: str, words: str
) -> None:
    _assert_refused(kernel, tmp_path, code.replace("{touch}", f"touch {tmp_path}/started"), words)


def _idle_guards(kernel: Kernel) -> list[tuple[int, int]]:
    """The idle guards, each with its number of context switches, which stays the same while the guard waits."""
    readings: list[list[tuple[int, int]]] = [[]]

    def is_settled() -> bool:
        guards = kernel.guards()
        readings.append([(guard.pid, sum(guard.num_ctx_switches())) for guard in guards])
        # Two equal readings are not enough: on a busy machine a guard that still works may wait for a processor.
        at_rest = guards != [] and all(guard.status() == psutil.STATUS_SLEEPING for guard in guards)
        return at_rest and readings[-1] == readings[-2]

    assert wait_until(is_settled, 10)
    return readings[-1]


def _assert_refused(kernel: Kernel, tmp_path: Path, code: str, words: str) -> None:
    before = _idle_guards(kernel)
    reply = kernel.execute(code)
    assert reply.status == "error"
    (line,) = reply.text.splitlines()
    assert line.startswith("UsageError: ")
    assert words in line
    assert not (tmp_path / "started").exists()
    assert _idle_guards(kernel) == before, "a guard was woken"


def test_a_valid_line_starts_a_command_and_wakes_a_guard(kernel: Kernel, tmp_path: Path) -> None:
    """The control: a line without a mistake has the effects that the tests above rule out."""
    before = _idle_guards(kernel)
    kernel.run(f"%run_timed 5 touch {tmp_path}/started")
    assert (tmp_path / "started").exists()
    assert _idle_guards(kernel) != before


def test_a_mistake_in_a_call_is_shown_as_one_line(kernel: Kernel) -> None:
    reply = kernel.execute("import ipython_pgtimeout\nipython_pgtimeout.run('true', 5, idle='never')")
    (line,) = reply.text.splitlines()
    assert line.endswith(": idle can't be 'never'; write for example idle='30s', idle='5m' or idle='inf'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"timeout": 0}, "timeout must be more than zero, not 0; write for example timeout='30'"),
        ({"timeout": -1}, "timeout can't be -1"),
        ({"timeout": float("nan")}, "timeout can't be nan"),
        ({"timeout": None}, "timeout can't be None"),
        ({"signal": "BANANA"}, "no signal 'BANANA'"),
        ({"kill_after": float("inf")}, "kill_after can't be inf"),
        ({"leftovers": "maybe"}, "write wait, kill or leave"),
        ({"shell": "/no/such/shell"}, "no program"),
        ({"cwd": "/no/such/directory"}, "No such file or directory"),
        ({"idle": 0}, "idle must be more than zero"),
        ({"max_output": "lots"}, "max_output can't be 'lots'"),
        ({"max_output": 10**400}, "more than any memory holds"),
        ({"stdin": "\ud800"}, "which can't be encoded; hand over bytes"),
        ({"log": "/no/such/directory/log"}, "No such file or directory"),
        ({"stdin": 3}, "make it a str or bytes"),
        ({"env": {"A": "a\0b"}}, "NUL byte"),
        ({"env": {"A": 1}}, "env A: a int can't be"),
        ({"env": {"A=B": "1"}}, "can't name an environment variable"),
        ({"signal": None}, "no signal None"),
        ({"shell": None}, "shell can't be None"),
        ({"command": ""}, "nothing to run"),
        ({"command": "echo \0"}, "NUL byte in line 1"),
        ({"command": {"ls": "-l"}}, "command can't be of type dict; write a str"),
        ({"command": []}, "command is empty; write a program and its arguments, for example"),
        ({"command": ["sleep", 5]}, "command can't have 5 as an argument; write a str"),
        ({"command": ["ls", "a\0"]}, "command: an argument can't hold a NUL byte"),
        ({"command": ["ls", "\ud800"]}, r"command: '\\ud800' can't be encoded; write the argument as bytes"),
        ({"command": ["no-such-program"]}, "command: there is no program 'no-such-program'; write for example"),
        ({"command": ["./no-such-program"]}, "command: there is no program './no-such-program'"),
        ({"command": [""]}, "command: there is no program ''"),
        ({"command": ["ls"], "strict": True}, "strict needs a shell; write the command as a str"),
        ({"command": b"ls"}, "command can't be of type bytes; write a str"),
    ],
)
def test_run_refuses_bad_arguments_and_starts_nothing(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    good = {"command": f"touch {tmp_path}/started", "timeout": 5}
    with pytest.raises(InputError, match=words) as caught:
        run(**{**good, **arguments})  # type: ignore[call-overload]
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "started").exists()
    run(**good)  # type: ignore[call-overload]
    assert (tmp_path / "started").exists()
