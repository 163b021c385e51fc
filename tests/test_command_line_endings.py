"""``pgtimeout``: nothing that it starts outlives its deadline, a signal, or its own death; and signals go both ways."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pexpect
import psutil
import pytest

from .command_lines import PGTIMEOUT, begin, default_signals
from .isolation import run_isolated
from .jobs import NASTY, nasty
from .tallies import SURVIVORS, Combination
from .test_survivors import ALL
from .watching import marked, program, survivors, wait_until, wait_until_gone

GRACE = ["-k", "0.3"]
SOON_S = 5.0


def _assert_none_left(name: str, ending: str, mark: str, started: int, within_s: float = 0.0) -> None:
    left = wait_until_gone(mark, within_s)
    SURVIVORS.append(Combination(name, ending, started, len(left)))
    assert not left, "\n".join(left)


def _guard_of(process: subprocess.Popen[str]) -> psutil.Process:
    (guard,) = psutil.Process(process.pid).children()
    return guard


# -- every ending -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_nothing_survives_a_deadline(name: str, mark: str) -> None:
    with begin(*GRACE, "4", "bash", "-c", program(name, mark)) as process:
        started = len(survivors(mark))
        assert process.wait(20) in (124, 137)
        _assert_none_left(name, "pgtimeout: deadline", mark, started)


ENDINGS: dict[str, Callable[[subprocess.Popen[str]], None]] = {
    "INT": lambda process: process.send_signal(signal.SIGINT),
    "TERM": lambda process: process.send_signal(signal.SIGTERM),
    "HUP": lambda process: process.send_signal(signal.SIGHUP),
    "QUIT": lambda process: process.send_signal(signal.SIGQUIT),
    "ALRM": lambda process: process.send_signal(signal.SIGALRM),
    "KILL": lambda process: process.kill(),
    "KILL of the guard": lambda process: _guard_of(process).kill(),
}


@pytest.mark.parametrize("foreground", [False, True], ids=["own session", "foreground"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_survives_a_signal(ending: str, foreground: bool, mark: str) -> None:
    if foreground and ending in ("INT", "QUIT"):
        pytest.skip("with the terminal, these are the command's own matter")
    options = [*GRACE, *(["--foreground"] if foreground else [])]
    with begin(*options, "60", "bash", "-c", nasty(mark), ready=len(NASTY), preexec_fn=_leading) as process:
        started = len(survivors(mark))
        assert started >= len(NASTY)
        ENDINGS[ending](process)
        process.wait(20)
        _assert_none_left(" ".join(NASTY), f"pgtimeout: {ending}", mark, started, SOON_S if "KILL" in ending else 0)


def _leading() -> None:
    default_signals()
    os.setpgid(0, 0)  # a group of its own, so that what is meant for it does not reach the tests


def test_gnu_timeout_leaves_what_these_tests_look_for(mark: str) -> None:
    """The negative control."""
    gnu = shutil.which("timeout")
    if gnu is None:
        pytest.skip("no GNU timeout here")
    subprocess.run([gnu, *GRACE, "2", "bash", "-c", nasty(mark)], stdout=subprocess.DEVNULL, timeout=20)
    assert survivors(mark)


def test_without_a_guard_its_own_kill_leaves_what_these_tests_look_for(mark: str) -> None:
    """The negative control of the last line of defence: guard and parent are killed in the same moment."""
    with begin("60", "bash", "-c", nasty(mark), ready=len(NASTY)) as process:
        guard = _guard_of(process)
        process.send_signal(signal.SIGSTOP)
        guard.kill()
        process.kill()
    assert survivors(mark)


def test_the_death_of_the_guard_is_said(mark: str) -> None:
    with begin("60", "bash", "-c", nasty(mark), ready=len(NASTY), stderr=subprocess.PIPE) as process:
        _guard_of(process).kill()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(20) == 125
    assert said.startswith("pgtimeout: the guard of this command has died; pgtimeout has sent SIGKILL to ")
    assert said.endswith("it left; all are gone\n")


def test_a_stopped_guard_is_continued(mark: str) -> None:
    """A command can stop it. Then it would keep no deadline."""
    with begin("-k", "1", "2", "bash", "-c", f"MARK={mark} sleep 60 & echo ready; kill -STOP $PPID; wait") as process:
        assert process.wait(20) == 124
    assert not survivors(mark)


# -- signals ----------------------------------------------------------------------------------------------------

TELLS = "import signal, sys, time\n"
"""Says which signals it gets, and ends at SIGTERM."""
TELLS += "def tell(number, _frame):\n    print('got', signal.Signals(number).name, flush=True)\n"
TELLS += "    if number == signal.SIGTERM: sys.exit(5)\n"
TELLS += "for number in (1, 2, 3, 10, 12, 15, 18, 34, 28): signal.signal(number, tell)\nprint('ready', flush=True)\n"
TELLS += "while True: time.sleep(0.02)"


def test_other_signals_are_handed_on_and_end_nothing() -> None:
    with begin("60", sys.executable, "-c", TELLS, preexec_fn=default_signals) as process:
        assert process.stdout is not None
        for number, name in ((signal.SIGUSR1, "SIGUSR1"), (signal.SIGUSR2, "SIGUSR2"), (34, "SIGRTMIN")):
            process.send_signal(number)
            assert process.stdout.readline() == f"got {name}\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline().startswith("got SIG")
        assert process.wait(20) == 5


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "ABRT", "USR1", "KILL"])
def test_it_ends_by_the_signal_that_has_ended_the_command(name: str) -> None:
    """A shell stops its loop when a command in it ends by SIGINT, and not when it exits with 130."""
    number = signal.Signals[f"SIG{name}"]
    line = f"ulimit -c 0; echo ready; trap 'kill -{name} $$' USR2; while :; do sleep 0.05; done"
    with begin("60", "bash", "-c", line, preexec_fn=default_signals) as process:
        process.send_signal(signal.SIGUSR2)
        assert process.wait(20) == -number


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(mark: str) -> None:
    """`nohup`, and the background commands of a shell, which ignore SIGINT and SIGQUIT."""

    def ignore() -> None:
        default_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with begin(
        "60",
        "bash",
        "-c",
        f"trap 'echo got' USR1; echo ready; : {mark}; while :; do sleep 0.05; done",
        preexec_fn=ignore,
    ) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "got\n"
        assert process.poll() is None
        process.terminate()
    assert not survivors(mark)


def test_a_second_interrupt_kills(mark: str) -> None:
    line = f"trap 'echo caught' INT TERM; echo ready; : {mark}; while :; do sleep 0.05; done"
    with begin("-k", "60", "60", "bash", "-c", line, preexec_fn=default_signals) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "caught\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGKILL
    assert not survivors(mark)


def test_a_grace_of_zero_has_no_end(mark: str) -> None:
    line = f"trap 'echo caught' TERM; echo ready; : {mark}; while :; do sleep 0.05; done"
    with begin("-k", "0", "60", "bash", "-c", line, preexec_fn=default_signals) as process:
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.readline() == "caught\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)  # longer than the usual grace
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGKILL


def test_a_pgtimeout_inside_another_ends_its_command_by_its_own_rules() -> None:
    inner = [
        *PGTIMEOUT,
        "-s",
        "USR1",
        "40",
        "bash",
        "-c",
        "trap 'echo inner; exit' USR1; trap 'echo outer' HUP; echo ready; while :; do sleep 0.05; done",
    ]
    with begin("-s", "ALRM", "-k", "10", "50", *inner, preexec_fn=default_signals) as process:
        process.send_signal(signal.SIGALRM)
        assert process.stdout is not None
        assert process.stdout.read() == "inner\n"
        assert process.wait(20) == 124


def test_a_pgtimeout_inside_another_that_hangs_is_killed(mark: str) -> None:
    hangs = f"trap '' TERM; MARK={mark} setsid sleep 60 & echo ready; while :; do sleep 0.05; done; : {mark}"
    inner = [*PGTIMEOUT, "-k", "50", "50", "bash", "-c", hangs]
    with begin("-k", "0.5", "50", *inner, preexec_fn=default_signals) as process:
        process.terminate()
        assert process.wait(20) == -signal.SIGKILL
    assert not survivors(mark)


def test_children_that_were_there_before_are_neither_waited_for_nor_killed(mark: str) -> None:
    """``sleep 60 & exec pgtimeout …``: the shell's children have become those of pgtimeout."""
    line = f"MARK={mark} sleep 60 & exec {' '.join(PGTIMEOUT)} -k 0.2 0.5 sleep 61"
    assert subprocess.run(["bash", "-c", line], timeout=20).returncode == 124
    assert [process.cmdline() for process in marked(mark) if process.name() == "sleep"] == [["sleep", "60"]]


@pytest.mark.parametrize("target", ["/dev/full", "&-", "gone"])
def test_a_dead_stderr_changes_no_exit_code(target: str) -> None:
    line = f"{' '.join(PGTIMEOUT)} -v 0.2 sleep 9"
    if target == "gone":
        line = f"{{ {{ {line}; echo $? >&3; }} 2>&1 >/dev/null | :; }} 3>&1"
    else:
        line = f"{line} 2>{target}; echo $?"
    shown = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=20)
    assert shown.stdout == "124\n", shown


# -- the first process of a container ---------------------------------------------------------------------------

AS_INIT = """
import subprocess
pid_1 = [*{pgtimeout!r}, {seconds!r}, "bash", "-c", {script!r}]
unshare = ["unshare", "-pf", "--mount-proc"]
done = subprocess.run([*unshare, *pid_1], capture_output=True, text=True)
told(code=done.returncode, out=done.stdout, err=done.stderr)
"""


def _as_init(seconds: str, script: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a namespace inside another here")
    return run_isolated(AS_INIT.format(pgtimeout=PGTIMEOUT, seconds=seconds, script=script))


def test_it_works_as_process_1_and_reaps_there() -> None:
    """What another process leaves, which is no child of the guard, comes to process 1."""
    script = """
    nsenter -t 1 -p -m bash -c '(sleep 0.2 &); sleep 0.1' || exit 9
    (setsid sleep 0.2 &)
    for i in {1..100}; do
        [ -z "$(ps -e -o stat= | grep Z)" ] && ! pgrep -x sleep >/dev/null && break; sleep 0.1
    done
    ps -e -o pid=,stat=,comm= | grep -v -E ' (ps|grep|bash)$'; exit 3"""
    told = _as_init("30", script)
    assert told["code"] == 3, told
    assert [line.split()[2] for line in told["out"].splitlines()] == ["pgtimeout", "pgtimeout-guard"], told
    assert told["out"].split()[0] == "1", told


def test_it_keeps_the_deadline_as_process_1() -> None:
    told = _as_init("1", "setsid sleep 60 & sleep 61; true")
    assert (told["code"], told["out"], told["err"]) == (124, "", ""), told


# -- a terminal -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _shell() -> Any:
    """An interactive bash with job control on a terminal."""
    environment = {
        **os.environ,
        "PS1": "$ ",
        "PS2": "",
        "HISTFILE": "",
        "TERM": "dumb",
    }
    child: Any = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        env=environment,
        encoding="utf-8",
        timeout=20,
        echo=False,
        preexec_fn=default_signals,
        dimensions=(24, 300),
    )
    child.expect_exact("$ ")
    # No function: bash does not end the loop around a function in which a command was interrupted.
    child.sendline(f"pg='{' '.join(PGTIMEOUT)}'; bind 'set enable-bracketed-paste off' 2>/dev/null; echo se''t")
    child.expect_exact("set")
    try:
        yield child
    finally:
        child.close(force=True)


@pytest.mark.parametrize("option", ["", "-f"], ids=["own session", "foreground"])
def test_ctrl_c_ends_the_command_and_the_loop_of_the_shell(option: str, mark: str) -> None:
    with _shell() as shell:
        shell.sendline(
            f"for i in 1 2 3; do $pg {option} 60 bash -c 'echo rea''dy$0; MARK={mark} sleep 60; true' $i; done"
        )
        shell.expect_exact("ready1")
        shell.sendintr()
        shell.sendline("echo ov''er")
        assert shell.expect_exact(["over", "ready2"]) == 0
        assert not wait_until_gone(mark, SOON_S)


@pytest.mark.parametrize("option", ["", "-f"], ids=["own session", "foreground"])
def test_ctrl_z_stops_the_command_and_fg_continues_it(option: str, mark: str) -> None:
    with _shell() as shell:
        shell.sendline(f"$pg {option} 60 bash -c 'echo rea''dy; : {mark}; while :; do sleep 0.05; done; :'")
        shell.expect_exact("ready")
        shell.sendcontrol("z")
        shell.expect_exact("Stopped")

        def states() -> set[str]:
            with contextlib.suppress(psutil.Error):
                return {process.status() for process in marked(mark) if process.name() == "bash"}
            return set()

        assert wait_until(lambda: states() == {psutil.STATUS_STOPPED}, SOON_S), states()
        shell.sendline("fg")
        assert wait_until(lambda: psutil.STATUS_STOPPED not in states(), SOON_S), states()
        shell.sendintr()
        assert not wait_until_gone(mark, SOON_S)


def test_in_the_foreground_the_command_has_the_terminal() -> None:
    with _shell() as shell:
        shell.sendline("$pg 20 bash -c 'echo >/dev/tty' 2>&1 | grep -c 'No such device'")
        shell.expect_exact("1\r\n")
        shell.sendline("$pg -f 20 bash -c 'read -p na''me: line </dev/tty; echo got:$line'")
        shell.expect_exact("name:")
        shell.sendline("word")
        shell.expect_exact("got:word")


def test_without_it_the_command_can_read_what_is_typed() -> None:
    with _shell() as shell:
        shell.sendline("$pg 20 bash -c 'read line; echo got:$line'")
        shell.sendline("word")
        shell.expect_exact("got:word")


@pytest.mark.parametrize("option", ["", "-f"], ids=["own session", "foreground"])
def test_nothing_survives_the_end_of_the_terminal(option: str, mark: str) -> None:
    with _shell() as shell:
        shell.sendline(f"$pg {option} -k 0.3 60 bash -c '{nasty(mark)}'")
        for _ in NASTY:
            shell.expect_exact("ready")
        started = len(survivors(mark))
    _assert_none_left(" ".join(NASTY), "pgtimeout: end of the terminal", mark, started, SOON_S)
