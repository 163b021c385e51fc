"""Jobs in asyncio: wait for one, read it, and end it when the task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from ..result import Result, carry_result, describe_in_a_line
from .driven import Driven
from .interrupts import WakeUp
from .output import Stream


async def result_of(driven: Driven) -> Result:
    """Wait until nothing of it is left. A task that is cancelled meanwhile leaves the job as it is."""
    with _woken_by_signals():
        try:
            await _until(driven, lambda: driven.is_over)
        except asyncio.CancelledError as error:
            describe_in_a_line(error, "waited no longer; the job goes on")
            raise
    return _result(driven)


async def wait_until(driven: Driven, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds. It is looked at whenever something has changed, on another thread."""
    with _woken_by_signals():
        await _until(driven, condition)


def _result(driven: Driven) -> Result:
    result = driven.outcome()
    assert result is not None
    return result


async def texts_of(driven: Driven) -> AsyncIterator[str]:
    """As in iterating over a `Job`."""
    new, position = await _texts_after(driven, 0)
    while new:
        for stream, text in new:
            if stream != "notice":
                yield text
        new, position = await _texts_after(driven, position)


async def _texts_after(driven: Driven, position: int) -> tuple[list[tuple[Stream, str]], int]:
    await wait_until(driven, lambda: driven.is_over or driven.texts.end > position)
    with driven.lock:
        return driven.texts.after(position)


async def result_or_end_of(driven: Driven) -> Result:
    """Wait until nothing of it is left. When the task is cancelled, the job is interrupted, at the second time killed,
    and CancelledError is raised when it is gone, with the result as ``.result``.

    A task must not turn it into a KeyboardInterrupt, which would end the event loop.
    """
    with _woken_by_signals():
        try:
            await _until(driven, lambda: driven.is_over)
        except asyncio.CancelledError as cancellation:
            driven.interrupt()
            while not driven.is_over:
                try:
                    await _until(driven, lambda: driven.is_over)
                except asyncio.CancelledError:
                    driven.terminate(at_once=True)
            carry_result(cancellation, _result(driven))
            raise
        except BaseException:  # the coroutine is closed, for example: nobody waits any more
            driven.terminate(at_once=False)
            raise
    return _result(driven)


async def _until(driven: Driven, condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def listen() -> None:  # on another thread
        if condition():
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(finish)

    driven.listen(listen)
    try:
        if not condition():
            await future
    finally:
        driven.listeners.remove(listen)


_wake_ups: dict[asyncio.AbstractEventLoop, tuple[WakeUp, int]] = {}


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[None]:
    """Meanwhile a signal wakes the event loop, if it runs on the main thread.

    A kernel handles the stop button by a callback, which its sleeping event loop would not look at before something
    else wakes it (ipykernel, issue 881).
    """
    loop = asyncio.get_running_loop()
    wake_up, users = _wake_ups.get(loop) or (WakeUp(), 0)
    if not users:
        wake_up.install()
        if wake_up.fileno() >= 0:
            loop.add_reader(wake_up.fileno(), wake_up.clear)
    _wake_ups[loop] = wake_up, users + 1
    try:
        yield
    finally:
        wake_up, users = _wake_ups.pop(loop)
        if users > 1:
            _wake_ups[loop] = wake_up, users - 1
        else:
            if wake_up.fileno() >= 0:
                with contextlib.suppress(RuntimeError):  # the loop was closed before the coroutine
                    loop.remove_reader(wake_up.fileno())
            wake_up.remove()
