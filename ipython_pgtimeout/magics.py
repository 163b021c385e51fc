"""The two magics: arguments in, output and results out. What an option means is declared in `options`."""

from __future__ import annotations

import math
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from traitlets import Bool, TraitError, TraitType
from traitlets.config import Configurable

from . import options, values
from .display import LiveStatus
from .options import Option
from .output import Pace, Show, Stream
from .result import GuardDied, Result, interrupted
from .runner import Command, supervise
from .tree import Tree
from .values import InputError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

CELL_MAGIC, LINE_MAGIC, TREE_MAGIC = "timeout_shell", "run_timed", "pgtree"
_CELL_USAGE = f"%%{CELL_MAGIC} [options] TIMEOUT"
_LINE_USAGE = f"%{LINE_MAGIC} [options] TIMEOUT COMMAND"
_CAPTURES: dict[str, Stream] = {"out": "stdout", "err": "stderr"}
_COMPLETED = (f"%%{CELL_MAGIC}", f"%{LINE_MAGIC}")


class _Default(TraitType[str, Any]):
    """An option's default, kept as text and checked by the option's own parser."""

    def __init__(self, option: Option) -> None:
        super().__init__(option.default, help=option.help, config=True)
        self._option = option

    def validate(self, _obj: object, value: object) -> str:
        text = str(value)
        try:
            if text:
                self._option.parse(text)
        except InputError as error:
            raise TraitError(str(error)) from None
        return text


def _trait(option: Option) -> TraitType[Any, Any]:
    return _Default(option) if option.metavar else Bool(bool(option.default), help=option.help, config=True)


_CONFIGURABLE = [option for option in (options.TIMEOUT, *options.OPTIONS) if option.configurable]
_Defaults: Any = types.new_class(
    "_Defaults",
    (Configurable,),
    exec_body=lambda body: body.update({option.name: _trait(option) for option in _CONFIGURABLE}),
)


class PgTimeout(_Defaults):  # type: ignore[misc]
    """The defaults of %%timeout_shell and %run_timed: ``%config PgTimeout.kill_after = "5s"``."""

    def __init__(self, ip: InteractiveShell) -> None:
        super().__init__(parent=ip)
        self._defaults: dict[str, Any] = {}
        for option in options.OPTIONS:
            if option.configurable:
                self._parse_default(option)
                self.observe(lambda _, option=option: self._parse_default(option), option.name)
        self._ip: Any = ip
        self._pace = Pace()

    def register(self) -> None:
        def timeout_shell(line: str, cell: str = "") -> None:
            self._run(line, cell)

        def run_timed(line: str) -> Result:
            return self._run(line, None)

        def pgtree(line: str) -> Tree:
            """%pgtree [PID] [--all]: sessions, process groups and processes below PID, or below the kernel, as they
            are now; with --all every process there is."""
            return _tree(line.split())

        self._ip.register_magic_function(pgtree, "line", TREE_MAGIC)
        for magic, kind, usage, summary in (
            (timeout_shell, "cell", _CELL_USAGE, "Run the cell as a shell script. Nothing it starts outlives it."),
            (run_timed, "line", _LINE_USAGE, "Run a shell command line. Nothing it starts outlives it."),
        ):
            magic.__doc__ = options.reference(usage, summary, self.trait_values())
            self._ip.register_magic_function(magic, kind, magic.__name__)
        self._ip.configurables.append(self)
        for key in _COMPLETED:
            self._ip.set_hook("complete_command", self._complete, str_key=key)

    def unregister(self) -> None:
        self._ip.magics_manager.magics["cell"].pop(CELL_MAGIC, None)
        for name in (LINE_MAGIC, TREE_MAGIC):
            self._ip.magics_manager.magics["line"].pop(name, None)
        self._ip.configurables.remove(self)
        for key in _COMPLETED:
            self._ip.strdispatchers["complete_command"].strs.pop(key, None)

    @staticmethod
    def _complete(_ip: InteractiveShell, event: Any) -> list[str]:
        typed = event.text_until_cursor.lstrip()
        return options.complete(typed[len(event.command) :])

    def _run(self, line: str, cell: str | None) -> Result:
        """Both magics; ``cell`` is None for the line magic, whose command stands in the line."""
        live: LiveStatus | None = None
        try:
            chosen, command = self._parse(line, cell)
            has_server = hasattr(self._ip, "kernel")
            # --max-output inf is the user's word to show everything at once.
            pace = self._pace if has_server and math.isfinite(command.max_output_bytes) else None
            live = LiveStatus(command.timeout_s, command.grace_s) if has_server and chosen["progress"] else None
            result = supervise(command, _show(command.whole), pace, live)
        except InputError as error:
            raise UsageError(str(error)) from None
        except GuardDied as error:
            if live is not None:
                live.finish(str(error), ok=False)
            raise
        told = live is not None and live.finish(result.summary(), result.ok)
        return self._conclude(result, chosen, told)

    def _parse(self, line: str, cell: str | None) -> tuple[dict[str, Any], Command]:
        given, timeout, rest = options.split(line, verbatim=cell is None)
        if cell is not None and rest:
            raise InputError(f"unexpected {rest!r}; write {_CELL_USAGE}, and the script in the lines below it")
        if timeout is None and (cell is None or not self.timeout):
            usage = f"%{LINE_MAGIC} 30 make test" if cell is None else f"%%{CELL_MAGIC} 30"
            raise InputError(f"TIMEOUT is missing; write for example {usage}")
        timeout_s = values.parse_timeout(self.timeout if timeout is None else timeout)
        chosen = self._defaults | given
        return chosen, Command(
            script=rest if cell is None else cell,
            timeout_s=timeout_s,
            signal=chosen["signal"],
            grace_s=chosen["kill_after"],
            leftovers=chosen["leftovers"],
            shell=chosen["shell"],
            strict=chosen["strict"],
            cwd=chosen.get("cwd"),
            environment=dict(self._variable(name, text) for name, text in chosen.get("env", ())),
            stdin=self._stdin(chosen["stdin"]) if "stdin" in chosen else None,
            pty=chosen["pty"],
            idle_s=chosen["idle"],
            log=chosen.get("log"),
            max_output_bytes=chosen["max_output"],
            whole=frozenset(stream for name, stream in _CAPTURES.items() if name in chosen),
        )

    def _parse_default(self, option: Option) -> None:
        value = getattr(self, option.name)
        self._defaults[option.name] = option.parse(value) if option.metavar else value

    def _variable(self, name: str, text: str | None) -> tuple[str, str]:
        """An environment variable for --env: its text, or that of the Python variable of its name."""
        if text is not None:
            return name, text
        if name not in self._ip.user_ns:
            raise InputError(
                f"--env {name}: there is no Python variable {name}; define it, or write --env {name}=VALUE"
            )
        value = self._ip.user_ns[name]
        if isinstance(value, (bytes, os.PathLike)):
            return name, os.fsdecode(value)
        if isinstance(value, (str, int, float)):
            return name, str(value)
        kind = type(value).__name__
        raise InputError(f"--env {name}: a {kind} can't be an environment variable; make it a str, a number or a path")

    def _stdin(self, name: str) -> bytes:
        if name not in self._ip.user_ns:
            raise InputError(f"--stdin {name}: there is no Python variable {name}; define it first")
        return values.encode_stdin(self._ip.user_ns[name])

    def _conclude(self, result: Result, chosen: dict[str, Any], told: bool) -> Result:
        if "result" in chosen:
            self._ip.user_ns[chosen["result"]] = result
        for option, stream in _CAPTURES.items():
            if option in chosen:
                self._ip.user_ns[chosen[option]] = getattr(result, stream)
        self._ip.user_ns["_exit_code"] = result.returncode
        if result.interrupted:
            raise interrupted(result)
        if not chosen["no_raise"]:
            result.check_returncode()
        if not told and (not result.ok or result.signals or result.survivors):
            _notify(result.summary())
        return result


def _show(hidden: frozenset[Stream]) -> Show:
    def show(stream: Stream, text: str) -> None:
        if stream == "notice":
            _notify(text)
        elif stream not in hidden:
            print(text, end="", file=getattr(sys, stream), flush=True)

    return show


def _notify(notice: str) -> None:
    for line in notice.splitlines():
        print(f"[pgtimeout] {line}", file=sys.stderr, flush=True)


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
