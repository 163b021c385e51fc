"""What the values of options mean: durations, sizes, signals, names. Text in, quantities out.

A value that can't be used raises InputError with one line that says what was wrong and shows a right example.
"""

from __future__ import annotations

import keyword
import math
import re
import signal as signals
from collections.abc import Callable

_INFINITE = ("inf", "infinity")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(ms|[smhd]?)", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)([kmgt]?)(i?b|)", re.IGNORECASE | re.ASCII)
_LONGEST_S = 365 * 86400.0
LEFTOVERS = ("wait", "kill", "leave")


class InputError(ValueError):
    """Something that can't be run, in one line: what was wrong, and a right example. Nothing was started."""


def parse_timeout(value: str | float) -> float:
    """Seconds. GNU timeout's durations, and ``ms`` and ``inf``; more than a year is taken for a mistake."""
    return _limit(value, "TIMEOUT", "30, 1.5, 500ms, 2m, 1h or inf")


def parse_idle(value: str | float) -> float:
    """Seconds; ``inf`` for never."""
    return _limit(value, "--idle", "30s, 5m or inf")


def parse_grace(value: str | float) -> float:
    """Seconds, zero included. Not ``inf``: the grace is what bounds how long a command can outlive its deadline."""
    return _seconds(str(value).strip(), "--kill-after", "2s, 500ms or 0")


def _limit(value: str | float, what: str, examples: str) -> float:
    text = str(value).strip()
    if text.lower() in _INFINITE:
        return math.inf
    seconds = _seconds(text, what, examples)
    if seconds == 0:
        raise InputError(f"{what} must be more than zero, not {text!r}; write for example {examples}")
    return seconds


def _seconds(text: str, what: str, examples: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InputError(f"{what} can't be {text!r}; write for example {examples}")
    seconds = float(match[1]) * _UNIT_S[match[2].lower()]
    if seconds > _LONGEST_S:
        raise InputError(f"{what} {text!r} is longer than a year; write for example {examples}")
    return seconds


def parse_size(value: str | float) -> float:
    """Bytes. ``500k``, ``1MB``, ``2MiB``: as in head(1), KB is 1000 bytes, K and KiB are 1024; ``inf`` for no limit."""
    text = str(value).strip()
    if text.lower() in _INFINITE:
        return math.inf
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"--max-output can't be {text!r}; write for example 500k, 1MB, 2MiB or inf")
    base = 1000 if match[3].lower() == "b" else 1024
    return int(float(match[1]) * base ** " kmgt".index(match[2].lower() or " "))


def parse_signal(value: str | int) -> signals.Signals:
    """``TERM``, ``SIGTERM``, ``term`` or ``15``."""
    try:
        if isinstance(value, int) or value.strip().isdecimal():
            return signals.Signals(int(value))
        text = value.strip().upper()
        return signals.Signals["SIG" + text.removeprefix("SIG")]
    except (KeyError, ValueError):
        raise InputError(f"--signal: there is no signal {str(value)!r}; write for example TERM, INT or 9") from None


def parse_leftovers(value: str) -> str:
    if value not in LEFTOVERS:
        raise InputError(f"--leftovers can't be {value!r}; write wait, kill or leave")
    return value


def parse_shell(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise InputError(f"--shell can't be {value!r}; write for example bash or /bin/zsh")
    return value


def parse_path(value: str) -> str:
    if not value:
        raise InputError("--log needs the path of a file; write for example --log make.log")
    return value


def name_parser(flag: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not value.isidentifier() or keyword.iskeyword(value):
            raise InputError(f"{flag} can't be {value!r}; write the name of a Python variable, for example {flag} x")
        return value

    return parse


def encode_stdin(value: object) -> bytes:
    """Text is encoded as UTF-8. Anything that is not text or bytes would be a guess."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    kind = type(value).__name__
    raise InputError(f"--stdin: a value of type {kind} can't be fed to a command; make it a str or bytes")


def parse_environment(value: str) -> tuple[str, str | None]:
    """``NAME=VALUE`` apart; None for the value of a bare NAME, which names a Python variable."""
    name, equals, text = value.partition("=")
    if not name or "\0" in value:
        raise InputError(f"--env can't be {value!r}; write --env NAME or --env NAME=VALUE")
    return name, text if equals else None
