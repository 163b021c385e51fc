"""Functions that are called when something has changed."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable

from ..shared import debuglog


class Listeners:
    """Any thread can add and remove one: each step is a single one."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def add(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def remove(self, listener: Callable[[], None]) -> None:
        """Does nothing if it has been removed."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    def tell(self) -> None:
        """Call them all. One that fails is removed: it shows a job, its front end may be gone, and the job goes on."""
        for listener in list(self._listeners):
            try:
                listener()
            except Exception:
                debuglog.note("caller", f"a listener has failed: {traceback.format_exc()}")
                self.remove(listener)
