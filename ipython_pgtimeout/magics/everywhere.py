"""``%timeout_shell 10m``: from then on a deadline for every shell command of IPython's own forms.

Only what runs a command is replaced: two methods of the shell, and the one that all script magics call. The originals
are put back as they were.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import os
import types
from collections.abc import Callable, Mapping
from typing import Any

from ..caller.output import Pace
from ..caller.plumbing import Log
from ..spec import EVERYWHERE
from . import line as lines
from .frontend import CELL_MAGIC
from .guarded import Guarded
from .scripts import Scripts

_ABSENT = object()
_FORMS = {"system": "!command", "getoutput": "x = !command"}


class Everywhere:
    """Turns it on and off in one shell."""

    def __init__(self, ip: Any, defaults: Any, pace: Pace) -> None:
        """``defaults`` are the `PgTimeout` of this shell, whose ``everywhere`` is followed. Raises InputError if that
        can't be done."""
        self._ip = ip
        self._defaults = defaults
        self._pace = pace
        self._line = ""
        """What is in force; "" for nothing."""
        self._left_alone = ""
        self._originals: list[tuple[dict[str, Any], str, Any]] = []
        _read(defaults.everywhere)

    def follow(self) -> None:
        """Do from now on what is configured."""
        self._defaults.observe(self._follow_change, "everywhere")
        self._set(self._defaults.everywhere)

    def _follow_change(self, change: Any) -> None:
        if change.new != self._line:  # otherwise it comes from `command`
            self._set(change.new)

    def command(self, line: str) -> None:
        """What the magic does. Raises InputError, with nothing changed, and HelpWanted."""
        line = line.strip()
        if line:
            self._set("" if line == "off" else line)
            self._defaults.everywhere = self._line
        if self._line and (self._left_alone or not line):
            print(f"in force: %{CELL_MAGIC} {self._line}{self._left_alone}")
        elif not line:
            print(f"%{CELL_MAGIC} is off; write for example %{CELL_MAGIC} 10m")

    def _set(self, line: str) -> None:
        options = _read(line)
        self.turn_off()
        if line:
            configured = self._defaults.parsed()
            fields = [option.name for option in EVERYWHERE if option.name in configured]
            self._turn_on({name: configured[name] for name in fields} | options)
            self._line = line

    def _turn_on(self, options: Mapping[str, Any]) -> None:
        magics = self._ip.magics_manager.registry["ScriptMagics"]  # first: it can be missing
        guarded = Guarded(self._ip, options, self._pace)
        left_alone = []
        for name, functions in guarded.functions.items():
            method = _rebound(getattr(self._ip, name), functions)
            if method is None:
                left_alone.append(_FORMS[name])
            else:
                self._replace(vars(self._ip), name, method)
        if left_alone:
            self._left_alone = f"; {', '.join(left_alone)} has the terminal to itself here, and no deadline"
        scripts = Scripts(self._ip, magics, guarded)

        @functools.wraps(magics.shebang)
        def shebang(line: str, cell: str) -> None:
            scripts.shebang(line, cell)

        self._replace(self._ip.magics_manager.magics["cell"], "script", shebang)
        self._replace(vars(magics), "shebang", shebang)

    def turn_off(self) -> None:
        """Put the originals back."""
        while self._originals:
            namespace, name, original = self._originals.pop()
            if original is _ABSENT:
                namespace.pop(name, None)
            else:
                namespace[name] = original
        self._line = self._left_alone = ""

    def _replace(self, namespace: dict[str, Any], name: str, value: object) -> None:
        self._originals.append((namespace, name, namespace.get(name, _ABSENT)))
        namespace[name] = value


def _read(line: str) -> dict[str, Any]:
    options = lines.read_everywhere(line) if line else {}
    if "log" in options:
        with contextlib.ExitStack() as closing:
            Log(options["log"], True, closing)  # raises InputError if no command could write there
        options["log"] = os.path.abspath(os.path.expanduser(options["log"]))  # %cd is not to move it
    return options


def _rebound(method: Any, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The method, with these functions in place of those that it calls by these names. All else stays as this version
    of IPython has it: what it refuses, whose variables it expands, what it sets and raises. None if it calls no
    function of these names: in a terminal, ``!`` is run in another way."""
    function = getattr(method, "__func__", None)
    if function is None:
        return None
    called = {each.argval for each in dis.get_instructions(function) if each.opname == "LOAD_GLOBAL"}
    if not called & functions.keys():
        return None
    names = {**function.__globals__, **functions}
    rebound = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    return types.MethodType(functools.update_wrapper(rebound, function), method.__self__)
