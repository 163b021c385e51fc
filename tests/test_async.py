"""`run_async`, and a `Job` in asyncio. `test_async_signals` has signals, `test_jobs_in_kernels` the stop button."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from ipython_pgtimeout import CommandFailed, CommandTimeout, InputError, Result, run_async, start
from ipython_pgtimeout.caller import awaiting
from ipython_pgtimeout.caller.driven import _unfinished

from .jobs import NASTY, nasty, ready
from .watching import marked, survivors, wait_until_gone


async def until(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def heard_by(texts: list[str]) -> Callable[[str, str], None]:
    return lambda stream, text: texts.append(text)


async def started(mark: str, script: str = "", **options: Any) -> tuple[asyncio.Task[Result], list[str]]:
    """A task in `run_async`, and what its command has written. All of its programs are ready."""
    texts: list[str] = []
    script = script or nasty(mark)
    wanted = len(NASTY) if script == nasty(mark) else 1
    options = {"kill_after": 0.3, "env": {"MARK": mark}, **options}
    task = asyncio.create_task(run_async(script, 60, on_output=heard_by(texts), **options))
    await until(lambda: "".join(texts).count("ready") >= wanted)
    return task, texts


def test_the_result_comes_back_and_the_loop_goes_on() -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        results = await asyncio.gather(*(run_async(f"sleep 0.3; echo {n}; exit {n}", 20) for n in range(5)))
        ticking.cancel()
        assert [(result.stdout, result.returncode) for result in results] == [(f"{n}\n", n) for n in range(5)]
        assert ticks > 5
        with pytest.raises(CommandFailed):
            await run_async("exit 3", 20, check=True)
        with pytest.raises(CommandTimeout):
            await run_async("sleep 60", 0.1, check=True)
        assert (await run_async("sleep 60", 0.1)).timed_out
        with pytest.raises(InputError):
            await run_async("true", 0)

    asyncio.run(main())


async def by_cancel(task: asyncio.Task[Result]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    if sys.version_info >= (3, 11):  # before, awaiting a task makes a new exception
        assert cancelled.value.result.reason == "interrupted"  # type: ignore[attr-defined]


async def by_wait_for(task: asyncio.Task[Result]) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(task, 0.01)


async def by_timeout(task: asyncio.Task[Result]) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout came with Python 3.11")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await task


async def by_sibling(task: asyncio.Task[Result]) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("TaskGroup came with Python 3.11")

    async def fail() -> None:
        raise LookupError

    async def follow() -> None:
        await task

    async def fail_together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            await asyncio.sleep(0)
            group.create_task(fail())

    with pytest.raises(Exception, match="unhandled errors in a TaskGroup"):
        await fail_together()


@pytest.mark.parametrize("end", [by_cancel, by_wait_for, by_timeout, by_sibling])
def test_a_cancellation_is_over_when_nothing_is_left(
    mark: str, end: Callable[[asyncio.Task[Result]], Awaitable[None]]
) -> None:
    """Of programs that ignore SIGINT and SIGTERM, are stopped, or have sessions of their own."""

    async def main() -> None:
        task, _ = await started(mark)
        assert len(survivors(mark)) >= len(NASTY)
        await end(task)
        assert not survivors(mark)  # at once

    asyncio.run(main())


def test_a_second_cancellation_kills(mark: str) -> None:
    async def main() -> None:
        script = "trap '' INT TERM; echo ready; while :; do sleep 0.02; done"
        task, _ = await started(mark, script, kill_after=30)
        task.cancel()
        await asyncio.sleep(0.1)
        assert not task.done()
        assert survivors(mark)
        for _ in range(5):  # however often
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert not survivors(mark)

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_it_runs_starts_nothing(mark: str) -> None:
    async def main() -> None:
        task = asyncio.create_task(run_async("sleep 60", 60, env={"MARK": mark}))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not marked(mark)
    assert not _unfinished


def test_a_coroutine_that_is_closed_ends_its_command(mark: str) -> None:
    coroutine: Coroutine[Any, Any, Result] = run_async("sleep 60; true", 60, env={"MARK": mark}, kill_after=0.3)
    fds = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fds)

    async def main() -> None:
        future: Any = coroutine.send(None)
        assert future.get_loop() is asyncio.get_running_loop()
        await until(lambda: survivors(mark))

    asyncio.run(main())
    coroutine.close()  # its loop is closed already
    assert not wait_until_gone(mark, 5)
    assert signal.set_wakeup_fd(fds) == fds
    assert awaiting._wake_ups == {}
    gc.collect()


def test_an_error_in_on_output_is_raised_when_nothing_is_left(mark: str) -> None:
    def fail(stream: str, text: str) -> None:
        raise LookupError("mine")

    async def main() -> None:
        with pytest.raises(LookupError, match="mine"):
            await run_async("echo x; sleep 60; true", 60, on_output=fail, env={"MARK": mark})
        assert not survivors(mark)

    asyncio.run(main())


# -- Job --------------------------------------------------------------------------------------------------------


def test_a_job_can_be_awaited_by_several_and_a_cancelled_wait_leaves_it_going(mark: str) -> None:
    async def main() -> None:
        job = ready(start("trap 'exit 7' USR1; echo ready; while :; do sleep 0.02; done", 60, env={"MARK": mark}))
        first, second = (asyncio.create_task(_await(job)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_await(job), 0.05)
        assert job.poll() is None
        assert survivors(mark)
        job.send_signal("USR1")
        assert (await second).returncode == (await job).returncode == 7

    asyncio.run(main())


async def _await(job: Awaitable[Result]) -> Result:
    return await job


def test_texts_can_be_read_asynchronously() -> None:
    async def main() -> None:
        job = start("for i in $(seq 20); do echo $i; sleep 0.005; done; echo err >&2", 20)

        async def read() -> str:
            return "".join([text async for text in job])

        read_by = await asyncio.gather(read(), read())
        assert read_by[0] == read_by[1] == await read()
        assert sorted(read_by[0].split()) == sorted([*map(str, range(1, 21)), "err"])

    asyncio.run(main())


def test_loops_of_several_threads_can_run_commands_at_once() -> None:
    results: list[str] = []

    def work(number: int) -> None:
        results.append(asyncio.run(run_async(f"sleep 0.1; echo {number}", 20)).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == [f"{number}\n" for number in range(6)]
