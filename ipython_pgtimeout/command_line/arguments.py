"""What stands behind ``pgtimeout``: options, a duration, and a command with its arguments.

`argparse` would take longer to import than everything else until the command runs, and so would `spec`. So the options
are spelled here a second time, a test compares them with their declaration, and their values are parsed by it only
where they are more than a plain number.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SWITCHES = {
    "-f": "foreground",
    "--foreground": "foreground",
    "-p": "preserve_status",
    "--preserve-status": "preserve_status",
    "-v": "verbose",
    "--verbose": "verbose",
    "--help": "help",
    "--version": "version",
}
_VALUED = {
    "-s": "signal",
    "--signal": "signal",
    "-k": "kill_after",
    "--kill-after": "kill_after",
    "--leftovers": "leftovers",
    "--idle": "idle",
    "--memory": "memory",
    "--cpu": "cpu",
    "--processes": "processes",
    "--log": "log",
}
_LONG = [flag for flag in [*_SWITCHES, *_VALUED] if flag.startswith("--")]
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NEVER = float("inf")
_SHORTEST_S = 1e-9
_TERM = 15


class UsageError(Exception):
    """One line that says what was wrong, with a right example. Nothing was started."""


class Arguments:
    """The options and their defaults. Durations in seconds, ``memory`` in bytes; infinite where there is no limit."""

    def __init__(self) -> None:
        self.foreground = False
        self.preserve_status = False
        self.verbose = False
        self.help = False
        self.version = False
        self.signal = _TERM
        self.kill_after = 2.0
        self.leftovers = "wait"
        self.idle = _NEVER
        self.memory = _NEVER
        self.cpu = _NEVER
        self.processes = _NEVER
        self.log: str | None = None
        self.timeout = _NEVER
        self.command: list[str] = []

    @property
    def reads_output(self) -> bool:
        """Whether the command's output has to go through this program."""
        return self.idle < _NEVER or self.log is not None


def parse(words: list[str]) -> Arguments:
    """Options end at the first word that is none, as in GNU timeout, or at ``--``. A long one may be cut short, as long
    as it is clear. Raises UsageError."""
    arguments = Arguments()
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            _set(arguments, _whole(flag), value if equals else None, rest)
        else:
            _set_short(arguments, word[1:], rest)
    if arguments.help or arguments.version:
        return arguments
    if len(rest) < 2:
        raise UsageError(f"{'a command is' if rest else 'a duration and a command are'} missing")
    if arguments.leftovers == "leave" and arguments.reads_output:
        raise UsageError("with --idle or --log, processes can't be left running: nobody would read what they write")
    arguments.timeout = _parsed("timeout", "the duration", rest.pop(0))
    arguments.command = rest
    return arguments


def _whole(flag: str) -> str:
    matching = [flag] if flag in _LONG else [long for long in _LONG if long.startswith(flag)]
    if len(matching) != 1:
        raise UsageError(f"there is no option {flag}" if not matching else f"{flag} can be {' or '.join(matching)}")
    return matching[0]


def _set_short(arguments: Arguments, letters: str, rest: list[str]) -> None:
    """``-pk5`` is ``-p -k 5``."""
    while letters:
        flag, letters = f"-{letters[0]}", letters[1:]
        if flag in _VALUED:
            _set(arguments, flag, letters or None, rest)
            return
        _set(arguments, flag, None, rest)


def _set(arguments: Arguments, flag: str, value: str | None, rest: list[str]) -> None:
    if flag in _SWITCHES:
        if value is not None:
            raise UsageError(f"{flag} takes no value")
        setattr(arguments, _SWITCHES[flag], True)
    elif flag in _VALUED:
        if value is None:
            if not rest:
                raise UsageError(f"{flag} needs a value")
            value = rest.pop(0)
        setattr(arguments, _VALUED[flag], _parsed(_VALUED[flag], flag, value))
    else:
        raise UsageError(f"there is no option {flag}")


def _parsed(name: str, shown: str, text: str) -> Any:
    if name in ("timeout", "kill_after"):
        seconds = _plain_seconds(text)
        if seconds is not None:
            return seconds
    if name == "signal" and text == "0":
        return 0  # for GNU timeout, a signal that only asks whether the command is there
    from ..spec import SPEC_FIELDS  # here and not above: see the top of this file
    from ..values import InputError

    try:
        if name in ("timeout", "kill_after") and text != text.lower():
            raise InputError(f" can't be {text!r}: units are lower case", "30", "1.5", "2m", "5m30s", "1h", "1d")
        return SPEC_FIELDS[name].parsed(text)
    except InputError as error:
        raise UsageError(error.spelled(shown)) from None


def _plain_seconds(text: str) -> float | None:
    """GNU timeout's durations: a floating point number and a unit, in any size, and 0 for no limit. None for what is
    not one of these."""
    unit_s = _UNIT_S.get(text[-1:], 0.0)
    number = text[:-1] if unit_s else text
    if not number or number[0] not in "0123456789." or set(number) - set("0123456789.eE+-"):
        return None
    try:
        seconds = float(number) * (unit_s or 1.0)
    except ValueError:
        return None
    if seconds:
        return seconds
    has_digits = set(number.lower().partition("e")[0]) & set("123456789")
    return _SHORTEST_S if has_digits else _NEVER
