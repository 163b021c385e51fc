"""Messages and results describe the end of a command as it happened, and the signals come in the right order."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from .kernels import LOAD, Kernel, Reply
from .watching import lock_of, marked, program, wait_until, wait_until_gone

START_S = 2.0
"""A deadline before which a program of ours has started and said so, on a busy machine too."""


def facts(kernel: Kernel, expression: str) -> Any:
    """The value of an expression over the last command's Result ``r``, in the kernel."""
    return ast.literal_eval(kernel.value(expression))


def sent_signals(kernel: Kernel) -> list[tuple[str, int]]:
    """The signals of the last command and how many processes each was for."""
    found: list[tuple[str, int]] = facts(kernel, "[(sent.signal, len(sent.pids)) for sent in r.signals]")
    return found


def received_signals(reply: Reply) -> list[str]:
    """The signals that a program has printed as received, without the SIGCONT that comes with each."""
    return [name for name in re.findall(r"got (\w+)", reply.stdout) if name != "SIGCONT"]


def pid_after(text: str, word: str) -> int:
    """The number after ``word``."""
    found = re.search(rf"{word} (\d+)", text)
    assert found, text
    return int(found[1])


# -- messages -----------------------------------------------------------------------------------------------


def test_the_timeout_message_counts_the_processes_of_each_signal(kernel: Kernel) -> None:
    reply = kernel.execute(
        "%%timeout_shell 1 --kill-after 0.3\n(trap '' TERM; exec sleep 1000) & sleep 1000 & sleep 1000; :"
    )
    assert reply.ename == "CommandTimeout"
    assert re.fullmatch(
        r"timed out after 1 s: SIGTERM to 4 processes, SIGKILL to 1; all are gone \(1\.[3-9] s\)", reply.evalue
    )


def test_leftovers_are_named_after_a_second(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell 1.5\nsleep 1000 & echo job $!; exit 3")
    pid = pid_after(reply.stdout, "job")
    notice = f"the shell has ended (exit code 3); waiting for 1 process: sleep ({pid}); "
    notice += "with --leftovers leave or kill the cell does not wait\n"
    assert reply.stderr.count(notice) == 1, reply.stderr
    assert reply.ename == "CommandTimeout"


def test_leftovers_that_end_soon_are_not_mentioned(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 10 --result r\n(sleep 0.6; echo late) & echo early")
    assert (reply.stdout, reply.stderr) == ("early\nlate\n", "")
    assert facts(kernel, "r.reason, r.signals, r.survivors") == ("exited", (), ())
    assert facts(kernel, "r.duration") > 0.6


def test_leftovers_kill_ends_what_the_shell_has_left(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 60 --leftovers kill --result r\nsleep 1000 & sleep 1000 & exit 0")
    assert re.search(
        r"exit code 0; leftovers ended: SIGTERM to 2 processes; all are gone \(0\.\d+ s\)", reply.stderr
    ), reply.stderr
    assert facts(kernel, "r.returncode, r.reason, r.timed_out") == (0, "exited", False)
    assert facts(kernel, "r.duration") < 10


def test_leftovers_leave_keeps_a_process_running_with_its_guard(fresh_kernel: Kernel, mark: str) -> None:
    """It can go on writing after the end of the command and of the kernel. When it ends, its guard ends."""
    # The program runs in the foreground: its first process is gone when the shell goes on.
    script = f"{program('writer.py', mark)}; until [ -s {lock_of(mark)} ]; do sleep 0.01; done"
    reply = fresh_kernel.run(f"%%timeout_shell 60 --leftovers leave --result r\n{script}")
    (left,) = marked(mark)
    assert f"exit code 0; left running: {left.name()} ({left.pid})" in reply.stderr
    assert facts(fresh_kernel, "[process.pid for process in r.survivors]") == [left.pid]
    assert _goes_on_writing(mark), "it must go on writing after the end of its command"
    guard = psutil.Process(left.ppid())
    assert guard.name() == "pgtimeout-guard"
    fresh_kernel.kill9()
    assert _goes_on_writing(mark), "it must go on writing after the end of its kernel"
    left.kill()
    assert wait_until(lambda: not guard.is_running(), 5)


def _goes_on_writing(mark: str) -> bool:
    """Whether the program can write 32 times more than the largest pipe would hold."""
    before = lock_of(mark).stat().st_size
    return wait_until(lambda: lock_of(mark).stat().st_size > before + 512, 20)


def test_the_death_of_the_guard_is_reported(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell 60\nsleep 1000 & kill -9 $PPID; sleep 1000; :")
    assert reply.ename == "GuardDied"
    assert re.fullmatch(
        "the guard of this command has died; the launcher has sent SIGKILL to [1-3] process(es)? it left; all are gone",
        reply.evalue,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process that it then may not kill")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) drops the right to kill")
def test_a_process_that_cannot_be_killed_is_named(mark: str) -> None:
    """Root without CAP_KILL starts a process of another user, which it may not signal."""
    no_kill = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"]
    with Kernel(LOAD, started_by=no_kill) as kernel:
        script = f"export MARK={mark}; setpriv --reuid=65534 --clear-groups sleep 1000 & echo job $!; wait"
        reply = kernel.execute(f"%%timeout_shell 1 --kill-after 0.2 --result r\n{script}")
        pid = pid_after(reply.stdout, "job")
        assert f"; could not be killed: sleep ({pid}) (" in reply.evalue
        assert "all are gone" not in reply.evalue
        (survivor,) = facts(kernel, "[process._asdict() for process in r.survivors]")
        assert (survivor["pid"], survivor["user"], survivor["name"]) == (pid, 65534, "sleep")
        assert [process.pid for process in marked(mark)] == [pid]
        guard = psutil.Process(psutil.Process(pid).ppid())
        assert guard.name() == "pgtimeout-guard", "the guard must stay with the process that it could not end"
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not guard.is_running(), 5)


# -- results ------------------------------------------------------------------------------------------------


def test_the_result_of_a_timeout_tells_how_it_ended(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 1 --no-raise --result r\necho pid $$; sleep 1000 & sleep 1000; :")
    assert facts(kernel, "r.returncode, r.reason, r.timed_out, r.interrupted, r.timeout") == (
        -signal.SIGTERM,
        "timeout",
        True,
        False,
        1.0,
    )
    assert facts(kernel, "r.pid") == pid_after(reply.stdout, "pid")
    (sent,) = facts(kernel, "[(sent.at_s, sent.signal, sent.pids) for sent in r.signals]")
    assert 1.0 <= sent[0] <= facts(kernel, "r.duration") < 3.0  # when the grace would end
    assert sent[1] == "SIGTERM"
    assert len(sent[2]) == 3
    assert facts(kernel, "r.pid in r.signals[0].pids")
    assert facts(kernel, "r.survivors") == ()


def test_the_result_counts_what_all_processes_have_used(kernel: Kernel) -> None:
    """An orphan counts too: a job that the shell does not wait for uses 100 MB and half a second of processor time."""
    work = "import time; block = b'x' * 100_000_000\nwhile time.process_time() < 0.5: pass"
    kernel.run(f'%%timeout_shell 30 --result r\n(python3 -c "{work}" &) ; :')
    assert 0.5 <= facts(kernel, "r.cpu_time") < 5
    assert 100_000_000 < facts(kernel, "r.max_rss") < 300_000_000
    kernel.run("%%timeout_shell 30 --result r\nsleep 0.3")
    assert facts(kernel, "r.cpu_time") < 0.2
    assert facts(kernel, "r.max_rss") < 100_000_000


NEXT_PID = Path("/proc/sys/kernel/ns_last_pid")
TAKES_THE_SHELLS_PID = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()  # leave the shell's session: a pid is not reused while it is the id of a session or group
shell, parent = int(sys.argv[1]), os.getpid()
while os.path.exists(f"/proc/{shell}"):
    time.sleep(0.01)
while True:
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(shell - 1))
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os._exit(5 if os.getpid() == shell else 0)
    if os.path.exists(f"/proc/{shell}"):
        os._exit(0)
"""


@pytest.mark.alone
@pytest.mark.skipif(not os.access(NEXT_PID, os.W_OK), reason="the next pid can't be chosen here")
def test_an_orphan_with_the_pid_of_the_shell_does_not_set_the_return_code(kernel: Kernel, tmp_path: Path) -> None:
    """The return code is that of the shell."""
    path = tmp_path / "program.py"
    path.write_text(TAKES_THE_SHELLS_PID)
    reply = kernel.run(f"%%timeout_shell 20 --no-raise --result r\n{sys.executable} -S -E {path} $$ & exit 3")
    assert facts(kernel, "r.returncode") == 3, reply


# -- the ladder ---------------------------------------------------------------------------------------------


def test_a_deadline_sends_sigterm_and_after_the_grace_sigkill(kernel: Kernel, mark: str) -> None:
    reply = kernel.execute(
        f"%%timeout_shell {START_S} --kill-after 0.3 --result r\n{program('tells_signals.py', mark)}"
    )
    assert received_signals(reply) == ["SIGTERM"]
    assert sent_signals(kernel) == [("SIGTERM", 1), ("SIGKILL", 1)]
    term, kill = facts(kernel, "[sent.at_s for sent in r.signals]")
    assert term >= START_S
    assert 0.3 <= kill - term < 2.0  # the default
    assert facts(kernel, "r.returncode") == -signal.SIGKILL


@pytest.mark.parametrize("name", ["INT", "USR1", "HUP"])
def test_the_first_signal_can_be_chosen(kernel: Kernel, mark: str, name: str) -> None:
    reply = kernel.execute(
        f"%%timeout_shell {START_S} --signal {name} --kill-after 0.2 --result r\n{program('tells_signals.py', mark)}"
    )
    assert received_signals(reply) == [f"SIG{name}"]
    assert sent_signals(kernel) == [(f"SIG{name}", 1), ("SIGKILL", 1)]


@pytest.mark.parametrize("options", ["--kill-after 0", "--signal KILL"])
def test_without_a_grace_only_sigkill_is_sent(kernel: Kernel, mark: str, options: str) -> None:
    reply = kernel.execute(f"%%timeout_shell {START_S} {options} --result r\n{program('tells_signals.py', mark)}")
    assert "ready" in reply.stdout
    assert received_signals(reply) == []
    assert sent_signals(kernel) == [("SIGKILL", 1)]
    assert facts(kernel, "r.duration") < START_S + 0.8


def test_an_interrupt_sends_sigint_then_sigterm_then_sigkill(kernel: Kernel, mark: str) -> None:
    reply = kernel.submit(f"%%timeout_shell 60 --kill-after 0.3 --result r\n{program('tells_signals.py', mark)}")
    kernel.wait_for_text(reply, "ready")
    kernel.interrupt()
    kernel.wait(reply)
    assert received_signals(reply) == ["SIGINT", "SIGTERM"]
    assert sent_signals(kernel) == [("SIGINT", 1), ("SIGTERM", 1), ("SIGKILL", 1)]
    interrupted_s, terminated_s, killed_s = facts(kernel, "[sent.at_s for sent in r.signals]")
    assert terminated_s - interrupted_s >= 0.3
    assert killed_s - terminated_s >= 0.3
    assert facts(kernel, "r.interrupted, r.reason, r.timed_out") == (True, "interrupted", False)


def test_a_program_can_clean_up_after_sigint(kernel: Kernel, mark: str) -> None:
    """As in a terminal: the program gets SIGINT, cleans up, and ends."""
    # Wait until the job is sleep: the shell's child ignores SIGINT only shortly before its execve(2).
    job = "sleep 1000 & until [ $(cat /proc/$!/comm) = sleep ]; do :; done"
    trap = "trap 'echo cleaned up; exit 7' INT"
    reply = kernel.submit(f"%%timeout_shell 60 --result r\n{trap}; {job}; echo ready; wait")
    kernel.wait_for_text(reply, "ready")
    kernel.interrupt()
    kernel.wait(reply)
    assert "cleaned up" in reply.stdout
    assert reply.ename == "KeyboardInterrupt"
    assert facts(kernel, "r.returncode") == 7
    # SIGTERM ends the job: a shell's background job ignores SIGINT.
    assert [name for name, _ in sent_signals(kernel)] == ["SIGINT", "SIGTERM"]
    assert facts(kernel, "r.duration") < 10


def test_a_second_interrupt_kills_at_once(kernel: Kernel, mark: str) -> None:
    reply = kernel.submit(f"%%timeout_shell 60 --kill-after 30s --result r\n{program('tells_signals.py', mark)}")
    kernel.wait_for_text(reply, "ready")
    kernel.interrupt()
    kernel.wait_for_text(reply, "got SIGINT")
    kernel.interrupt()
    kernel.wait(reply, 10)
    assert sent_signals(kernel) == [("SIGINT", 1), ("SIGKILL", 1)]


def test_an_interrupt_during_the_grace_kills_at_once(kernel: Kernel, mark: str) -> None:
    reply = kernel.submit(f"%%timeout_shell {START_S} --kill-after 30s --result r\n{program('tells_signals.py', mark)}")
    kernel.wait_for_text(reply, "got SIGTERM")
    kernel.interrupt()
    kernel.wait(reply, 10)
    assert sent_signals(kernel) == [("SIGTERM", 1), ("SIGKILL", 1)]
    assert facts(kernel, "r.interrupted, r.reason") == (True, "timeout")


def test_a_stopped_process_is_continued(kernel: Kernel, mark: str) -> None:
    """SIGCONT lets it act on the first signal. Without that it would stay stopped until SIGKILL."""
    script = "trap 'echo heeded; exit 9' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done"
    reply = kernel.execute(f"%%timeout_shell 1 --kill-after 20s --result r\n{script}")
    assert "heeded" in reply.stdout
    assert [name for name, _ in sent_signals(kernel)] == ["SIGTERM"]
    assert facts(kernel, "r.returncode") == 9


# -- the supervision itself ---------------------------------------------------------------------------------


def test_a_stopped_guard_is_continued(kernel: Kernel, mark: str) -> None:
    reply = kernel.execute("%%timeout_shell 1 --result r\nkill -STOP $PPID; echo stopped; sleep 1000; :", 10)
    assert "stopped" in reply.stdout
    assert reply.ename == "CommandTimeout"
    assert 1.0 <= facts(kernel, "r.duration") < 5.0  # the caller's backstop would continue it after 8 s


def test_a_stopped_kernel_delays_no_deadline(fresh_kernel: Kernel, mark: str) -> None:
    reply = fresh_kernel.submit(f"%%timeout_shell 1 --kill-after 0.3\n{program('ignores.sh', mark)}")
    fresh_kernel.wait_for_text(reply, "ready")
    os.kill(fresh_kernel.pid, signal.SIGSTOP)
    try:
        assert not wait_until_gone(mark, 5)
    finally:
        os.kill(fresh_kernel.pid, signal.SIGCONT)
    fresh_kernel.wait(reply)
    assert reply.ename == "CommandTimeout"
