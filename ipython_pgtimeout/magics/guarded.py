"""Command lines and scripts of IPython's own forms, run by our guards.

IPython reads ``!command`` and ``x = !command``, expands their variables, and makes a value of what comes back. What
it calls to run a command are functions of these names: see `Guarded.functions`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from IPython.utils._process_posix import system

from ..caller.blocking import run_to_end
from ..caller.output import Pace, Stream
from ..result import Result, make_interrupt
from ..spec import Spec, Wiring, make_spec
from .screen import Screen

_handler: Any = system.__self__  # type: ignore[attr-defined]
"""It finds the shell of ``!``."""
_BOTH: frozenset[Stream] = frozenset({"stdout", "stderr"})


class Guarded:
    """Runs commands for one shell, with the same options for each."""

    def __init__(self, ip: Any, options: Mapping[str, Any], pace: Pace) -> None:
        """``options`` are fields of a `Spec`. What each command shows has the ``pace`` if they limit it."""
        self._ip = ip
        self._options = options
        self._pace = pace if "max_output" in options and hasattr(ip, "kernel") else None

    @property
    def functions(self) -> dict[str, dict[str, Callable[[str], Any]]]:
        """By the method of a shell: what it calls, and what it is to call instead."""
        return {
            "system": {"system": self._system},
            "getoutput": {"getoutput": self._getoutput, "get_output_error_code": self._get_output_error_code},
        }

    def make_spec(self, command: str | list[str], wiring: Wiring = "pipes", **more: Any) -> Spec:
        asked = make_spec({**self._options, **more, "command": command})
        return dataclasses.replace(asked, wiring=wiring, appends_log=True)

    def run(self, spec: Spec, captured: frozenset[Stream]) -> Result:
        """Run it to the end. The streams that are ``captured`` are kept as a whole, and not shown."""
        screen = Screen(set(captured))
        shows_all = "max_output" not in self._options
        result = run_to_end(spec, screen.show, pace=self._pace, shows_all=shows_all, whole=captured)
        if result.reason == "exited" and (result.signals or result.survivors):
            screen.show("notice", result.summary())
        return result

    def _run_line(
        self, line: str, shell: str, wiring: Wiring, captured: frozenset[Stream], stdin: bytes | None
    ) -> Result:
        # An empty line is no mistake here, and does nothing.
        spec = self.make_spec(line if line.strip() else ":", wiring, shell=shell, stdin=stdin)
        return self.run(spec, captured)

    def _system(self, line: str) -> int:
        """As IPython.utils.process.system: on a terminal, and the output is printed."""
        result = self._run_line(line, _handler.sh, "plain terminal", frozenset(), None)
        code = result.returncode or 0
        if code > 128:  # the shell's word for a signal
            code = 128 - code
        self._ip.user_ns["_exit_code"] = code
        raise_unless_exited(result)
        return code

    def _getoutput(self, line: str) -> str:
        """As IPython.utils.process.getoutput."""
        result = self._run_line(line, _shell(), "one pipe", _BOTH, b"")
        raise_unless_exited(result)
        return result.stdout

    def _get_output_error_code(self, line: str) -> tuple[str, str, int | None]:
        """As IPython.utils.process.get_output_error_code."""
        result = self._run_line(line, _shell(), "pipes", _BOTH, b"")
        raise_unless_exited(result)
        return result.stdout, result.stderr, result.returncode


def _shell() -> str:
    """The one that IPython takes for what it captures."""
    return os.environ.get("SHELL", "/bin/sh")


def raise_unless_exited(result: Result) -> None:
    """Raise what is no exit of the command: an interrupt, a deadline, a limit, a program that can't be started."""
    if result.interrupted:
        raise make_interrupt(result)
    if result.reason == "failed-to-start":
        number = next((number for number in errno.errorcode if os.strerror(number) == result.error), 0)
        raise OSError(number, result.error, result.command)
    if result.reason != "exited":
        result.check_returncode()
