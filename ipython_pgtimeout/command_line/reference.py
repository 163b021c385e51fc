"""What ``pgtimeout --help`` and ``--version`` print. The options that a cell has too are described where they are
declared."""

from __future__ import annotations

import textwrap

from ..spec import SPEC_FIELDS
from ..version import __version__

SHARED = ("signal", "kill_after", "leftovers", "idle", "memory", "cpu", "processes", "log")
_USAGE = """\
Usage: {name} [OPTION]... DURATION COMMAND [ARG]...
Run COMMAND, and end it, with everything that it has started, if it still runs after DURATION.

{options}

DURATION is a number with a unit: s (the default), m, h or d; also 500ms, 5m30s and inf. 0 is no limit, for -k too.

INT, TERM, HUP and QUIT begin the end of the command, with that signal; other signals are handed on to it.

Exit status: that of COMMAND, which includes the signal that ended it, or
  124  if it took too long, was silent for too long or used too much, and without -p
  125  if {name} itself fails
  126  if COMMAND can't be executed
  127  if there is no COMMAND
  137  if COMMAND had to be killed (128 + SIGKILL)"""


def usage(name: str) -> str:
    """The reference, as text."""
    options = [
        _entry("-f, --foreground", "leave COMMAND in this session and process group, so that it has the terminal"),
        *(_declared(field) for field in SHARED),
        _entry("-p, --preserve-status", "exit with the status of COMMAND even if it took too long"),
        _entry("-v, --verbose", "say on stderr which signals are sent"),
        _entry("--help", "print this"),
        _entry("--version", "print the version"),
    ]
    return _USAGE.format(name=name, options="\n".join(options))


def version(name: str) -> str:
    return f"{name} (ipython_pgtimeout) {__version__}"


def _declared(field: str) -> str:
    option = SPEC_FIELDS[field]
    flags = ", ".join(option.flags)
    default = f" (default: {option.default})" if isinstance(option.default, str) else ""
    # Of a cell, a grace of 0 kills at once. Of GNU timeout, and so here, it is no limit.
    return _entry(f"{flags} {option.metavar}", option.help.removesuffix("; 0 kills at once") + default)


def _entry(flags: str, text: str) -> str:
    return f"  {flags}\n{textwrap.fill(text, 100, initial_indent=' ' * 9, subsequent_indent=' ' * 9)}"
