"""The live status of a command: one line, from about a second after the start to the end.

Text and HTML say the same. Colours are mid-tones and the rest is inherited, so light and dark themes both work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from ..pictures.markup import escape, style, verdict
from ..result import Result
from ..shared.protocol import Status
from ..wording import count, format_bytes, format_limit, visible
from .screen import Screen

_NAMES = 3


class LiveStatus:
    """What a screen shows while a command runs, and in its place at the end."""

    def __init__(self, timeout_s: float, screen: Screen, name: str = "", started_at: float | None = None) -> None:
        """``timeout_s`` can be changed. ``name`` is the job's, if it is one, and ``started_at`` when that was started
        (by the clock on the wall), which can be earlier than now."""
        self.timeout_s = timeout_s
        self._screen = screen
        self._names = (name,) if name else ()
        self._started_at = time.time() if started_at is None else started_at
        self._started = time.monotonic() - (time.time() - self._started_at)
        self._is_shown = False

    def begin(self) -> None:
        """Show that it runs, before anything else is known."""
        self._is_shown = True
        self._put("running", (self._times(0.0, True),))

    def update(self, status: Status | None, written_bytes: int) -> None:
        """Show the ``status`` of a command that runs; None says that only its output is still on its way to the page,
        which is worth a word only where "running" would be left standing."""
        if status is None:
            if self._is_shown:
                self._put("over, the output is still coming", (f"output {format_bytes(written_bytes)}",))
            return
        self._is_shown = True
        elapsed_s = time.monotonic() - self._started
        phase = _phase(status)
        facts = (
            self._times(elapsed_s, not status.signal),
            count(status.processes, "process"),
            f"CPU {status.cpu_s:.1f} s",
            f"memory {format_bytes(status.memory_bytes)}",
            f"output {format_bytes(written_bytes)}",
        )
        bar = ""
        if math.isfinite(self.timeout_s):
            bar = f'<progress value="{min(elapsed_s, self.timeout_s):.2f}" max="{self.timeout_s:g}"></progress> '
        self._put(phase, facts, bar)

    def _put(self, phase: str, facts: tuple[str, ...], bar: str = "") -> None:
        named = " · ".join((*self._names, phase))
        self._screen.put_status(" · ".join((named, *facts)), _html(f"{bar}<b>{escape(named)}</b> · {_unbroken(facts)}"))

    def _times(self, elapsed_s: float, with_deadline: bool) -> str:
        """Of a status that may be left behind, clock times: they stay true. With their zone, because a kernel may be in
        another one than its user."""
        with_deadline = with_deadline and math.isfinite(self.timeout_s)
        if not self._screen.keeps_status:
            return f"{elapsed_s:.0f} s" + (f" of {format_limit(self.timeout_s)}" if with_deadline else "")
        since = f"since {_clock(self._started_at)}"
        if with_deadline:
            since += f", until {_clock(self._started_at + self.timeout_s, self._started_at)}"
        return f"{since} {time.strftime('%Z')}".rstrip()

    def conclude(self, summary: str, ok: bool) -> bool:
        """Put this in place of the status. Returns whether it is shown."""
        text = " · ".join((*self._names, summary))
        return self._screen.end_status(text, _html(verdict(text, ok)))

    def finish(self, result: Result | None, is_told: bool) -> bool:
        """Put the result's summary in place of the status. If something else tells how the command ended, put only
        facts that are not in the summary. Returns whether the summary was put."""
        if result is not None and not is_told:
            return self.conclude(result.summary(), result.ok)
        facts = [f"{_clock(self._started_at)} to {_clock(time.time(), self._started_at)}"]
        if result is not None:
            facts.append(f"CPU {result.cpu_time:.1f} s")
            if result.peak_memory:
                facts.append(f"memory up to {format_bytes(result.peak_memory)}")
            facts.append(f"output {format_bytes(result.stdout_bytes + result.stderr_bytes)}")
        ok = result is not None and result.ok
        self._screen.end_status(" · ".join(facts), _html(verdict(" · ".join(facts), ok)))
        return False


def _phase(status: Status) -> str:
    if status.signal == "SIGKILL":
        return "SIGKILL sent"
    if status.signal:
        if math.isinf(status.next_signal_s):
            return f"{status.signal} sent"
        return f"{status.signal} sent, grace until {_clock(time.time() + status.next_signal_s)}"
    if status.returncode is None:
        return "running"
    names = ", ".join(map(visible, status.names[:_NAMES])) + ("…" if len(status.names) > _NAMES else "")
    return f"waiting for {names}"


def _clock(at: float, since: float | None = None) -> str:
    """The time of day; with the date, if this is another one than ``since``."""
    local = time.localtime(at)
    same_day = since is None or time.localtime(since)[:3] == local[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", local)


def _unbroken(facts: Iterable[str]) -> str:
    return " · ".join(escape(fact).replace(" ", "&nbsp;") for fact in facts)


def _html(line: str) -> str:
    return f'<div class="pgtimeout-status">{style(__file__)}{line}</div>'
