"""The live status of a command: one place in the cell's output, from about a second after the start to the end.

Text and HTML say the same. Colours are mid-tones and the rest is inherited, so light and dark themes both work.
"""

from __future__ import annotations

import math
import time
from typing import Any

from ..pictures.markup import escape, style, verdict
from ..shared.protocol import Status
from ..wording import count, describe_exit, format_bytes, format_limit, visible

_NAMES = 3


class LiveStatus:
    """The front end shows and updates it. A command that is over before the first status is due shows none."""

    def __init__(self, timeout_s: float, grace_s: float) -> None:
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._started = time.monotonic()
        self._handle: Any = None

    def update(self, status: Status, shown_bytes: int) -> None:
        elapsed_s = time.monotonic() - self._started
        phase = _phase(status, self._grace_s)
        limit = f" of {format_limit(self._timeout_s)}" if math.isfinite(self._timeout_s) else ""
        facts = (
            f"{elapsed_s:.1f} s{limit}",
            count(status.processes, "process"),
            f"CPU {status.cpu_s:.1f} s",
            f"memory {format_bytes(status.rss_bytes)}",
            f"output {format_bytes(shown_bytes)}",
        )
        bar = ""
        if math.isfinite(self._timeout_s):
            bar = f'<progress value="{min(elapsed_s, self._timeout_s):.2f}" max="{self._timeout_s:g}"></progress> '
        unbroken = " · ".join(escape(fact).replace(" ", "&nbsp;") for fact in facts)
        self._show(" · ".join((phase, *facts)), f"{bar}<b>{escape(phase)}</b> · {unbroken}")

    def finish(self, last_word: str, ok: bool) -> bool:
        """Replace the status by the summary. Returns whether there was a status."""
        if self._handle is not None:
            self._show(last_word, verdict(last_word, ok))
        return self._handle is not None

    def _show(self, text: str, html: str) -> None:
        bundle = {"text/plain": text, "text/html": f'<div class="pgtimeout-status">{style(__file__)}{html}</div>'}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)


def _phase(status: Status, grace_s: float) -> str:
    if status.signal == "SIGKILL":
        return "SIGKILL sent"
    if status.signal:
        return f"{status.signal} sent, grace {grace_s - status.next_signal_s:.1f} of {grace_s:g} s"
    if status.returncode is None:
        return "running"
    names = ", ".join(map(visible, status.names[:_NAMES])) + ("…" if len(status.names) > _NAMES else "")
    return f"the shell has ended ({describe_exit(status.returncode)}), waiting for {names}"
