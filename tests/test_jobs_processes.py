"""Jobs of a process that forks, ends, or is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .jobs import NASTY, PRELUDE, nasty, run_python
from .watching import wait_until_gone

# -- fork -------------------------------------------------------------------------------------------------------

FORKS = """
    go = {go!r}  # until the child is forked, both are being fed
    job = start(f"echo ready; until [ -e {{go}} ]; do sleep 0.05; done; cat >&2; echo end", 20, stdin="x" * 100_000)
    job.wait_for("ready")
    fed = start(f"until [ -e {{go}} ]; do sleep 0.05; done; cat | wc -c", 20, stdin="x" * 100_000)
    child = {fork}
    if child == 0:
        {in_child}
        os._exit(0)
    open(go, "w").close()
    codes = job.wait(10), fed.wait(10)
    told(codes=codes, status=os.waitpid(child, 0)[1], stdout=job.stdout, size=len(job.stderr), fed=fed.stdout)
"""
IN_CHILD = """
        try:
            for use in job.wait, job.poll, lambda: job.wait_for("never"):
                try:
                    use()
                except RuntimeError as error:
                    assert "belongs to the process that this one was forked from" in str(error), error
                else:
                    os._exit(1)
            job.kill(); job.terminate(); job.send_signal("TERM"); job.interrupt(); job.extend(5)
            assert list(job) and job.is_over and "belongs" in repr(job) and job.stdout == "ready\\n"
            own = start("echo own", 10)
            assert own.wait(10) == 0 and own.stdout == "own\\n"
            time.sleep(0.5)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
"""


def test_a_forked_child_leaves_the_jobs_of_its_parent_alone(tmp_path: Path) -> None:
    """The child lives longer than the commands read their stdin: its copy of the pipe would hide the end of file."""
    code = FORKS.format(fork="os.fork()", in_child=IN_CHILD.strip(), go=str(tmp_path / "go"))
    told, done = run_python(code, "-W", "ignore")
    assert told["codes"] == [0, 0], done
    assert told["status"] == 0, done
    assert (told["stdout"], told["size"], told["fed"].strip()) == ("ready\nend\n", 100_000, "100000")


BUSY = """
    {start}
    child = ctypes.PyDLL(None).fork()  # Python does not know of this child, which has all descriptors
    if child == 0:
        signal.pause()
    {use}
    keeper = start("sleep 60", 60)  # the thread goes on
    keeper.pid
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.4)
    used_s = time.process_time() - before
    os.kill(child, signal.SIGKILL)
    keeper.kill()
    keeper.wait(5)
    told(used_s=used_s)
"""


@pytest.mark.parametrize(
    ("begin", "use"),
    [
        ('job = start("sleep 0.2; head -c 10", 20, stdin="x" * 500_000)', "job.wait(10)"),
        ('job = start("exec 0<&-; echo ready; sleep 30", 60, stdin="x" * 500_000)', 'job.wait_for("ready")'),
        ('job = start("sleep 0.2; echo x", 20)', "job.wait(10)"),
        ('job = start("sleep 30 & sleep 0.2; echo x", 20, leftovers="leave")', "job.wait(10)"),
        ('job = start("sleep 0.2; exec >&- 2>&-; sleep 30", 60)', "time.sleep(0.4)"),
    ],
    ids=["fed and over", "reader gone", "over", "left", "output closed"],
)
def test_a_description_that_another_process_also_has_keeps_the_thread_idle(begin: str, use: str, mark: str) -> None:
    """epoll(7) reports a closed descriptor for as long as another process has it, unless it was unregistered before. A
    pipe to stdin that was closed first took a whole processor."""
    told, _ = run_python(BUSY.format(start=begin, use=use), mark=mark)
    assert told["used_s"] < 0.1


# -- the end of the interpreter ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "sys.exit(3)", "raise LookupError", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_nothing_survives_the_end_of_the_interpreter(mark: str, how: str) -> None:
    code = f"""
    job = start({nasty(mark)!r}, 60, kill_after=0.3)
    job.wait_for("(?s)" + "ready.*" * {len(NASTY)})
    told(at=time.monotonic())
    {how}
    """
    control = f"told(at=time.monotonic())\n{how}"  # without a job and a launcher
    for _ in range(3):  # a busy machine may need that long by itself, but not every time
        told, done = run_python(code, "-W", "always")
        took_s = time.monotonic() - told["at"]
        assert "LookupError" in how or done.stderr == ""
        assert not wait_until_gone(mark, 5)
        told, _ = run_python(control)
        too_long_s = time.monotonic() - told["at"] + 0.4
        if took_s < too_long_s:
            break
    assert took_s < too_long_s, "the launcher was waited for half a second"


@pytest.mark.parametrize("hold", ["os.kill(os.getpid(), signal.SIGSTOP)", "ctypes.PyDLL(None).sleep(4)"])
def test_the_deadline_holds_while_the_process_is_stopped_or_its_interpreter_is_held(mark: str, hold: str) -> None:
    code = f"""
    job = start("echo ready; sleep 60; true", 2, env={{"MARK": input()}})
    job.wait_for("ready")
    print("ready", flush=True)
    {hold}
    told(code=job.wait(20), duration=job.result.duration, reason=job.result.reason)
    """
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(mark, file=process.stdin, flush=True)
        assert process.stdout.readline() == "ready\n"
        left = wait_until_gone(mark, 3)
        process.send_signal(signal.SIGCONT)
        assert not left
        told = json.loads(process.stdout.readline().removeprefix("told "))
    assert (told["code"], told["reason"]) == (-15, "timeout")
    assert told["duration"] < 3
