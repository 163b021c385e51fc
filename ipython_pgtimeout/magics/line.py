"""A magic's line: its options, its timeout, and what is left; completions and help. All from the declarations."""

from __future__ import annotations

import difflib
import glob
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ..options import Option
from ..spec import EVERYWHERE, FIELDS, OPTIONS, TIMEOUT
from ..values import InputError
from .frontend import CELL_MAGIC

_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_HELP = ("-h", "--help")
_NAMES = ("NAME", "NAME[=VALUE]")
_PATHS = {"DIR": "*/", "FILE": "*"}
_LAST_WORD = re.compile(r"\S*\Z")
_QUOTING = re.compile(r"[\\'\"]")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")


class HelpWanted(Exception):
    """``--help`` or ``-h`` stands where an option can stand."""


def flag_of(field: str) -> str:
    """How a user of a magic spells a field: ``--kill-after``, ``TIMEOUT``."""
    flags = FIELDS[field].flags if field in FIELDS else ()
    return next((flag for flag in flags if flag.startswith("--")), field.upper())


def split(line: str, verbatim: bool) -> tuple[dict[str, Any], str | None, str]:
    """Split ``[options] TIMEOUT [REST]`` into options by field, the timeout's text, and the rest.

    The values are texts that `make_spec` parses, or say where a value is. With ``verbatim``, options end at TIMEOUT,
    and the rest is a command, returned as it was typed. Otherwise options may follow TIMEOUT, and the rest is text that
    does not belong there. Raises InputError, and HelpWanted.
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
        value = option.parsed_text(text)
        if option.is_repeated:
            given.setdefault(option.name, []).append(value)
        else:
            given[option.name] = value
    return given, timeout, ""


def read_everywhere(line: str) -> dict[str, Any]:
    """The line of ``%timeout_shell`` as fields of a `Spec`, parsed. Raises InputError, and HelpWanted."""
    given, timeout, rest = split(line, verbatim=False)
    if rest:
        raise InputError(f"unexpected {rest!r}; write for example %{CELL_MAGIC} 10m, or %{CELL_MAGIC} off")
    if timeout is None:
        raise InputError(f"TIMEOUT is missing; write for example %{CELL_MAGIC} 10m, or %{CELL_MAGIC} off")
    if others := given.keys() - {option.name for option in EVERYWHERE}:
        flag = flag_of(min(others))
        raise InputError(f"{flag} is for one command; write it after %%{CELL_MAGIC}, in the cell of this command")
    given["timeout"] = timeout
    return {name: FIELDS[name].parsed(value) for name, value in given.items()}


def _option(flag: str) -> Option:
    if flag in _HELP:
        raise HelpWanted
    if flag not in _BY_FLAG:
        close = difflib.get_close_matches(flag, [*_BY_FLAG, *_HELP], 1)
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


def complete(
    line: str, verbatim: bool, variables: Iterable[str], options: Iterable[Option] = OPTIONS
) -> tuple[str, list[str]]:
    """What may stand at the end of ``line``, which is all that is typed so far after the name of a magic that has these
    ``options``.

    Returns the part of a word that is to be replaced, and options, or values of the option before it. There are none
    within quotes and in the command of a ``verbatim`` line.
    """
    word = _LAST_WORD.findall(line)[0]
    before, position = line[: len(line) - len(word)], 0
    option: Option | None = None  # the one that waits for its value
    while (position := _skip_blanks(before, position)) < len(before):
        try:
            earlier, position = _word(before, position)
        except InputError:
            return word, []
        if option is not None:
            option = None
        elif earlier.startswith("-"):
            option = _with_value(earlier)
        elif verbatim:
            return word, []
    flag, equals, text = word.partition("=")
    if option is None and equals:
        option, word = _with_value(flag), text
    if option is not None and option.metavar in _PATHS:
        found = glob.glob(glob.escape(os.path.expanduser(word)) + _PATHS[option.metavar])
        return word, [shlex.quote(path) for path in found]
    flags = [flag for each in options for flag in each.flags]
    offered = flags if option is None else variables if option.metavar in _NAMES else option.suggestions
    return word, [text for text in offered if text.lower().startswith(word.lower())]


def _with_value(flag: str) -> Option | None:
    option = _BY_FLAG.get(flag)
    return None if option is None or option.metavar is None else option


def reference(usage: str, summary: str, defaults: Mapping[str, object], options: Iterable[Option] = OPTIONS) -> str:
    """The help text of a magic. ``defaults`` are what is configured now."""
    lines = [summary, "", f"    {usage}", "", "TIMEOUT", f"    {TIMEOUT.help}"]
    for option in options:
        lines.append(", ".join(option.flags) + (f" {option.metavar}" if option.metavar else ""))
        default = f" (default {defaults[option.name]})" if defaults.get(option.name) else ""
        lines.append(f"    {option.help}{default}")
    return "\n".join(lines)
