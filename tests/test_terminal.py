"""Terminal IPython, driven through a pseudo-terminal: Ctrl-C ends the command and not IPython."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from .watching import marked, survivors, wait_until, wait_until_gone

CTRL_C = "\x03"
START_S = 40


def _restore_sigint() -> None:
    """Give SIGINT its default, as at a real terminal. The tests may have been started with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    """IPython with a plain prompt and no colours, the extension loaded. Without a status: the terminal can't erase."""
    with _ipython(tmp_path, "dumb") as child:
        yield child


@pytest.fixture
def erasing_terminal(tmp_path: Path) -> Iterator[Any]:
    """The same on a terminal like most. It keeps all that it has been sent in ``logfile_read``."""
    with _ipython(tmp_path, "xterm") as child:
        child.logfile_read = io.StringIO()
        yield child


@contextlib.contextmanager
def _ipython(directory: Path, kind: str) -> Iterator[Any]:
    environment = {**os.environ, "IPYTHONDIR": str(directory), "TERM": kind, "IPY_TEST_SIMPLE_PROMPT": "1"}
    command = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    child: Any = pexpect.spawn(
        sys.executable,
        command,
        env=environment,
        encoding="utf-8",
        timeout=20,
        dimensions=(50, 200),
        preexec_fn=_restore_sigint,
    )
    child.expect(r"In \[1\]: ", timeout=START_S)
    child.sendline("%load_ext ipython_pgtimeout")
    child.expect(r"In \[2\]: ")
    yield child
    child.close(force=True)


def _rows(sent: str) -> list[str]:
    """What a terminal shows that has been sent this text."""
    rows, column = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", sent):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            rows.append("")
        elif piece == "\x1b[K":
            rows[-1] = rows[-1][:column]
        elif piece[0] != "\x1b":
            rows[-1] = rows[-1][:column].ljust(column) + piece + rows[-1][column + len(piece) :]
            column += len(piece)
    return [row.rstrip().rpartition("...: ")[2] for row in rows]  # without prompts that were answered in advance


def _states(sent: str) -> list[list[str]]:
    """What the terminal has shown each time that a status was drawn."""
    return [_rows(sent[: found.end()]) for found in re.finditer(r"(running|waiting|SIG\w+ sent)[^\r\n]* B", sent)]


def test_tab_completes_an_option_at_the_prompt(tmp_path: Path) -> None:
    """The prompt as people use it, with its own completer and without the plain one's line editing."""
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    command = ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    child: Any = pexpect.spawn(
        sys.executable, command, env=environment, encoding="utf-8", timeout=20, dimensions=(50, 200)
    )
    with contextlib.closing(child):
        child.expect(r"In \[1\]:", timeout=START_S)
        child.send("%load_ext ipython_pgtimeout\r")
        child.expect(r"In \[2\]:")
        child.send("r = %run_timed --lefto\t")
        child.expect("vers")
        child.send(" k\t")
        child.expect("ill")
        child.send(" 30 true\r")
        child.expect(r"In \[3\]:")
        child.send("r.returncode, r.reason\r")
        child.expect(r"\(0, 'exited'\)")


def _sleeping(mark: str) -> list[psutil.Process]:
    """The marked `sleep` processes. The shell is left out, because its script holds the mark before it is run."""
    found = []
    for process in marked(mark):
        with contextlib.suppress(psutil.Error):
            if process.name() == "sleep":
                found.append(process)
    return found


def _last_argument(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return (process.cmdline() or [""])[-1]  # a zombie has none
    return ""


def _wait_until_running(mark: str, number: int = 1) -> None:
    """Wait for the processes of the command. Text on the terminal may be only the echo of what was typed."""
    assert wait_until(lambda: len(_sleeping(mark)) >= number, 20)


def test_ctrl_c_ends_the_command_and_ipython_goes_on(terminal: Any, mark: str) -> None:
    terminal.sendline(f"%run_timed 60 export MARK={mark}; (setsid sleep 61 &); sleep 62 & sleep 63; echo never")
    _wait_until_running(mark, 3)
    terminal.send(CTRL_C)
    terminal.expect(r"KeyboardInterrupt.*interrupted: SIGINT to \d processes")
    assert not wait_until_gone(mark, 1)
    terminal.expect(r"In \[3\]: ")
    terminal.sendline("6 * 7")
    terminal.expect(r"Out\[3\]: 42")
    terminal.expect(r"In \[4\]: ")
    terminal.sendline("%run_timed 5 echo again-$((1 + 1))")
    terminal.expect("again-2")


def test_a_loop_of_commands_stops_at_ctrl_c(terminal: Any, mark: str) -> None:
    terminal.sendline("count = 0")
    terminal.expect(r"In \[3\]: ")
    terminal.sendline(
        "while True: count += 1; get_ipython().run_line_magic("
        f"'run_timed', '60 MARK={mark} sleep ' + ('0.1' if count < 3 else '60'))\n"
    )
    assert wait_until(lambda: any(_last_argument(process) == "60" for process in _sleeping(mark)), 20)
    terminal.send(CTRL_C)
    terminal.expect("KeyboardInterrupt")
    terminal.expect(r"In \[4\]: ")
    assert not wait_until_gone(mark, 1)
    terminal.sendline("print('count', count)")
    terminal.expect("count 3")


def test_a_program_that_catches_the_interrupt_may_clean_up(terminal: Any, mark: str, tmp_path: Path) -> None:
    script = f"trap 'echo cleaned > {tmp_path}/cleaned; exit' INT; MARK={mark} sleep 60"
    terminal.sendline(f"%run_timed 60 {script}")
    _wait_until_running(mark)
    terminal.send(CTRL_C)
    terminal.expect("KeyboardInterrupt")
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"
    assert not wait_until_gone(mark, 1)


def test_a_second_ctrl_c_kills_at_once(terminal: Any, mark: str) -> None:
    terminal.sendline(f"%run_timed --kill-after 50 60 trap 'echo seen' INT; while :; do MARK={mark} sleep 61; done")
    _wait_until_running(mark)
    terminal.send(CTRL_C)
    terminal.expect(r"\^C\s*seen")
    terminal.send(CTRL_C)
    terminal.expect(r"KeyboardInterrupt.*SIGKILL")
    assert not wait_until_gone(mark, 1)


def test_leaving_ipython_ends_the_helpers(terminal: Any) -> None:
    ipython = psutil.Process(terminal.pid)

    def helpers() -> list[psutil.Process]:
        return [child for child in ipython.children(recursive=True) if child.name().startswith("pgtimeout")]

    assert wait_until(lambda: len(helpers()) == 2, 10)
    idle = helpers()
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    assert psutil.wait_procs(idle, timeout=10)[1] == []


def test_a_closed_terminal_ends_the_command(terminal: Any, mark: str) -> None:
    terminal.sendline(f"%run_timed 60 trap '' HUP; MARK={mark} sleep 61; true")
    _wait_until_running(mark)
    terminal.close(force=True)  # hangs up, then SIGKILL
    assert not wait_until_gone(mark, 10)


@pytest.mark.parametrize("magic", ["%run_timed 30 ", "%%timeout_shell 30\n"])
def test_a_status_is_the_last_line_while_the_command_runs(erasing_terminal: Any, magic: str) -> None:
    script = "echo one; sleep 2.2; printf half; sleep 1.2; echo ' line' >&2; sleep 1; echo end"
    erasing_terminal.sendline(magic + script + "\n\n" * magic.startswith("%%"))
    erasing_terminal.expect(r"end\r\n(?s:.*)In \[3\]: ")
    sent = erasing_terminal.logfile_read.getvalue()
    states = _states(sent)
    assert len(states) >= 4
    for rows in states:
        assert re.fullmatch(r"running - \d s of 30 s - \d process(es)? - CPU .* - output \d+ B", rows[-1])
    assert {rows[-2] for rows in states} | {"end"} == {"one", "half line", "end"}
    shown = _rows(sent)
    first = shown.index("one")
    assert shown[first : first + 3] == ["one", "half line", "end"]
    assert not any("running" in row for row in shown)


def test_a_status_is_not_drawn_behind_half_a_line_from_elsewhere(erasing_terminal: Any) -> None:
    run = "get_ipython().run_line_magic('run_timed', '30 sleep 1.8; echo; sleep 0.7; printf end')"
    erasing_terminal.sendline(f"print('half', end=''); r = {run}")
    erasing_terminal.expect(r"end(?s:.*)In \[3\]: ")
    states = _states(erasing_terminal.logfile_read.getvalue())
    assert [rows[-2] for rows in states] == ["half"] * len(states)
    assert 1 <= len(states) <= 3


def test_ctrl_c_erases_the_status_and_ipython_goes_on(erasing_terminal: Any, mark: str) -> None:
    erasing_terminal.sendline(f"%run_timed 60 MARK={mark} sleep 61")
    erasing_terminal.expect(r"running - 1 s of 60 s - .* B")
    erasing_terminal.send(CTRL_C)
    erasing_terminal.expect(r"In \[3\]: ")
    shown = _rows(erasing_terminal.logfile_read.getvalue())
    assert "KeyboardInterrupt: interrupted: SIGINT to 1 process; all are gone" in "\n".join(
        row.partition(" (")[0] for row in shown if row.startswith("Keyboard")
    )
    assert not any("running" in row for row in shown)
    assert not wait_until_gone(mark, 1)
    erasing_terminal.sendline("6 * 7")
    erasing_terminal.expect(r"Out\[3\]: 42")


@pytest.mark.parametrize("where", ["--pty", "--no-progress", "in a thread", "dumb"])
def test_there_is_no_status_where_it_could_do_harm(tmp_path: Path, where: str) -> None:
    option = where if where.startswith("--") else ""
    run = f"get_ipython().run_line_magic('run_timed', '{option} 30 echo one; sleep 1.6; echo end')"
    if where == "in a thread":
        run = f"import threading; t = threading.Thread(target=lambda: {run}); t.start(); t.join()"
    with _ipython(tmp_path, "dumb" if where == "dumb" else "xterm") as child:
        child.logfile_read = io.StringIO()
        child.sendline(run)
        child.expect(r"\r\n(?s:.*)end\r\n(?s:.*)In \[3\]: ")
        assert _states(child.logfile_read.getvalue()) == []


def test_a_deadline_for_every_command_leaves_the_terminal_to_plain_ones(terminal: Any, mark: str) -> None:
    terminal.sendline("%timeout_shell 1 -k 0.3")
    terminal.expect(r"in force: %timeout_shell 1 -k 0.3; !command has the terminal to itself here, and no deadline\r\n")
    terminal.expect(r"In \[3\]: ")
    terminal.sendline("!sleep 1.5; tty < /dev/tty; read x; echo typed-$x")
    terminal.expect("/dev/(tty|pts/[0-9]+)\r\n")  # it is IPython's own terminal, and can be read after the deadline
    terminal.sendline("here")
    terminal.expect("typed-here")
    terminal.expect(r"In \[4\]: ")
    for number, form in enumerate(("x = !", "!!", "%sx "), 4):
        terminal.sendline(f"{form}MARK={mark} sleep 100; true")
        terminal.expect("CommandTimeout: timed out after 1 s")
        terminal.expect(rf"In \[{number + 1}\]: ")
        assert not survivors(mark)
    terminal.sendline(f"get_ipython().run_cell_magic('bash', '', 'MARK={mark} setsid sleep 100; true')")
    terminal.expect("CommandTimeout: timed out after 1 s")
    terminal.expect(r"In \[8\]: ")
    assert not survivors(mark)
    terminal.sendline("%timeout_shell off")
    terminal.expect(r"In \[9\]: ")
    terminal.sendline("'system' in vars(get_ipython()), get_ipython().system.__name__")
    terminal.expect(r"\(False, 'system_raw'\)")


def test_ctrl_c_ends_what_is_captured_under_a_deadline(terminal: Any, mark: str) -> None:
    terminal.sendline("%timeout_shell 60")
    terminal.expect(r"In \[3\]: ")
    terminal.sendline(f"x = !export MARK={mark}; (setsid sleep 61 &); sleep 62")
    _wait_until_running(mark, 2)
    terminal.send(CTRL_C)
    terminal.expect(r"KeyboardInterrupt.*interrupted: SIGINT to \d processes")
    assert not wait_until_gone(mark, 1)
