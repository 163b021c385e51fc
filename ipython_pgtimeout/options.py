"""The options: declared once, here. The parser, the help text, the completions, the configuration traits and
the keywords of `run` all come from `OPTIONS`.

A value that can't be used raises InputError with one line that says what was wrong and shows a right example.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
import signal as signals
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(ms|[smhd]?)", re.IGNORECASE)
_LONGEST_S = 365 * 86400.0
LEFTOVERS = ("wait", "kill", "leave")


class InputError(ValueError):
    """Something that can't be run, in one line: what was wrong, and a right example. Nothing was started."""


def parse_timeout(value: str | float) -> float:
    """Seconds. GNU timeout's durations, and ``ms`` and ``inf``; more than a year is taken for a mistake."""
    text = str(value).strip()
    if text.lower() in ("inf", "infinity"):
        return math.inf
    seconds = _seconds(text, "TIMEOUT", "30, 1.5, 500ms, 2m, 1h or inf")
    if seconds == 0:
        raise InputError(f"TIMEOUT must be more than zero, not {text!r}; write for example 30, 500ms, 2m or inf")
    return seconds


def parse_grace(value: str | float) -> float:
    """Seconds, zero included. Not ``inf``: the grace is what bounds how long a command can outlive its deadline."""
    return _seconds(str(value).strip(), "--kill-after", "2s, 500ms or 0")


def _seconds(text: str, what: str, examples: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InputError(f"{what} can't be {text!r}; write for example {examples}")
    seconds = float(match[1]) * _UNIT_S[match[2].lower()]
    if seconds > _LONGEST_S:
        raise InputError(f"{what} {text!r} is longer than a year; write for example {examples}")
    return seconds


def parse_signal(value: str | int) -> signals.Signals:
    """``TERM``, ``SIGTERM``, ``term`` or ``15``."""
    text = str(value).strip().upper()
    try:
        if text.isdecimal():
            return signals.Signals(int(text))
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


def parse_directory(value: str) -> str:
    return value


def parse_result_name(value: str) -> str:
    if not value.isidentifier():
        raise InputError(f"--result can't be {value!r}; write the name of a Python variable, for example --result r")
    return value


def parse_environment(value: str) -> tuple[str, str | None]:
    """``NAME=VALUE`` apart; None for the value of a bare NAME, which names a Python variable."""
    name, equals, text = value.partition("=")
    if not name or "\0" in value:
        raise InputError(f"--env can't be {value!r}; write --env NAME or --env NAME=VALUE")
    return name, text if equals else None


@dataclass(frozen=True)
class Option:
    """One option: ``metavar`` is None for a switch; one with a ``default`` can be configured."""

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] = str
    default: str | bool | None = None
    choices: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def configurable(self) -> bool:
        return self.default is not None


TIMEOUT = Option(
    "timeout",
    (),
    "how long the command may take: 30, 1.5, 30s, 500ms, 2m, 1h, 1d or inf",
    "TIMEOUT",
    parse_timeout,
    "",
)

OPTIONS = (
    Option("signal", ("-s", "--signal"), "the first signal at the deadline", "SIG", parse_signal, "TERM"),
    Option(
        "kill_after",
        ("-k", "--kill-after"),
        "the grace between the first signal and SIGKILL; 0 kills at once",
        "DUR",
        parse_grace,
        "2s",
    ),
    Option(
        "leftovers",
        ("--leftovers",),
        "what becomes of processes that are still there when the shell has exited: wait for them until the "
        "deadline, kill them, or leave them running",
        "wait|kill|leave",
        parse_leftovers,
        "wait",
        LEFTOVERS,
    ),
    Option(
        "shell",
        ("--shell",),
        "the program that runs the script, by -c SCRIPT; bash, or sh where there is no bash",
        "PROGRAM",
        parse_shell,
        "bash",
    ),
    Option("strict", ("--strict",), "stop at the first error, as set -euo pipefail does", default=False),
    Option("cwd", ("--cwd",), "the directory to run in; the kernel's own if not given", "DIR", parse_directory),
    Option(
        "env",
        ("-e", "--env"),
        "an environment variable; without a value, the Python variable of that name. Can be repeated",
        "NAME[=VALUE]",
        parse_environment,
        repeated=True,
    ),
    Option(
        "no_raise",
        ("--no-raise", "--no-raise-error"),
        "a timeout or a non-zero exit code raises no exception",
        default=False,
    ),
    Option(
        "result",
        ("--result",),
        "put the Result into this variable, on failure too",
        "NAME",
        parse_result_name,
    ),
)

_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")


def split(line: str, verbatim: bool) -> tuple[dict[str, Any], str | None, str]:
    """``[options] TIMEOUT [REST]`` apart: parsed options by name, the timeout's text, and the rest.

    With ``verbatim`` the line ends our reading at TIMEOUT, and the rest is a command, returned as it was
    typed. Without, options may follow TIMEOUT, and a rest is what does not belong there.
    """
    values: dict[str, Any] = {}
    timeout: str | None = None
    position = 0
    while (position := _skip_blanks(line, position)) < len(line):
        if timeout is not None and (verbatim or line[position] != "-"):
            return values, timeout, line[position:]
        word, position = _word(line, position)
        if not word.startswith("-") or word[1:2].isdigit() or word[1:2] == ".":
            timeout = word
            continue
        flag, equals, text = word.partition("=")
        option = _option(flag)
        if option.metavar is None:
            if equals:
                raise InputError(f"{flag} takes no value; write {flag} alone")
            values[option.name] = True
            continue
        if not equals:
            position = _skip_blanks(line, position)
            if position == len(line):
                raise InputError(f"{flag} needs a value; write {flag} {option.metavar}")
            text, position = _word(line, position)
        value = option.parse(text)
        if option.repeated:
            values.setdefault(option.name, []).append(value)
        else:
            values[option.name] = value
    return values, timeout, ""


def _option(flag: str) -> Option:
    if flag not in _BY_FLAG:
        close = difflib.get_close_matches(flag, _BY_FLAG, 1)
        advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(_BY_FLAG)}"
        raise InputError(f"unknown option {flag}; {advice}")
    return _BY_FLAG[flag]


def _skip_blanks(line: str, position: int) -> int:
    return len(line) - len(line[position:].lstrip())


def _word(line: str, position: int) -> tuple[str, int]:
    match = _WORD.match(line, position)
    if match is None:
        raise InputError(f"a quote is not closed in {line[position:]!r}; close it, for example 'a b'")
    return "".join(shlex.split(match[0])), match.end()


def complete(line: str) -> list[str]:
    """What may stand at the end of ``line``, which is all that is typed so far after the magic's name."""
    words = line.split()
    before = words[-1] if words and line[-1:].isspace() else words[-2] if len(words) > 1 else ""
    option = _BY_FLAG.get(before)
    if option is not None and option.metavar is not None:
        return list(option.choices)
    return list(_BY_FLAG)


def reference(usage: str, summary: str, defaults: Mapping[str, object]) -> str:
    """The help text of a magic. ``defaults`` are what is configured now."""
    lines = [summary, "", f"    {usage}", "", "TIMEOUT", f"    {TIMEOUT.help}"]
    for option in OPTIONS:
        lines.append(", ".join(option.flags) + (f" {option.metavar}" if option.metavar else ""))
        default = f" (default {defaults[option.name]})" if defaults.get(option.name) else ""
        lines.append(f"    {option.help}{default}")
    return "\n".join(lines)
