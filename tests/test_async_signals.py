"""Signals while an event loop waits for commands: the loop wakes, and other code's signal descriptor is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from ipython_pgtimeout import run_async
from ipython_pgtimeout.caller import awaiting

from .jobs import run_python
from .watching import wait_until_gone


async def until_true(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def wakeup_pipe() -> Any:
    """The reading end of a descriptor that is told of signals, as other code may have set one."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        yield reading, writing
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def test_one_signal_descriptor_serves_all_commands_of_a_loop_and_the_previous_one_comes_back() -> None:
    async def main(writing: int) -> None:
        tasks = [asyncio.create_task(run_async("sleep 0.2", 20)) for _ in range(4)]
        await until_true(lambda: len(awaiting._wake_ups) == 1)
        await asyncio.sleep(0.05)
        ((_, users),) = awaiting._wake_ups.values()
        assert users == 4
        during = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(during)
        assert during not in (-1, writing)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.gather(*tasks)

    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with wakeup_pipe() as (reading, writing):
            asyncio.run(main(writing))
            after = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(after)
            assert after == writing
            assert os.read(reading, 99) == bytes([signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert awaiting._wake_ups == {}


@pytest.mark.parametrize("when", ["before", "during"])
def test_signal_handlers_of_the_loop_go_on_working(when: str) -> None:
    """Also those that are added during a wait. When ours was then taken away without a look, they were dead."""
    heard: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if when == "before":
            loop.add_signal_handler(signal.SIGUSR1, heard.append, "USR1")
        task = asyncio.create_task(run_async("sleep 0.2", 20))
        await until_true(lambda: awaiting._wake_ups)
        if when == "during":
            loop.add_signal_handler(signal.SIGUSR1, heard.append, "USR1")
        os.kill(os.getpid(), signal.SIGUSR1)
        await until_true(lambda: len(heard) == 1, 2)
        await task
        os.kill(os.getpid(), signal.SIGUSR1)
        await until_true(lambda: len(heard) == 2, 2)
        assert loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())


INTERRUPTED = """
    import asyncio
    def tell(stream, text):
        global shell
        shell = int(text)
        os.kill(os.getpid(), signal.SIGINT)
    script = "trap '' INT TERM; echo $$; while :; do sleep 0.02; done"
    try:
        asyncio.run(run_async(script, 60, on_output=tell, kill_after=0.3))
    except KeyboardInterrupt:
        told(name="KeyboardInterrupt", is_left=os.path.exists(f"/proc/{shell}"))
"""


def test_an_interrupt_ends_asyncio_run_and_the_command(mark: str) -> None:
    told, done = run_python(INTERRUPTED, mark=mark)
    assert told == {"name": "KeyboardInterrupt", "is_left": False}
    assert done.stderr == ""
    assert not wait_until_gone(mark, 1)
