"""Buttons below a job, where ipywidgets is installed.

A click is a message to the kernel. It is handled at once while no cell runs, and otherwise after the cell that runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from ..caller.job import Job


def are_available() -> bool:
    """Whether ipywidgets is installed. It is not imported for this: that takes some tenths of a second."""
    return importlib.util.find_spec("ipywidgets") is not None


class Buttons:
    """Stop, Kill and +5 min for one job."""

    def __init__(self, job: Job) -> None:
        import ipywidgets

        self._buttons = []
        for text, tooltip, act in (
            ("Stop", "Interrupt it, as the stop button does for a cell", job.interrupt),
            ("Kill", "SIGKILL to all of it", job.kill),
            ("+5 min", "Move its deadline", lambda: job.extend("5m")),
        ):
            button = ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})
            button.on_click(_ignoring_argument(act))
            self._buttons.append(button)
        self._box: Any = ipywidgets.HBox(self._buttons)

    def bundle(self) -> dict[str, Any]:
        """For a display."""
        bundle: dict[str, Any] = self._box._repr_mimebundle_()
        return bundle

    def close(self) -> None:
        """The job is over. From now on a click would do nothing."""
        for widget in (self._box, *self._buttons):
            widget.close()


def _ignoring_argument(act: Callable[[], object]) -> Callable[[object], None]:
    def on_click(_button: object) -> None:
        act()

    return on_click
