"""What the values of options mean: durations, sizes, signals, paths. Parsers turn what a user writes into quantities.

A parser takes its own result as well, so that a value can be parsed twice. It does not know which option it parses: the
code that calls it adds the option's name to the `InputError`.
"""

from __future__ import annotations

import itertools
import keyword
import math
import os
import re
from collections.abc import Mapping, Sequence

from .shared.signals import signal_number
from .wording import render_error

_INFINITE = ("inf", "infinity")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(ms|[smhd]?)", re.ASCII)
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)([kmgt]?)(i?b|)", re.IGNORECASE | re.ASCII)
_LONGEST_S = 365 * 86400.0
_LARGEST_BYTES = 1 << 50
LEFTOVERS = ("wait", "kill", "leave")


class InputError(ValueError):
    """Something that can't be run, in one line: what was wrong, and a right example. Nothing was started.

    ``field`` is the option it is about, "" for none. As text it names the option as Python spells it.
    """

    def __init__(self, problem: str, *examples: str, field: str = "") -> None:
        """``problem`` follows the option's name: `` can't be 0``, or ``: there is no program 'x'``."""
        super().__init__(problem, *examples)
        self.field = field
        self._problem = problem
        self._examples = examples

    def __str__(self) -> str:
        return self._compose(self.field, [f"{self.field}={example!r}" for example in self._examples])

    def spelled(self, name: str) -> str:
        """The message with ``name`` as the option's name, and with example values without quotes."""
        return self._compose(name, self._examples)

    def _compose(self, name: str, examples: Sequence[str]) -> str:
        *others, last = examples or [""]
        shown = f"{', '.join(others)} or {last}" if others else last
        return f"{name}{self._problem}" + (f"; write for example {shown}" if shown else "")

    def _render_traceback_(self) -> list[str]:
        return render_error(type(self).__name__, str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__


def parse_command(value: object) -> str | tuple[str, ...]:
    """A script, or a program and its arguments, which no shell sees."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise InputError(f" can't be of type {type(value).__name__}; write a str, for example run('make test', 30)")
    for argument in value:
        if not isinstance(argument, (str, bytes, os.PathLike)):
            raise InputError(
                f" can't have {argument!r} as an argument; write a str, for example run(['nice', '5'], 30)"
            )
    return tuple(map(os.fsdecode, value))


def parse_timeout(value: object) -> float:
    """Seconds. GNU timeout's durations, and ``ms``, ``5m30s`` and ``inf``; more than a year is taken for a mistake."""
    return _parse_limit(value, "30", "1.5", "500ms", "2m", "5m30s", "1h", "inf")


def parse_idle(value: object) -> float:
    """Seconds; ``inf`` for never."""
    return _parse_limit(value, "30s", "5m", "inf")


def parse_wait(value: object) -> float:
    """Seconds that may be waited, zero or less not to wait; None or ``inf`` for as long as it takes."""
    if value is None or str(value).strip().lower() in _INFINITE:
        return math.inf
    return _parse_seconds(max(value, 0) if isinstance(value, (int, float)) else value, "30", "5m", "0")


def parse_grace(value: object) -> float:
    """Seconds, zero included. Not ``inf``: the grace is what bounds how long a command can outlive its deadline."""
    return _parse_seconds(value, "2s", "500ms", "0")


def _parse_limit(value: object, *examples: str) -> float:
    if str(value).strip().lower() in _INFINITE:
        return math.inf
    seconds = _parse_seconds(value, *examples)
    if seconds == 0:
        raise InputError(f" must be more than zero, not {value!r}", *examples)
    return seconds


def _parse_seconds(value: object, *examples: str) -> float:
    text = str(value).strip().lower()
    parts: list[tuple[str, str]] = _DURATION.findall(text)
    units = [_UNIT_S[unit] for _, unit in parts]
    # Each unit once, from large to small. A number without a unit stands alone: 1h30 can mean minutes.
    is_ordered = all(larger > smaller for larger, smaller in itertools.pairwise(units))
    is_whole = "".join(itertools.chain(*parts)) == text
    if not (parts and is_ordered and is_whole) or (len(parts) > 1 and not parts[-1][1]):
        raise InputError(f" can't be {value!r}", *examples)
    seconds = sum(float(number) * unit for (number, _), unit in zip(parts, units, strict=True))
    if seconds > _LONGEST_S:
        raise InputError(f" {value!r} is longer than a year", *examples)
    return seconds


def parse_size(value: object) -> float:
    """Bytes. ``500k``, ``1MB``, ``2MiB``: as in head(1), KB is 1000 bytes, K and KiB are 1024; ``inf`` for no limit."""
    text = str(value).strip()
    if text.lower() in _INFINITE:
        return math.inf
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f" can't be {value!r}", "500k", "1MB", "2MiB", "inf")
    base = 1000 if match[3].lower() == "b" else 1024
    size = float(match[1]) * base ** " kmgt".index(match[2].lower() or " ")
    if size > _LARGEST_BYTES:
        raise InputError(f" {value!r} is more than any memory holds", "500k", "1MB", "inf")
    return int(size)


def parse_memory(value: object) -> float:
    """Bytes, more than zero; ``inf`` for no limit."""
    size = parse_size(value)
    if size == 0:
        raise InputError(f" must be more than zero, not {value!r}", "500MB", "2GB", "inf")
    return size


def parse_cpu(value: object) -> float:
    """Seconds of processor time; ``inf`` for no limit."""
    return _parse_limit(value, "30s", "10m", "inf")


def parse_processes(value: object) -> float:
    """How many, at least one; ``inf`` for no limit."""
    text = str(value).strip().lower()
    if text in _INFINITE:
        return math.inf
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f" can't be {value!r}", "50", "200", "inf")
    return int(text)


def parse_oom_score_adj(value: object) -> int:
    """0 to 1000: proc(5), oom_score_adj. Less than 0 would need privileges."""
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and int(text) <= 1000):
        raise InputError(f" can't be {value!r}; it is a number from 0 to 1000", "1000", "0")
    return int(text)


def parse_signal(value: object) -> int:
    """``TERM``, ``SIGTERM``, ``term``, ``15`` or ``RTMIN+1``."""
    try:
        return signal_number(str(int(value) if isinstance(value, int) else value))
    except ValueError:
        raise InputError(f": there is no signal {value!r}", "TERM", "INT", "9") from None


def parse_leftovers(value: object) -> str:
    for choice in LEFTOVERS:
        if value == choice:
            return choice
    raise InputError(f" can't be {value!r}; write wait, kill or leave")


def parse_flag(value: object) -> bool:
    return bool(value)


def parse_shell(value: object) -> str:
    examples = "bash", "sh", "/bin/zsh"
    shell = _parse_path(value, *examples)
    if not shell.strip() or "\0" in shell:
        raise InputError(f" can't be {value!r}", *examples)
    return shell


def parse_directory(value: object) -> str | None:
    return None if value is None else _parse_path(value, "/tmp")


def parse_log(value: object) -> str | None:
    if value is None:
        return None
    path = _parse_path(value, "make.log")
    if not path:
        raise InputError(" needs the path of a file", "make.log")
    return path


def _parse_path(value: object, *examples: str) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise InputError(f" can't be {value!r}", *examples)
    return os.fsdecode(value)


def parse_environment(value: object) -> dict[bytes, bytes]:
    """Names and values of variables, as the operating system takes them: str, bytes or paths, as `subprocess` does."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f" can't be of type {type(value).__name__}; write a dict, for example env={{'MODE': 'ci'}}")
    return {_variable_name(name): _variable_value(name, text) for name, text in value.items()}


def _variable_name(name: object) -> bytes:
    encoded = _encoded(name, "")
    if not encoded or b"=" in encoded or b"\0" in encoded:
        raise InputError(f": {name!r} can't name an environment variable; write a name without '=' and NUL")
    return encoded


def _variable_value(name: object, value: object) -> bytes:
    encoded = _encoded(value, f" {os.fsdecode(name) if isinstance(name, bytes) else name}")
    if b"\0" in encoded:
        raise InputError(f" {name}: a value can't hold a NUL byte; take it out")
    return encoded


def _encoded(value: object, where: str) -> bytes:
    if not isinstance(value, (str, bytes, os.PathLike)):
        kind = type(value).__name__
        raise InputError(f"{where}: a {kind} can't be an environment variable; make it a str, for example '1'")
    try:
        return os.fsencode(value)
    except UnicodeEncodeError as error:
        character = ascii(error.object[error.start])
        raise InputError(f"{where}: {character} can't be encoded; write it as bytes, for example b'\\xff'") from None


def parse_stdin(value: object) -> bytes | None:
    """Text is encoded as UTF-8. Other types are refused, because their encoding would be a guess."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            character = ascii(value[error.start])
            raise InputError(f": the text has {character}, which can't be encoded; hand over bytes") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    kind = type(value).__name__
    raise InputError(f": a value of type {kind} can't be fed to a command; make it a str or bytes")


def parse_engines(value: object) -> str | None:
    """Which engines there are is known only when the command runs."""
    return None if value is None else str(value)


def parse_variable(value: object) -> str | None:
    """The name of a variable that is to be set, if there is one."""
    return None if value is None else parse_name(str(value))


# -- texts that name a value in a magic's line ------------------------------------------------------------------


def parse_name(text: str) -> str:
    """The name of a Python variable."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise InputError(f" can't be {text!r}; write the name of a Python variable, for example x")
    return text


def parse_assignment(text: str) -> tuple[str, str | None]:
    """Split ``NAME=VALUE``. The value is None for a bare NAME, which names a Python variable."""
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise InputError(f" can't be {text!r}; write NAME or NAME=VALUE")
    return name, value if equals else None
