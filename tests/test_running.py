"""A running command has no loop of its own. Any loop can drive it, and any thread can stop it."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from ipython_pgtimeout import InputError, Result
from ipython_pgtimeout.caller.output import Batcher, Pace
from ipython_pgtimeout.caller.running import Running
from ipython_pgtimeout.shared.protocol import Status
from ipython_pgtimeout.spec import make_spec

from .watching import wait_until_gone

Shown = list[tuple[str, str]]
Driver = Callable[[Running], None]


def by_poll(running: Running) -> None:
    while not running.is_over:
        poller = select.poll()
        for fd, events in running.watched.items():
            poller.register(fd, events)
        wait_s = min(max(0.0, running.due_at - time.monotonic()), 5.0)
        running.step([fd for fd, _ in poller.poll(wait_s * 1000)])


def by_asyncio(running: Running) -> None:
    """The descriptors are registered with an event loop, which reports them one at a time."""

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        while not running.is_over:
            ready = asyncio.Event()
            fds: list[int] = []

            def wake(fd: int, fds: list[int] = fds, ready: asyncio.Event = ready) -> None:
                fds.append(fd)
                ready.set()

            watched = running.watched
            for fd, events in watched.items():
                if events & select.POLLIN:
                    loop.add_reader(fd, wake, fd)
                if events & select.POLLOUT:
                    loop.add_writer(fd, wake, fd)
            wait_s = min(max(0.0, running.due_at - time.monotonic()), 5.0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ready.wait(), wait_s)
            for fd in watched:
                loop.remove_reader(fd)
                loop.remove_writer(fd)
            running.step(dict.fromkeys(fds))

    asyncio.run(drive())


def by_a_thread(running: Running) -> None:
    thread = threading.Thread(target=by_poll, args=(running,))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(params=[by_poll, by_asyncio, by_a_thread])
def drive(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.param
    return driver


def _run(drive: Driver, **given: object) -> tuple[Result, Shown]:
    shown: Shown = []
    spec = make_spec({"timeout": 20, **given})
    with Running(spec, lambda stream, text: shown.append((stream, text))) as running:
        drive(running)
        return running.result(), shown


def test_any_loop_can_drive_a_command(drive: Driver) -> None:
    result, shown = _run(drive, command="cat; echo err >&2; sleep 0.1; echo out; exit 3", stdin="in\n" * 100_000)
    assert (result.returncode, result.reason, result.stderr) == (3, "exited", "err\n")
    assert result.stdout == "in\n" * 100_000 + "out\n"
    assert "".join(text for stream, text in shown if stream == "stdout") == result.stdout


def test_a_deadline_is_kept_with_any_driver(drive: Driver) -> None:
    result, _ = _run(drive, command="sleep 60", timeout=0.3)
    assert result.timed_out


def test_silence_is_noticed_with_any_driver(drive: Driver) -> None:
    result, _ = _run(drive, command="echo once; sleep 60", idle=0.3)
    assert (result.reason, result.stdout) == ("idle", "once\n")


def test_a_large_environment_is_sent_in_pieces(drive: Driver) -> None:
    """It is larger than a socket's buffer. The rest is sent when the loop reports that the socket is writable."""
    result, _ = _run(drive, command="echo ${#A}", env=dict.fromkeys("ABCDEFGHIJ", "x" * 120000))
    assert result.stdout == "120000\n"


@pytest.mark.parametrize(("presses", "signals"), [(1, ["SIGINT", "SIGTERM"]), (2, ["SIGKILL"])])
def test_another_thread_can_stop_a_command(presses: int, signals: list[str], mark: str) -> None:
    """As with the stop button, but from another thread, once the command has printed that it is ready."""
    is_ready = threading.Event()
    spec = make_spec({"command": f"trap '' INT; echo ready; sleep 60; : {mark}", "timeout": 60})
    with Running(spec, lambda _stream, _text: is_ready.set()) as running:

        def stop() -> None:
            assert is_ready.wait(20)
            running.stop(presses)

        stopping = threading.Thread(target=stop)
        stopping.start()
        by_poll(running)
        stopping.join()
        result = running.result()
    assert (result.reason, result.interrupted) == ("interrupted", True)
    assert [sent.signal for sent in result.signals] in (signals, [*signals, "SIGKILL"])
    assert wait_until_gone(mark, 1) == []


def test_a_deadline_can_be_moved() -> None:
    spec = make_spec({"command": "sleep 0.8; echo made it", "timeout": 0.4})
    with Running(spec, lambda _stream, _text: None) as running:
        running.extend(20)
        by_poll(running)
        result = running.result()
    assert (result.reason, result.stdout) == ("exited", "made it\n")


def test_leaving_the_context_ends_the_command(mark: str) -> None:
    """Whatever the reason for leaving, the guard ends what the command has started."""
    shown: Shown = []
    spec = make_spec({"command": f"echo ready; trap '' TERM; sleep 60; : {mark}", "timeout": 60, "kill_after": 0.2})
    with Running(spec, lambda stream, text: shown.append((stream, text))) as running:
        while not shown:
            running.step(list(running.watched)[1:2])
    assert wait_until_gone(mark, 10) == []


def test_bad_input_leaves_no_file_open() -> None:
    before = _open_files()
    for given in ({"cwd": "/no/such/directory"}, {"shell": "no-such-shell"}, {"log": "/no/such/directory/log"}):
        with pytest.raises(InputError):
            Running(make_spec({"command": "true", "timeout": 5, **given}), lambda _stream, _text: None)
    assert _open_files() == before


def test_a_running_command_has_few_descriptors() -> None:
    """The channel, stdout and stderr. Before, the directory was a fourth."""
    before = _open_files()
    spec = make_spec({"command": "sleep 60", "timeout": 60})
    running = [Running(spec, lambda _stream, _text: None) for _ in range(10)]
    try:
        assert _open_files() - before <= 3 * len(running)
    finally:
        for each in running:
            each.close()


def _open_files() -> int:
    import psutil

    return int(psutil.Process().num_fds())


def test_a_status_is_received_after_the_first_second() -> None:
    received: list[tuple[Status | None, int]] = []
    spec = make_spec({"command": "echo 12345; sleep 3", "timeout": 20})
    with Running(spec, lambda _s, _t: None, on_status=lambda status, size: received.append((status, size))) as running:
        by_poll(running)
    assert received
    status, size = received[-1]
    assert status is not None
    assert (status.returncode, status.signal, size) == (None, "", 6)
    assert any(status and "sleep" in status.names for status, _ in received), received


def test_a_pace_can_be_shared_by_threads() -> None:
    """Thirty threads have output. In version 0.1, `deque mutated during iteration` lost a command then."""
    pace = Pace(max_bytes=10_000, window_s=0.01)
    errors: list[BaseException] = []

    def show_much() -> None:
        try:
            for _ in range(300):
                batcher = Batcher(lambda _stream, _text: None, pace)
                batcher.add("stdout", "x" * 100)
                batcher.show_if_due()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=show_much) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_pace_can_be_used_in_the_middle_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a signal handler that runs a command. With a plain lock it waited for the code that it had interrupted."""
    pace = Pace(max_bytes=10)
    clock = time.monotonic
    waits: list[float] = []

    def interrupted_clock() -> float:
        monkeypatch.setattr("ipython_pgtimeout.caller.output.time.monotonic", clock)
        pace.note(5)
        waits.append(pace.wait_s(6))
        return clock()

    def note() -> None:
        monkeypatch.setattr("ipython_pgtimeout.caller.output.time.monotonic", interrupted_clock)
        pace.note(5)

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert (waits[0] > 2, pace.wait_s(1) > 2) == (True, True)


def test_the_sigint_handler_is_the_previous_one_afterwards() -> None:
    previous = signal.getsignal(signal.SIGINT)
    _run(by_poll, command="true")
    assert signal.getsignal(signal.SIGINT) is previous


NO_DESCRIPTORS = """
import os, resource, signal
from ipython_pgtimeout import run
run("true", 20)
before = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
used = len(os.listdir("/proc/self/fd"))
errors = 0
for free in range(-6, 12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, hard))
    try:
        run("true", 20)
    except Exception as error:
        errors += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert signal.getsignal(signal.SIGINT) is before[0], free
    assert signal.set_wakeup_fd(-1) == before[1], free
print(errors > 3, run("echo on", 20).stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in proc(5)")
def test_the_handler_is_restored_when_there_are_no_descriptors_left() -> None:
    """At 0.1 one such error left its handler installed, and Ctrl-C was dead for good."""
    done = subprocess.run([sys.executable, "-c", NO_DESCRIPTORS], capture_output=True, text=True, timeout=50)
    assert done.stdout == "True on\n\n", done
