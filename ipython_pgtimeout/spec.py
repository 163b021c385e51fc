"""What to run and how: each field is declared once, here, with its flag, keyword, parser, help and default.

The magics' parsing, help, completions and configuration come from these declarations, and so does what `run` checks,
what is sent to the guard (`Limits`) and what a `Result` repeats. The keywords of `run` are spelled out for type
checkers; a test compares them with `Spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from . import values
from .options import Option, declare
from .shared import signals
from .shared.protocol import Limits

Wiring = Literal["pipes", "one pipe", "plain terminal"]
"""What stdout and stderr are: a pipe each, one for both, or a terminal as the system has it, with nobody at the
keyboard. With ``pty`` they are a terminal made for output: see `plumbing.Terminal`."""


@dataclass(frozen=True)
class Spec:
    """One command, checked: quantities in seconds and bytes, ``signal`` as a number. Build it with `make_spec`."""

    command: str | tuple[str, ...] = declare(None, values.parse_command)
    timeout: float = declare(
        "",
        values.parse_timeout,
        metavar="TIMEOUT",
        help="how long the command may take: 30, 1.5, 30s, 500ms, 2m, 5m30s, 1h, 1d or inf",
    )
    signal: int = declare(
        "TERM",
        values.parse_signal,
        "-s",
        "--signal",
        metavar="SIG",
        help="the first signal at the deadline",
        choices=signals.NAMES,
    )
    kill_after: float = declare(
        "2s",
        values.parse_grace,
        "-k",
        "--kill-after",
        metavar="DUR",
        help="the grace between the first signal and SIGKILL; 0 kills at once",
    )
    leftovers: str = declare(
        "wait",
        values.parse_leftovers,
        "--leftovers",
        metavar="wait|kill|leave",
        help="what becomes of processes that are still there when the shell has exited: wait for them until the "
        "deadline, kill them, or leave them running",
        choices=values.LEFTOVERS,
    )
    shell: str = declare(
        "bash",
        values.parse_shell,
        "--shell",
        metavar="PROGRAM",
        help="the program that runs the script, by -c SCRIPT; bash, or sh where there is no bash",
        choices=("bash", "sh", "zsh"),
    )
    strict: bool = declare(
        False, values.parse_flag, "--strict", help="stop at the first error, as set -euo pipefail does"
    )
    cwd: str | None = declare(
        None,
        values.parse_directory,
        "--cwd",
        metavar="DIR",
        help="the directory to run in; the kernel's own if not given",
    )
    env: Mapping[bytes, bytes] = declare(
        None,
        values.parse_environment,
        "-e",
        "--env",
        metavar="NAME[=VALUE]",
        help="an environment variable; without a value, the Python variable of that name. Can be repeated",
        is_repeated=True,
        parse_text=values.parse_assignment,
    )
    stdin: bytes | None = declare(
        None,
        values.parse_stdin,
        "--stdin",
        metavar="NAME",
        help="what the command can read: the Python variable of this name, a str or bytes. Without it stdin is empty",
        parse_text=values.parse_name,
    )
    pty: bool = declare(
        False,
        values.parse_flag,
        "--pty",
        help="give it a terminal: colours, progress bars, line buffering; stderr merges into stdout. Its keyboard "
        "is at end of file",
    )
    idle: float = declare(
        "inf", values.parse_idle, "--idle", metavar="DUR", help="end the command after so long without output"
    )
    memory: float = declare(
        "inf",
        values.parse_memory,
        "--memory",
        metavar="SIZE",
        help="end the command when all its processes together have more memory than that: 500MB, 2GB. What they share "
        "counts once",
    )
    cpu: float = declare(
        "inf",
        values.parse_cpu,
        "--cpu",
        metavar="DUR",
        help="end the command when all its processes together have used so much processor time",
    )
    processes: float = declare(
        "inf",
        values.parse_processes,
        "--processes",
        metavar="N",
        help="end the command when more than N of its processes run at once",
    )
    oom_score_adj: int = declare(
        "1000",
        values.parse_oom_score_adj,
        "--oom-score-adj",
        metavar="N",
        help="when the machine has no memory left, the kernel ends processes of this command first, and not the "
        "notebook: 0 to 1000, see proc(5); 0 for no difference",
    )
    max_output: float = declare(
        "1MB",
        values.parse_size,
        "--max-output",
        metavar="SIZE",
        help="how much of each stream is shown and kept: the first half as it comes, the last half at the end, and "
        "between them a count of what was left out. A Jupyter Server drops what exceeds a million bytes a second: a "
        "size is shown more slowly, and arrives whole; inf is shown at once, and the server may drop a part of it",
    )
    log: str | None = declare(
        None, values.parse_log, "--log", metavar="FILE", help="write every byte into this file as well, as it comes"
    )
    # What only this package sets: how IPython's own commands are run.
    wiring: Wiring = "pipes"
    appends_log: bool = False
    """Whether the log goes on after what it holds."""

    @property
    def command_line(self) -> str:
        """The command as text; arguments are quoted as for a shell."""
        if isinstance(self.command, str):
            return self.command
        import shlex  # here and not above: most commands are scripts

        return shlex.join(self.command)

    def limits(self, started_s: float) -> Limits:
        """The part that the guard needs."""
        return Limits(started_s, *[getattr(self, name) for name in Limits._fields[1:]])


@dataclass(frozen=True)
class Showing:
    """What a magic does with a command's output and result. The engine does not know these fields."""

    bg: bool = declare(
        False,
        values.parse_flag,
        "--bg",
        help="run it in the background: the cell is over at once and goes on showing its status and its last lines. "
        "%timed_jobs lists what runs",
    )
    job: str | None = declare(
        None,
        values.parse_variable,
        "--job",
        metavar="NAME",
        help="the same, with this name; the variable holds the Job: NAME.wait(), NAME.kill(), NAME.extend('5m')",
    )

    engines: str | None = declare(
        None,
        values.parse_engines,
        "--engines",
        metavar="all|0,2:4",
        help="run it on these engines of the active ipyparallel client, as %%px --targets",
        choices=("all",),
    )
    out: str | None = declare(
        None,
        values.parse_variable,
        "--out",
        metavar="NAME",
        help="stdout, whole, into this variable instead of the cell",
    )
    err: str | None = declare(
        None,
        values.parse_variable,
        "--err",
        metavar="NAME",
        help="stderr, whole, into this variable instead of the cell",
    )
    progress: bool = declare(
        True,
        values.parse_flag,
        "--progress",
        "--no-progress",
        help="show a live status line when the command takes longer than a second",
    )
    no_raise: bool = declare(
        False,
        values.parse_flag,
        "--no-raise",
        "--no-raise-error",
        help="a timeout or a non-zero exit code raises no exception",
    )
    result: str | None = declare(
        None,
        values.parse_variable,
        "--result",
        metavar="NAME",
        help="put the Result into this variable, on failure too",
    )


def _declared(of: type) -> tuple[Option, ...]:
    return tuple(Option(each.name, **each.metadata) for each in fields(of) if each.metadata)


SPEC_FIELDS = {option.name: option for option in _declared(Spec)}
SHOWING_FIELDS = {option.name: option for option in _declared(Showing)}
FIELDS = SPEC_FIELDS | SHOWING_FIELDS
OPTIONS = tuple(option for option in FIELDS.values() if option.flags)
"""What can be written with a flag in a magic's line."""
TIMEOUT = FIELDS["timeout"]
_OF_ONE_COMMAND = ("shell", "strict", "cwd", "env", "stdin", "pty")
"""What a command is and what it is given."""
EVERYWHERE = tuple(option for name, option in SPEC_FIELDS.items() if option.flags and name not in _OF_ONE_COMMAND)
"""What can go with ``%timeout_shell``: how any command is bounded, ended and recorded."""


def make_spec(given: Mapping[str, Any]) -> Spec:
    """What a user has given by keyword, checked; the defaults for the rest. Raises InputError."""
    return Spec(**_parsed(SPEC_FIELDS, given))


def make_showing(given: Mapping[str, Any]) -> Showing:
    """The same for what concerns the magics alone."""
    return Showing(**_parsed(SHOWING_FIELDS, given))


def _parsed(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: option.parsed_default
        if (value := given.get(name, option.default)) is option.default
        else option.parsed(value)
        for name, option in options.items()
    }
