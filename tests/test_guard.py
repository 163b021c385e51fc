"""A guard runs one command after another, and nothing of one command affects the next."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ipython_pgtimeout import run
from ipython_pgtimeout.caller.connection import connection
from ipython_pgtimeout.shared import rights
from ipython_pgtimeout.shared.channel import Channel
from ipython_pgtimeout.shared.inheritance import Inheritance
from ipython_pgtimeout.shared.protocol import Done, Interrupt, Limits, Message, Request

from .kernels import LOAD, RUN, Kernel
from .watching import marked, wait_until, wait_until_gone


def _idle_guard(kernel: Kernel) -> int:
    """The pid of the idle guard. Shortly after the start, or after a command, it is the only guard."""
    found: list[psutil.Process] = []

    def is_only_one() -> bool:
        found[:] = kernel.guards()
        return len(found) == 1

    assert wait_until(is_only_one, 10), found
    return found[0].pid


# -- in a kernel ----------------------------------------------------------------------------------------------


def test_a_guard_is_reused_after_different_endings(kernel: Kernel, tmp_path: Path) -> None:
    broken = tmp_path / "shell"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o700)
    guard = _idle_guard(kernel)
    for line, reason in (
        ("10 exit 3", "exited"),
        ("0.1 sleep 60", "timeout"),
        ("--kill-after 0.1 0.1 sh -c \"trap '' TERM; while :; do sleep 1; done\"", "timeout"),
        ("--leftovers kill 10 sleep 60 &", "exited"),
        (f"--shell {broken} 10 true", "failed-to-start"),
        ("--pty 10 tty", "exited"),
        ("10 echo after all", "exited"),
    ):
        kernel.run(f"r = {RUN.format(line='--no-raise ' + line)}")
        assert kernel.value("r.reason") == repr(reason)
        assert _idle_guard(kernel) == guard, line
    assert kernel.value("r.stdout, r.returncode, r.signals, r.survivors") == "('after all\\n', 0, (), ())"


def test_time_and_memory_are_measured_per_command(kernel: Kernel) -> None:
    """The figures of a large command do not appear in the next result."""
    allocate = "python3 -S -E -c 'x = bytearray(200_000_000); sum(range(3_000_000))'"
    kernel.run(f"first = {RUN.format(line='20 ' + allocate)}; second = {RUN.format(line='20 true')}")
    assert kernel.value("first.max_rss > 200_000_000, second.max_rss < 100_000_000") == "(True, True)"
    assert kernel.value("first.cpu_time > 5 * second.cpu_time > 0, len(second.processes)") == "(True, 1)"


def test_a_walk_over_many_processes_needs_no_larger_table_of_descriptors() -> None:
    """Linux enlarges a table that threads share only after every processor has scheduled. In a storm of 40 loops beside
    two busy ones, SIGTERM was up to 7 s late for that."""
    told = run("sleep 0.3; grep FDSize /proc/$PPID/status; ls /proc/$PPID/task | wc -l", 20).stdout.split()
    assert int(told[1]) >= 512, told
    assert int(told[2]) > 1, told


HURRIES = """
tell() { for thread in /proc/$PPID/task/*; do cut -d ' ' -f 19 $thread/stat; done; exit; }
trap tell TERM
while :; do sleep 0.05; done
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_all_threads_of_a_guard_that_ends_a_command_have_the_highest_priority() -> None:
    """They share the interpreter's lock. A thread that had it, at an ordinary priority, was left waiting for a
    processor by a storm, and SIGTERM was 1.5 s late."""
    told = run(HURRIES, 2, kill_after=20).stdout.split()
    assert len(told) > 1, told
    assert set(told) == {"-20"}, told


def test_the_memory_of_the_guard_is_not_counted() -> None:
    """Linux counts what a process had before its execve(2), and that is the guard's memory: 11 MB at rest, and at 0.1
    121 MB after a large request."""
    assert run("true", 20).max_rss == 0
    assert 500_000 < run("sleep 0.4", 20).max_rss < 8_000_000
    too_large = dict.fromkeys(map(str, range(300)), "x" * 100_000)
    assert run("true", 20, env=too_large).reason == "failed-to-start"
    assert 30_000_000 < run("python3 -S -E -c 'bytearray(30_000_000)'", 20).max_rss < 60_000_000


def test_guard_with_leftovers_is_not_reused(fresh_kernel: Kernel, mark: str) -> None:
    """It stays with the leftovers, and the next command gets another guard."""
    fresh_kernel.run(f"%%timeout_shell --leftovers leave 20\nMARK={mark} sleep 60 & until [ $! ]; do :; done")
    assert wait_until(lambda: len(marked(mark)) == 1, 5)  # execve(2) hides the mark for a moment
    (left,) = marked(mark)
    old_guard = left.ppid()
    fresh_kernel.run("%%timeout_shell 20\ntrue")
    new_guards = [guard.pid for guard in fresh_kernel.guards() if guard.pid != old_guard]
    assert len(new_guards) == 1
    fresh_kernel.run("%%timeout_shell 20\ntrue")
    assert sorted(guard.pid for guard in fresh_kernel.guards()) == sorted([old_guard, *new_guards])
    left.kill()
    assert wait_until(lambda: not psutil.pid_exists(old_guard), 5)


@pytest.mark.parametrize("killed", ["guard", "launcher"])
def test_the_next_command_runs_after_the_death_of_an_idle_helper(fresh_kernel: Kernel, killed: str) -> None:
    fresh_kernel.run("%%timeout_shell 20\ntrue")
    process = psutil.Process(_idle_guard(fresh_kernel)) if killed == "guard" else fresh_kernel.launcher()
    process.kill()
    # Wait until the caller can see the death: before that, the next command could still take a dying guard.
    fresh_kernel.run("from ipython_pgtimeout.caller import connection as c")
    can_be_seen = "not c.connection._idle[-1].is_waiting()" if killed == "guard" else "not c.connection._has_launcher()"
    assert wait_until(lambda: fresh_kernel.value(can_be_seen) == "True", 10)
    reply = fresh_kernel.run("%%timeout_shell 20\necho still there")
    assert (reply.stdout, reply.stderr) == ("still there\n", "")


def test_a_guard_without_a_launcher_is_released_after_its_command(mark: str) -> None:
    """Without a launcher, nothing would end the processes of a guard that is killed. Version 0.1 kept such a guard."""
    guard = connection.take(rights.fingerprint(rights.read_status()))
    assert connection._launcher is not None
    launcher = connection._launcher.process
    _send(guard.channel, _encode(_request("true", mark)))
    assert _receive_done(guard.channel).is_free
    launcher.kill()
    assert wait_until(lambda: not connection._has_launcher(), 5)
    connection.give_back(guard, is_free=True)
    assert guard not in connection._idle
    assert guard.channel.fileno() == -1, "the channel is still connected"


def test_a_guard_restores_its_attributes_after_a_command(fresh_kernel: Kernel) -> None:
    """The same guard can then give the next command the kernel's new attributes."""
    guard = _idle_guard(fresh_kernel)
    print_attributes = "20 umask; ulimit -n; nice"
    fresh_kernel.run(
        "import os, resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; umask = os.umask(0o077)"
    )
    fresh_kernel.run("soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]")
    fresh_kernel.run("resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))")
    assert fresh_kernel.run(RUN.format(line=print_attributes) + ";").stdout.split() == ["0077", "200", "0"]
    fresh_kernel.run("n = os.umask(umask); resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))")
    umask, soft, _ = fresh_kernel.run(RUN.format(line=print_attributes) + ";").stdout.split()
    assert umask != "0077"
    assert soft != "200"
    assert _idle_guard(fresh_kernel) == guard


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the right to raise limits, to be dropped here")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) drops the right to raise limits")
def test_a_guard_that_cannot_restore_its_attributes_is_not_reused() -> None:
    may_not_raise = ["setpriv", "--bounding-set=-sys_resource,-sys_nice", "--inh-caps=-sys_resource,-sys_nice"]
    with Kernel(LOAD, started_by=may_not_raise) as kernel:
        guard = _idle_guard(kernel)
        kernel.run("%%timeout_shell 20\ntrue")
        assert _idle_guard(kernel) == guard
        kernel.run("import os; n = os.nice(3)")
        assert kernel.run("%%timeout_shell 20\nnice").stdout == "3\n"
        # The guard ends after its command. Only then there is a new one.
        assert wait_until(lambda: _idle_guard(kernel) != guard, 10)
        assert kernel.run("%%timeout_shell 20\nnice").stdout == "3\n"


@pytest.mark.parametrize("options", ["", "--pty "])
def test_commands_run_in_a_kernel_with_many_open_files(options: str) -> None:
    """select(2) takes no descriptor above 1023. The lower ones are in use here, so the caller must not need them."""
    many = "import os, resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    many += "resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))\n"
    many += "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1200)]"
    with Kernel(many, LOAD) as kernel:
        for _ in range(2):
            assert kernel.run(f"%%timeout_shell {options}20\necho here").stdout == "here\n"


# -- message by message ---------------------------------------------------------------------------------------


@pytest.fixture
def channel() -> Iterator[Channel]:
    taken = connection.take(rights.fingerprint(rights.read_status()))
    yield taken.channel
    connection.give_back(taken, is_free=False)


def _request(script: str, mark: str = "") -> Request:
    environment = {b"PATH": os.environb[b"PATH"], b"LARGE": b"x" * 20_000, b"MARK": mark.encode()}
    argv = [b"sh", b"-c", script.encode()]
    return Request(
        program=b"/bin/sh",
        argv=argv,
        environment=environment,
        inheritance=Inheritance.current(b""),
        limits=Limits(time.monotonic(), timeout=10.0, kill_after=1.0, signal=signal.SIGTERM, leftovers="wait"),
        pty=False,
        tells_start=False,
    )


def _encode(*messages: Message) -> bytes:
    """The messages as bytes, as a channel sends them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in messages:
            Channel(ours).send(message)
        return theirs.recv(1 << 20)


def _send(channel: Channel, frames: bytes) -> None:
    """Send the first byte with the four descriptors of a request, then all other bytes at once."""
    fds = [os.open(path, os.O_RDWR) for path in [os.devnull] * 3] + [os.open("/", os.O_RDONLY)]
    socket.send_fds(channel.socket, [frames[:1]], fds)
    channel.socket.settimeout(20)
    channel.socket.sendall(frames[1:])
    for fd in fds:
        os.close(fd)


def _receive_done(channel: Channel) -> Done:
    while True:
        for message in channel.receive():
            if isinstance(message, Done):
                return message


def test_an_interrupt_that_arrives_with_its_request_ends_the_command(channel: Channel) -> None:
    _send(channel, _encode(_request("sleep 60"), Interrupt(1)))
    done = _receive_done(channel)
    assert (done.ending.reason, done.is_free) == ("interrupted", True)


def test_a_late_interrupt_does_not_end_the_next_command(channel: Channel) -> None:
    _send(channel, _encode(_request("true")))
    assert _receive_done(channel).ending.reason == "exited"
    _send(channel, _encode(Interrupt(1), _request("sleep 0.1")))
    assert _receive_done(channel).ending.reason == "exited"


def test_a_released_guard_ends_its_command_despite_a_copy_of_the_channel(mark: str) -> None:
    """A child of multiprocessing that was forked while the command ran holds such a copy."""
    guard = connection.take(rights.fingerprint(rights.read_status()))
    with guard.channel.socket.dup():
        _send(guard.channel, _encode(_request("sleep 60; :", mark)))
        assert wait_until(lambda: len(marked(mark)) == 2, 10)
        connection.give_back(guard, is_free=False)
        assert not wait_until_gone(mark, 5)
