"""The connection to the helpers recovers: from descriptors that other code has closed, and from the death of an idle
guard. Nothing is done to descriptors that are other code's by now, and no command is run twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from ipython_pgtimeout import GuardDied, run
from ipython_pgtimeout.caller.connection import connection
from ipython_pgtimeout.caller.guard_handle import GuardHandle

from .watching import wait_until, wait_until_gone

# -- descriptors ----------------------------------------------------------------------------------------------

CLOSED = """
import os, select, socket, sys
from ipython_pgtimeout import run
from ipython_pgtimeout.caller.connection import connection
from ipython_pgtimeout.caller.guard_handle import GuardHandle
from ipython_pgtimeout.shared import rights
for _ in range(2):
    run("true", 20)
before = rights.fingerprint(rights.read_status())
os.closerange(3, 1000)
kept, peers = [], []
for _ in range(60):
    if {reused_by!r} == "file":
        kept.append(open({directory!r} + f"/{{len(kept)}}", "w+b", buffering=0))
    elif {reused_by!r} == "socket":
        kept += socket.socketpair()
    elif {reused_by!r} == "pipe":
        kept += map(os.fdopen, os.pipe(), "rw")
    elif {reused_by!r} == "pidfd":
        kept.append(os.fdopen(os.pidfd_open(os.getpid())))
fstats = [os.fstat(each.fileno()) for each in kept]
def check():
    assert [os.fstat(each.fileno())[:3] for each in kept] == [stat[:3] for stat in fstats], "closed"
    if {reused_by!r} == "file":
        assert not any(os.fstat(each.fileno()).st_size for each in kept), "written to"
    else:
        poller = select.poll()
        for each in kept:
            poller.register(each, select.POLLIN | select.POLLHUP)
        assert not poller.poll(0), "written to, or shut down"
for _ in range(3):
    print(run("echo on", 20).stdout.strip())
    check()
assert rights.fingerprint(rights.read_status()) == before
launcher = connection._launcher.process.pid
run("true", 20)
assert connection._launcher.process.pid == launcher
connection.close()
check()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd, proc(5)")
@pytest.mark.parametrize("reused_by", ["nothing", "file", "socket", "pipe", "pidfd"])
def test_the_next_command_runs_after_all_descriptors_were_closed(reused_by: str, tmp_path: Path, mark: str) -> None:
    """Before, every command failed from then on: Bad file descriptor."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSED.format(reused_by=reused_by, directory=str(tmp_path))],
        env={**os.environ, "MARK": mark, "PGTIMEOUT_DEBUG": str(tmp_path / "debug.log")},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("on\n" * 3, ""), done
    assert wait_until_gone(mark, 10) == [], done


# -- guards that die ------------------------------------------------------------------------------------------


def _kill_idle_guard() -> None:
    """Kill it so that its channel stays open for a moment: the launcher, which has a copy, is stopped meanwhile."""
    assert connection._launcher is not None
    *others, guard = connection._idle
    for other in others:  # from earlier tests that ran several commands at once
        connection._idle.remove(other)
        other.hang_up()
    assert wait_until(lambda: guard.is_waiting() and guard.pid, 10)
    launcher = connection._launcher.process
    launcher.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: psutil.Process(launcher.pid).status() == psutil.STATUS_STOPPED, 10)
    os.kill(guard.pid, signal.SIGKILL)
    threading.Timer(0.05, launcher.send_signal, [signal.SIGCONT]).start()


@pytest.mark.skipif(sys.platform != "linux", reason="an unread request is reported by ECONNRESET on Linux")
def test_a_command_whose_guard_had_died_before_it_is_tried_again(tmp_path: Path) -> None:
    """Nothing was started, for sure: the request was unread."""
    for number in range(10):
        run("true", 20)
        _kill_idle_guard()
        result = run(f"echo {number} >>{tmp_path}/ran; echo on", 20)
        assert (result.stdout, result.reason) == ("on\n", "exited")
    assert (tmp_path / "ran").read_text().split() == list(map(str, range(10)))


@pytest.mark.skipif(sys.platform != "linux", reason="an unread request is reported by ECONNRESET on Linux")
def test_a_command_is_tried_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    take = connection.take

    def take_dying_guard(fingerprint: tuple[object, ...]) -> GuardHandle:
        tries.append(fingerprint)
        connection.give_back(take(fingerprint), is_free=True)
        _kill_idle_guard()
        return take(fingerprint)

    run("true", 20)
    monkeypatch.setattr(connection, "take", take_dying_guard)
    with pytest.raises(GuardDied) as death:
        run("echo on", 20)
    assert (type(death.value), len(tries)) == (GuardDied, 2)


def test_a_command_that_was_started_is_not_tried_again(tmp_path: Path) -> None:
    """Its guard is killed at once, and the command leaves nothing for the launcher to kill."""
    for number in range(20):
        with pytest.raises(GuardDied):
            run(f"echo {number} >>{tmp_path}/ran; kill -9 $PPID", 20)
    assert (tmp_path / "ran").read_text().split() == list(map(str, range(20)))


def test_guards_can_be_asked_for_faster_than_they_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 280 requests fit into the socket to the launcher; it is made smaller here. Before, the next command failed:
    Resource temporarily unavailable."""
    run("true", 20)
    assert connection._launcher is not None
    connection._launcher.control.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    launcher = connection._launcher.process
    launcher.send_signal(signal.SIGSTOP)
    threading.Timer(0.3, launcher.send_signal, [signal.SIGCONT]).start()
    guards: list[GuardHandle] = []

    def ask_for_many() -> None:
        for _ in range(40):
            guards.append(connection._new_guard())

    try:
        ask_for_many()
        assert wait_until(lambda: all(guard.is_waiting() and guard.pid for guard in guards), 30)
        launcher.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("ipython_pgtimeout.caller.connection._FORKED_AFTER_S", 0.1)
        with pytest.raises(TimeoutError):
            ask_for_many()
    finally:
        launcher.send_signal(signal.SIGCONT)
        for guard in guards:
            guard.hang_up()
        connection.close()
