"""What runs in an engine, by messages of the client: begin a command, hear how it goes on, end it.

The command is a job, so each message is answered at once and the engine stays free for others. Everything goes by
ordinary tasks of ipyparallel, whatever has started the engine. It ends with the engine, as any command ends with its
kernel. When the client does not ask any more, it has died, and the engine ends the command itself.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from ..caller.job import Job
from ..caller.output import Stream
from ..result import Result
from ..spec import Spec

LEASE_S = 10.0
"""How long a command goes on that no client asks about, not counting the time that the engine is busy with others."""
_NEWS_WITHIN_S = 0.1
"""How long an answer waits for something to tell. An interrupt that comes meanwhile is late by as much."""
_held: dict[str, _Held] = {}
_holding = threading.Lock()


class Heard(NamedTuple):
    """What has come since the last answer: pairs of a stream and a text; and at last the result, or an ``error``."""

    texts: list[tuple[Stream, str]]
    result: Result | None
    error: str


class _Held:
    """A command that a client has begun."""

    def __init__(self, spec: Spec) -> None:
        self.job = Job(spec, lambda _stream, _text: None)
        self.position = 0
        self.presses = 0
        self.unheard_s = 0.0


def begin(key: str, spec: Spec) -> Heard:
    """Start a command, which the client calls ``key`` from now on. Raises InputError for what can't be run here."""
    held = _Held(spec)
    with _holding:
        _held[key] = held
        if len(_held) == 1:
            threading.Thread(target=_end_what_nobody_hears, name="pgtimeout-lease", daemon=True).start()
    return hear(key, 0)


def hear(key: str, presses: int) -> Heard:
    """What is new. ``presses`` is how often the user has pressed stop by now."""
    held = _held[key]
    held.unheard_s = 0.0
    driven = held.job.driven
    while held.presses < presses:
        held.presses += 1
        held.job.interrupt()
    driven.wait_until(lambda: driven.texts.end > held.position or driven.is_told, _NEWS_WITHIN_S)
    is_over = driven.is_told  # first: then the texts are all that there are
    with driven.lock:
        texts, held.position = driven.texts.after(held.position)
    if not is_over:
        return Heard(texts, None, "")
    drop(key)
    return Heard(texts, driven.result, "" if driven.error is None else str(driven.error))


def drop(key: str) -> None:
    """The client does not want it any more: end it."""
    with _holding:
        held = _held.pop(key, None)
    if held is not None and not held.job.is_over:
        held.job.terminate()


def _end_what_nobody_hears() -> None:
    """On a thread of its own, while there are commands."""
    idle = _IdleTime()
    while _held:
        idle_s = idle.wait(1.0)
        for key, held in list(_held.items()):
            held.unheard_s += idle_s
            if held.unheard_s >= LEASE_S:
                drop(key)


class _IdleTime:
    """Time in which the engine could have heard from its client, because its main thread was not busy."""

    def __init__(self) -> None:
        self._loop = _loop_of_engine()
        self._has_answered = threading.Event()

    def wait(self, seconds: float) -> float:
        """Returns ``seconds`` later: how much of that was idle."""
        if self._loop is None:
            time.sleep(seconds)
            return seconds
        self._has_answered.clear()
        self._loop.add_callback(self._has_answered.set)
        time.sleep(seconds)
        return seconds if self._has_answered.is_set() else 0.0


def _loop_of_engine() -> Any:
    """The event loop that takes the engine's messages; None if this is no engine."""
    from IPython import get_ipython

    return getattr(getattr(get_ipython(), "kernel", None), "io_loop", None)
