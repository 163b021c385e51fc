"""The magics, as IPython knows them: arguments in, output and results out."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, completion_matcher
from IPython.core.error import UsageError

from ..caller.blocking import run_to_end
from ..caller.job import Job
from ..caller.output import Pace, Stream
from ..pictures.tree import Tree
from ..result import GuardDied, Result, make_interrupt
from ..results import Results
from ..spec import EVERYWHERE, OPTIONS, Showing, make_showing, make_spec
from ..values import InputError
from . import line as lines
from .defaults import PgTimeout
from .everywhere import Everywhere
from .frontend import CELL_MAGIC, LINE_MAGIC, FrontEnd
from .jobs import JOBS_MAGIC, Jobs, JobTable, list_as_table
from .screen import Page, Screen, Terminal
from .status import LiveStatus

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

TREE_MAGIC = "pgtree"
_CELL_USAGE = f"%%{CELL_MAGIC} [options] TIMEOUT"
_LINE_USAGE = f"%{LINE_MAGIC} [options] TIMEOUT COMMAND"
_CELL_SUMMARY = "Run the cell as a shell script. Nothing it starts outlives it."
_LINE_SUMMARY = "Run a shell command line. Nothing it starts outlives it."
_EVERYWHERE_SUMMARY = """\
From now on every shell command has this deadline, and nothing it starts outlives it: ! and !!, x = !command, %sx,
%%bash and the other script magics. All else about them stays as IPython has it. `%timeout_shell off` ends that, and
`%timeout_shell` alone says what is in force."""
_EVERYWHERE_USAGE = f"%{CELL_MAGIC} [options] TIMEOUT | off"
_MAGIC_LINE = re.compile(rf"\s*(%{{0,2}}{CELL_MAGIC}|(?:[^=]*=\s*%|%?){LINE_MAGIC})\s+(.*)")


class Extension:
    """What ``%load_ext`` adds to a shell, and ``%unload_ext`` takes away."""

    def __init__(self, ip: InteractiveShell) -> None:
        """Raises TraitError for a bad value in the configuration, and then nothing has been added."""
        self._ip: Any = ip
        self._defaults = PgTimeout(ip)
        self._pace = Pace()
        self._jobs = Jobs(ip, self._pace)
        self._everywhere = Everywhere(ip, self._defaults, self._pace)

    def register(self) -> None:
        def timeout_shell(line: str, cell: str = "") -> None:
            self._run(line, cell)

        def run_timed(line: str) -> Result | Results | Job | None:
            return self._run(line, None)

        def everywhere(line: str) -> None:
            self._set_everywhere(line)

        def timed_jobs(line: str) -> JobTable:
            """%timed_jobs: the commands in the background, those that run and the last that have ended. The value is a
            dict of jobs: ``_["build"].kill()``."""
            return list_as_table(line)

        def pgtree(line: str) -> Tree:
            """%pgtree [PID] [--all]: sessions, process groups and processes below PID, or below the kernel, as they
            are now; with --all every process there is."""
            return _tree(line.split())

        self._ip.register_magic_function(pgtree, "line", TREE_MAGIC)
        self._ip.register_magic_function(timed_jobs, "line", JOBS_MAGIC)
        for magic, kind, name, usage, summary, options in (
            (timeout_shell, "cell", CELL_MAGIC, _CELL_USAGE, _CELL_SUMMARY, OPTIONS),
            (run_timed, "line", LINE_MAGIC, _LINE_USAGE, _LINE_SUMMARY, OPTIONS),
            (everywhere, "line", CELL_MAGIC, _EVERYWHERE_USAGE, _EVERYWHERE_SUMMARY, EVERYWHERE),
        ):
            defaults = self._defaults.trait_values()
            if magic is everywhere and "max_output" not in self._defaults.parsed():
                defaults["max_output"] = "inf"  # IPython's own commands show everything
            magic.__doc__ = lines.reference(usage, summary, defaults, options)
            self._ip.register_magic_function(magic, kind, name)
        self._ip.configurables.append(self._defaults)
        self._ip.input_transformers_post.append(_pass_empty_body)
        self._ip.Completer.custom_matchers.append(self._complete)
        self._ip.events.register("post_run_cell", self._jobs.tell)
        self._ip.display_formatter.ipython_display_formatter.for_type(Job, self._jobs.display)
        self._everywhere.follow()

    def unregister(self) -> None:
        self._everywhere.turn_off()
        self._ip.magics_manager.magics["cell"].pop(CELL_MAGIC, None)
        for name in (CELL_MAGIC, LINE_MAGIC, TREE_MAGIC, JOBS_MAGIC):
            self._ip.magics_manager.magics["line"].pop(name, None)
        self._ip.configurables.remove(self._defaults)
        self._ip.input_transformers_post.remove(_pass_empty_body)
        self._ip.Completer.custom_matchers.remove(self._complete)
        self._ip.events.unregister("post_run_cell", self._jobs.tell)
        self._ip.display_formatter.ipython_display_formatter.pop(Job, None)

    # The first of IPython's matchers. If it offers anything, the others are not asked: they read the line as Python,
    # and the first call of jedi takes seconds.
    @completion_matcher(identifier="ipython_pgtimeout", priority=100, api_version=2)  # type: ignore[untyped-decorator]
    def _complete(self, context: CompletionContext) -> dict[str, Any]:
        match = _MAGIC_LINE.fullmatch(context.text_until_cursor)
        if match is None:
            return {"completions": []}
        variables = self._ip.user_ns.keys() - self._ip.user_ns_hidden.keys()
        is_command = match[1].endswith(LINE_MAGIC)
        options = OPTIONS if is_command or match[1].startswith("%%") else EVERYWHERE
        word, offered = lines.complete(match[2], is_command, variables, options)
        completions = [SimpleCompletion(text=text, type="option") for text in offered]
        return {"completions": completions, "matched_fragment": word, "suppress": True}

    def _set_everywhere(self, line: str) -> None:
        try:
            self._everywhere.command(line)
        except lines.HelpWanted:
            self._ip.run_line_magic("pinfo", f"%{CELL_MAGIC}")
        except InputError as error:
            raise UsageError(error.spelled(lines.flag_of(error.field))) from None

    def _run(self, line: str, cell: str | None) -> Result | Results | Job | None:
        """Both magics; ``cell`` is None for the line magic, whose command stands in the line. None after --help, and
        where the cell shows a job already."""
        live: LiveStatus | None = None
        try:
            given = self._read(line, cell)
            showing = make_showing(given)
            front_end = FrontEnd(self._ip)
            if showing.engines is not None:
                from .engines import run_on_active_client  # here and not above: most kernels have no engines

                return run_on_active_client(self._ip, given, showing, Screen(_captured(showing)))
            spec = make_spec(given)
            if showing.bg or showing.job is not None:
                job = self._jobs.start(spec, showing, front_end)
                return None if front_end.shows_result else job
            # With --max-output inf the user asks to show everything at once.
            pace = self._pace if front_end.has_kernel and math.isfinite(spec.max_output) else None
            captured = _captured(showing)
            screen = _screen(front_end, captured, pace, spec.pty)
            live = LiveStatus(spec.timeout, screen) if screen.has_status and showing.progress else None
            on_status = None if live is None else live.update
            result = run_to_end(spec, screen.show, pace=pace, whole=captured, on_status=on_status)
        except lines.HelpWanted:
            self._ip.run_line_magic("pinfo", f"%{LINE_MAGIC}" if cell is None else f"%%{CELL_MAGIC}")
            return None
        except InputError as error:
            raise UsageError(error.spelled(lines.flag_of(error.field))) from None
        except GuardDied:
            if live is not None:
                live.finish(None, is_told=True)
            raise
        will_raise = result.interrupted or not (result.ok or showing.no_raise)
        is_told = will_raise or front_end.shows_result
        if live is not None:
            is_told |= live.finish(result, is_told)
        return self._conclude(result, showing, is_told, screen)

    def _read(self, line: str, cell: str | None) -> dict[str, Any]:
        given, timeout, rest = lines.split(line, verbatim=cell is None)
        if cell is not None and rest:
            raise InputError(f"unexpected {rest!r}; write {_CELL_USAGE}, and the script in the lines below it")
        if timeout is None and (cell is None or not self._defaults.timeout):
            usage = f"%{LINE_MAGIC} 30 make test" if cell is None else f"%%{CELL_MAGIC} 30"
            raise InputError(f"TIMEOUT is missing; write for example {usage}")
        if cell is not None and not cell.strip():
            raise InputError(f"there is nothing to run; write a script below %%{CELL_MAGIC}, for example: make test")
        if timeout is not None:
            given["timeout"] = timeout
        if "env" in given:
            given["env"] = dict(self._variable(name, text) for name, text in given["env"])
        if "stdin" in given:
            given["stdin"] = self._lookup(given["stdin"], "stdin", "define it first")
        return {**self._defaults.parsed(), **given, "command": rest if cell is None else cell}

    def _variable(self, name: str, text: str | None) -> tuple[str, object]:
        """An environment variable for --env: its text, or the Python variable of its name."""
        if text is not None:
            return name, text
        value = self._lookup(name, "env", f"define it, or write --env {name}=VALUE")
        return name, str(value) if isinstance(value, (int, float)) else value

    def _lookup(self, name: str, field: str, advice: str) -> object:
        if name not in self._ip.user_ns:
            raise InputError(f" {name}: there is no Python variable {name}; {advice}", field=field)
        return self._ip.user_ns[name]

    def _conclude(self, result: Result, showing: Showing, is_told: bool, screen: Screen) -> Result:
        variables = {showing.result: result, showing.out: result.stdout, showing.err: result.stderr}
        self._ip.user_ns.update({name: value for name, value in variables.items() if name is not None})
        self._ip.user_ns["_exit_code"] = result.returncode
        if result.interrupted:
            raise make_interrupt(result)
        if not showing.no_raise:
            result.check_returncode()
        if not is_told and (not result.ok or result.signals or result.survivors):
            screen.show("notice", result.summary())
        return result


def _pass_empty_body(transformed: list[str]) -> list[str]:
    """Let a cell of one line reach the magic, which knows ``--help`` and a right example: IPython refuses it."""
    if len(transformed) == 1 and transformed[0].startswith(f"get_ipython().run_cell_magic({CELL_MAGIC!r}, "):
        return [re.sub(r", ''\)\n$", r", '\\n')\n", transformed[0])]
    return transformed


def _captured(showing: Showing) -> set[Stream]:
    streams: dict[Stream, str | None] = {"stdout": showing.out, "stderr": showing.err}
    return {stream for stream, name in streams.items() if name is not None}


def _screen(front_end: FrontEnd, hidden: set[Stream], pace: Pace | None, has_pty: bool) -> Screen:
    if front_end.kind == "page":
        return Page(hidden, pace, front_end.is_whole_cell)
    # A program that believes it has the terminal for itself may move about on it.
    if front_end.kind == "terminal" and not has_pty:
        return Terminal(hidden, front_end.is_whole_cell)
    return Screen(hidden)


def _tree(words: list[str]) -> Tree:
    try:
        if words == ["--all"]:
            return Tree.of_all()
        return Tree.of(int(*words) if words else os.getpid())
    except ProcessLookupError:
        problem = f"there is no process {words[0]}"
    except (TypeError, ValueError, OverflowError):
        problem = f"can't take {' '.join(words)!r}"
    raise UsageError(f"%{TREE_MAGIC}: {problem}; write %pgtree, %pgtree 1234 or %pgtree --all")
