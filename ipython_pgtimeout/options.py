"""The options: declared once, here. The parser, the help text, the completions, the configuration traits and
the keywords of `run` all come from `OPTIONS`.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import values
from .values import InputError


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
    values.parse_timeout,
    "",
)

OPTIONS = (
    Option("signal", ("-s", "--signal"), "the first signal at the deadline", "SIG", values.parse_signal, "TERM"),
    Option(
        "kill_after",
        ("-k", "--kill-after"),
        "the grace between the first signal and SIGKILL; 0 kills at once",
        "DUR",
        values.parse_grace,
        "2s",
    ),
    Option(
        "leftovers",
        ("--leftovers",),
        "what becomes of processes that are still there when the shell has exited: wait for them until the "
        "deadline, kill them, or leave them running",
        "wait|kill|leave",
        values.parse_leftovers,
        "wait",
        values.LEFTOVERS,
    ),
    Option(
        "shell",
        ("--shell",),
        "the program that runs the script, by -c SCRIPT; bash, or sh where there is no bash",
        "PROGRAM",
        values.parse_shell,
        "bash",
    ),
    Option("strict", ("--strict",), "stop at the first error, as set -euo pipefail does", default=False),
    Option("cwd", ("--cwd",), "the directory to run in; the kernel's own if not given", "DIR"),
    Option(
        "env",
        ("-e", "--env"),
        "an environment variable; without a value, the Python variable of that name. Can be repeated",
        "NAME[=VALUE]",
        values.parse_environment,
        repeated=True,
    ),
    Option(
        "stdin",
        ("--stdin",),
        "what the command can read: the Python variable of this name, a str or bytes. Without it stdin is empty",
        "NAME",
        values.name_parser("--stdin"),
    ),
    Option(
        "pty",
        ("--pty",),
        "give it a terminal: colours, progress bars, line buffering; stderr merges into stdout",
        default=False,
    ),
    Option("idle", ("--idle",), "end the command after so long without output", "DUR", values.parse_idle, "inf"),
    Option(
        "max_output",
        ("--max-output",),
        "how much of each stream is shown and kept: the first half as it comes, the last half at the end, and "
        "between them a count of what was left out",
        "SIZE",
        values.parse_size,
        "1MB",
    ),
    Option("log", ("--log",), "write every byte into this file as well, as it comes", "FILE", values.parse_path),
    Option(
        "out", ("--out",), "stdout, whole, into this variable instead of the cell", "NAME", values.name_parser("--out")
    ),
    Option(
        "err", ("--err",), "stderr, whole, into this variable instead of the cell", "NAME", values.name_parser("--err")
    ),
    Option(
        "progress",
        ("--progress", "--no-progress"),
        "show a live status line when the command takes longer than a second",
        default=True,
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
        values.name_parser("--result"),
    ),
)

_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_QUOTING = re.compile(r"[\\'\"]")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")


def split(line: str, verbatim: bool) -> tuple[dict[str, Any], str | None, str]:
    """``[options] TIMEOUT [REST]`` apart: parsed options by name, the timeout's text, and the rest.

    With ``verbatim`` the line ends our reading at TIMEOUT, and the rest is a command, returned as it was
    typed. Without, options may follow TIMEOUT, and a rest is what does not belong there.
    """
    given: dict[str, Any] = {}
    timeout: str | None = None
    position = 0
    while (position := _skip_blanks(line, position)) < len(line):
        if timeout is not None and (verbatim or line[position] != "-"):
            return given, timeout, line[position:]
        word, position = _word(line, position)
        if not word.startswith("-") or word[1:2].isdigit() or word[1:2] == ".":
            timeout = word
            continue
        flag, equals, text = word.partition("=")
        option = _option(flag)
        if option.metavar is None:
            if equals:
                raise InputError(f"{flag} takes no value; write {flag} alone")
            given[option.name] = option.name.startswith("no_") or not flag.startswith("--no-")
            continue
        if not equals:
            position = _skip_blanks(line, position)
            if position == len(line):
                raise InputError(f"{flag} needs a value; write {flag} {option.metavar}")
            text, position = _word(line, position)
        value = option.parse(text)
        if option.repeated:
            given.setdefault(option.name, []).append(value)
        else:
            given[option.name] = value
    return given, timeout, ""


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
    if match is None or not (line[match.end() :] or " ")[0].isspace():
        raise InputError(f"a quote is not closed in {line[position:]!r}; close it, for example 'a b'")
    word = match[0]
    return "".join(shlex.split(word)) if _QUOTING.search(word) else word, match.end()


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
