"""What a guard tells the caller about its command: on request, when only leftovers remain, and at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..shared import debuglog
from ..shared.processes import UNFOUND, describe
from ..shared.protocol import Done, Request, Sent, Started, Status, Waiting
from ..shared.records import Ending, Exceeded, MemorySample, Process, Signalled
from . import killing
from .ladder import Ladder
from .link import Link
from .observation import Observer
from .reaping import Reaper

NOT_STARTED = 126
"""The return code of a shell that could not be started, as in GNU timeout and the shells."""
_NAMED_AT_MOST = 20


class Reports:
    """Collects what the parts of a `Supervision` know, and sends it. ``signals`` are those sent so far."""

    def __init__(self, request: Request, link: Link, ladder: Ladder, reaper: Reaper, observer: Observer) -> None:
        self.signals: list[Signalled] = []
        self._exceeded: Exceeded | None = None
        self._excesses: list[MemorySample] = []
        self._started_s = request.limits.started_s
        self._tells_signals = request.tells_signals
        self._link = link
        self._ladder = ladder
        self._reaper = reaper
        self._observer = observer
        self._lives = observer.lives

    def note_signal(self, name: str, sent: Sequence[int], now: float, on_request: bool = False) -> None:
        """That signal was sent to those pids. A signal that is repeated is one entry, with the pids of all rounds."""
        if not self.signals or (self.signals[-1].signal, self.signals[-1].on_request) != (name, on_request):
            self.signals.append(Signalled(now - self._started_s, name, [], on_request))
            debuglog.note("guard", f"sent {name} to {list(sent)}")
            if self._tells_signals:
                self._link.send(Sent(name))
        known = self.signals[-1].pids
        known += sorted(set(sent) - set(known))

    def note_excess(self, exceeded: Exceeded, now: float) -> None:
        """The command has more of something than it may. The first time counts."""
        debuglog.note("guard", f"found {exceeded!r}")
        self._exceeded = self._exceeded or exceeded
        if exceeded.what == "memory":
            self._excesses.append(MemorySample(now - self._started_s, int(exceeded.used)))

    def list_left(self) -> list[Process]:
        """The processes that are left, as far as they can be found."""
        return describe(killing.list_running(self._reaper.roots), self._observer.present)

    def send_start(self) -> None:
        """The shell has been started."""
        self._link.send(Started(self._reaper.shell))

    def send_notice(self) -> None:
        """The shell has exited, and these processes are left."""
        left = self.list_left()
        if left and self._reaper.returncode is not None:
            self._link.send(Waiting(self._reaper.returncode, left[:_NAMED_AT_MOST], len(left)))

    def send_status(self, now: float) -> None:
        """The state at the last look. The look that is requested here is for the next status."""
        present = list(self._observer.present.values())
        self._observer.look_soon()
        self._link.send(
            Status(
                returncode=self._reaper.returncode,
                signal=next((sent.signal for sent in self.signals[::-1] if not sent.on_request), ""),
                next_signal_s=self._ladder.next_signal_in(now),
                names=[process.name for process in present[:_NAMED_AT_MOST]],
                processes=len(present),
                cpu_s=self._reaper.cpu_s + sum(process.cpu_s for process in present),
                memory_bytes=self._observer.memory.last_bytes,
            )
        )

    def send_failure(self, error: str, *, is_free: bool) -> None:
        """The shell could not be started."""
        self._send("failed-to-start", returncode=NOT_STARTED, error=error, is_free=is_free)

    def send_end(self, *, is_free: bool) -> None:
        """Nothing of the command is left."""
        self._send(self._ladder.reason, returncode=self._reaper.returncode, is_free=is_free)

    def send_end_with(self, left: Sequence[Process]) -> None:
        """The ladder has no more steps, and these are left: at least one, because not all children have ended."""
        self._send(self._ladder.reason, returncode=self._reaper.returncode, survivors=tuple(left) or (UNFOUND,))

    def _send(
        self,
        reason: str,
        *,
        returncode: int | None,
        error: str = "",
        survivors: tuple[Process, ...] = (),
        is_free: bool = False,
    ) -> None:
        samples = sorted([*self._observer.memory.samples, *self._excesses])
        max_rss = max(self._reaper.max_rss_bytes, self._lives.max_rss_bytes)
        ending = Ending(
            pid=self._reaper.shell,
            timeout=self._ladder.timeout_s,
            returncode=returncode,
            reason=reason,
            error=error,
            exceeded=self._exceeded if self._exceeded is not None and self._exceeded.what == reason else None,
            duration=time.monotonic() - self._started_s,
            cpu_time=self._reaper.cpu_s,
            max_rss=max_rss,
            peak_memory=max([max_rss, *(sample.used_bytes for sample in samples)]),
            memory_samples=tuple(samples),
            signals=tuple(self.signals),
            survivors=survivors,
            certain=self._reaper.is_certain,
            processes=self._lives.all(have_ended=not survivors),
            unseen=self._lives.unseen,
        )
        debuglog.note("guard", f"reports {reason}, return code {ending.returncode}, {len(survivors)} left")
        self._link.send(Done(ending, is_free))
