"""A job in the cell where it was started: a status, the earlier lines of its output folded, and the last lines."""

from __future__ import annotations

import math
import time
import uuid
from typing import Any

from ..caller.job import Job
from ..caller.output import Pace
from ..pictures import fold
from ..shared.protocol import Status
from .buttons import Buttons
from .lastlines import Lines
from .screen import Screen
from .status import LiveStatus

_FIRST_LOOK_AFTER_S = 1.0
_INTERVAL_S = 0.5
_LONGEST_INTERVAL_S = 5.0
_LINES_BYTES = 10_000
_EMPTY = {"text/plain": ""}
_FOLD_INTERVAL_S = 10.0
"""A fold that a reader has opened closes when it is replaced, so that is not done often."""


class Display:
    """One display in a cell, which any thread can replace.

    Front ends find it by its identifier, whichever cell runs: nbclient would ignore a message that names its own cell,
    when that is over. It keeps its publisher, or a cell that captures what is displayed would get it.
    """

    def __init__(self, ip: Any, bundle: dict[str, Any]) -> None:
        self._publish = ip.display_pub.publish
        self._transient = {"display_id": uuid.uuid4().hex}
        self._publish(data=bundle, metadata={}, transient=self._transient)

    def replace(self, bundle: dict[str, Any]) -> None:
        self._publish(data=bundle, metadata={}, transient=self._transient, update=True)


class Panel(Screen):
    """What a page shows of a job. After the constructor, everything happens on the thread that serves all jobs."""

    has_status = keeps_status = True

    def __init__(self, ip: Any, job: Job, pace: Pace, has_buttons: bool) -> None:
        super().__init__(set())
        self._ip = ip
        self._job = job
        self._pace = pace
        self._status_shown: Status | None = None
        self._lines = Lines()
        self._read = 0
        self._lines_shown = self._fold_shown = 0
        """How much had been read when they were shown."""
        now = time.monotonic()
        self._look_at, self._lines_at, self._fold_at = now + _FIRST_LOOK_AFTER_S, now, now
        self._is_finished = False
        self._status: Display | None = None
        self._live = LiveStatus(job.timeout, self, job.name, job.started_at)
        self._live.begin()
        self._fold, self._last = Display(ip, _EMPTY), Display(ip, _EMPTY)
        self._buttons = Buttons(job) if has_buttons else None
        self._buttons_shown = None if self._buttons is None else Display(ip, self._buttons.bundle())
        job.driven.listen(self._follow)

    def put_status(self, text: str, html: str) -> None:
        bundle = {"text/plain": text, "text/html": html}
        if self._status is None:
            self._status = Display(self._ip, bundle)
        else:
            self._status.replace(bundle)

    def end_status(self, text: str, html: str) -> bool:
        self.put_status(text, html)
        return True

    def _follow(self) -> None:
        if self._is_finished:
            return
        driven, now = self._job.driven, time.monotonic()
        self._is_finished = driven.is_over
        with driven.lock:
            new, self._read = driven.texts.after(self._read)
        for stream, text in new:
            self._lines.add_notice(text) if stream == "notice" else self._lines.add(text)
        if self._is_finished:
            # All of it once more: nbclient ignores what comes between two cells, as the last lines may have come.
            self._show_lines(now)
            self._show_fold(now)
            self._show_end()
            return
        if self._lines_shown < self._read and now >= self._lines_at and self._has_room():
            self._show_lines(now)
        if self._fold_shown < self._read and now >= self._fold_at:
            self._show_fold(now)
        if driven.status is not self._status_shown:
            self._status_shown = driven.status
            self._live.timeout_s = self._job.timeout
            self._live.update(driven.status, driven.written_bytes)
        if now >= self._look_at:
            # A job of hours needs no status twice a second.
            elapsed_s = now - driven.started_s
            self._look_at = now + min(max(_FIRST_LOOK_AFTER_S, elapsed_s / 10), _LONGEST_INTERVAL_S)
            driven.ask(lambda running: running.ask_for_status())
        driven.call_at = min(
            driven.call_at,
            self._look_at,
            self._lines_at if self._lines_shown < self._read else math.inf,
            self._fold_at if self._fold_shown < self._read else math.inf,
        )

    def _has_room(self) -> bool:
        """Whether there is room for the last lines on the way to the browser."""
        wait_s = self._pace.wait_s(_LINES_BYTES)
        self._lines_at += wait_s
        return not wait_s

    def _show_lines(self, now: float) -> None:
        self._lines_shown, self._lines_at = self._read, now + _INTERVAL_S
        text = "\n".join(self._lines.last())
        self._pace.note(len(text))
        self._last.replace({"text/plain": text})

    def _show_fold(self, now: float) -> None:
        self._fold_shown, self._fold_at = self._read, now + _FOLD_INTERVAL_S
        if self._lines.earlier_count:
            html = fold.draw_html(self._lines.earlier(), self._lines.earlier_count)
            self._pace.note(len(html))
            self._fold.replace({"text/plain": fold.title(self._lines.earlier_count), "text/html": html})

    def _show_end(self) -> None:
        if self._buttons is not None and self._buttons_shown is not None:
            self._buttons_shown.replace(_EMPTY)  # a saved notebook would have buttons that nothing answers
            self._buttons.close()
        result = self._job.result
        self._live.conclude(self._job.summary(), ok=result is not None and result.ok)
