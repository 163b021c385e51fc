"""The blocking driver: it runs a command from start to end on the calling thread."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterable

from ..result import GuardDied, Result
from ..shared.protocol import Status
from ..spec import Spec
from .interrupts import Interrupts, WakeUp
from .output import Pace, Show, Stream
from .running import Running
from .supervisor import NothingStarted
from .turns import turns

_MAX_WAIT_S = 3600.0


def run_to_end(
    spec: Spec,
    show: Show,
    *,
    pace: Pace | None = None,
    shows_all: bool = False,
    whole: Iterable[Stream] = (),
    on_status: Callable[[Status | None, int], None] | None = None,
) -> Result:
    """Run the command and return when nothing of it is left. The arguments are those of `Running`.

    An interrupt on the main thread ends the command and sets ``Result.interrupted``. Raises InputError, with
    nothing started, for what can't be run, and GuardDied if the supervision was killed.
    """
    started_s = time.monotonic()

    def try_to_run() -> Result:
        with Running(
            spec, show, pace=pace, shows_all=shows_all, whole=whole, on_status=on_status, started_s=started_s
        ) as running:
            interrupts.pass_on_to(running.stop)
            waiting = _Waiting(interrupts.wake_up)
            while not running.is_over:
                running.step(waiting.wait(running.watched, running.due_at))
        return running.result()

    with Interrupts() as interrupts, turns.turn():
        with contextlib.suppress(NothingStarted):  # a helper was killed or changed: there are new ones the next time
            return try_to_run()
        try:
            return try_to_run()
        except NothingStarted as death:
            raise GuardDied(str(death), death.details) from None


class _Waiting:
    """Waits for the descriptors of a command, and for an interrupt."""

    def __init__(self, wake_up: WakeUp) -> None:
        self._wake_up = wake_up
        self._registered: dict[int, int] = {}
        self._poller = select.poll()  # not select(2), which takes no descriptor above 1023
        if wake_up.fileno() >= 0:
            self._poller.register(wake_up.fileno(), select.POLLIN)

    def wait(self, watched: dict[int, int], due_at: float) -> list[int]:
        """Those of ``watched`` that are ready; none when it is ``due_at``, or at an interrupt."""
        if watched != self._registered:
            for fd in self._registered.keys() - watched.keys():
                self._poller.unregister(fd)
            for fd, events in watched.items():
                self._poller.register(fd, events)
            self._registered = watched
        timeout_s = min(max(0.0, due_at - time.monotonic()), _MAX_WAIT_S)
        ready = [fd for fd, _ in self._poller.poll(timeout_s * 1000)]
        if self._wake_up.fileno() in ready:
            ready.remove(self._wake_up.fileno())
            self._wake_up.clear()
        return ready
