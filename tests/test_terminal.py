"""Terminal IPython, driven through a pseudo-terminal: Ctrl-C ends the command and not IPython."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from .watching import marked, wait_until, wait_until_gone

CTRL_C = "\x03"
START_S = 40


def _restore_sigint() -> None:
    """Give SIGINT its default, as at a real terminal. The tests may have been started with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    """IPython with a plain prompt and no colours, the extension loaded."""
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "TERM": "dumb", "IPY_TEST_SIMPLE_PROMPT": "1"}
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
        return process.cmdline()[-1]
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
