"""The driver for one who waits: a command from start to end, on the calling thread."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable

from ..result import Result
from ..shared.protocol import Status
from ..spec import Spec
from .interrupts import Interrupts
from .output import Pace, Show, Stream
from .running import Running

_MAX_WAIT_S = 3600.0


def run_to_end(
    spec: Spec,
    show: Show,
    *,
    pace: Pace | None = None,
    whole: Iterable[Stream] = (),
    on_status: Callable[[Status, int], None] | None = None,
) -> Result:
    """Run the command and return when nothing of it is left. The arguments are those of `Running`.

    An interrupt on the main thread ends the command and is told by ``Result.interrupted``. Raises InputError, with
    nothing started, for what can't be run, and GuardDied if the supervision was killed.
    """
    with Interrupts() as interrupts:
        with Running(spec, show, pace=pace, whole=whole, on_status=on_status) as running:
            interrupts.pass_on_to(running.stop)
            while not running.is_over:
                running.step(_wait(running, interrupts))
        return running.result()


def _wait(running: Running, interrupts: Interrupts) -> list[int]:
    """The descriptors of ``running`` that are ready; none when it is due, or at an interrupt."""
    poller = select.poll()  # not select(2), which takes no descriptor above 1023
    for fd, events in running.watched.items():
        poller.register(fd, events)
    if interrupts.fileno() >= 0:
        poller.register(interrupts.fileno(), select.POLLIN)
    timeout_s = min(max(0.0, running.due_at - time.monotonic()), _MAX_WAIT_S)
    ready = [fd for fd, _ in poller.poll(timeout_s * 1000)]
    if interrupts.fileno() in ready:
        ready.remove(interrupts.fileno())
        interrupts.clear()
    return ready
