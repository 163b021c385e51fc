"""The engine without IPython: `run`, `start` and `run_async`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from .caller.blocking import run_to_end
from .caller.job import Job
from .result import Result, make_interrupt
from .results import Results
from .spec import Spec, make_spec
from .values import InputError
from .wording import format_notice

_PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]
OnOutput = Callable[[str, str], None]
"""Gets the name of a stream, ``"stdout"`` or ``"stderr"``, and a text."""


@overload
def run(
    command: str | Sequence[_PathLike],
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: _PathLike = "bash",
    strict: bool = False,
    cwd: _PathLike | None = None,
    env: Mapping[str, _PathLike] | Mapping[bytes, _PathLike] | None = None,
    stdin: str | bytes | bytearray | memoryview | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    memory: float | str = "inf",
    cpu: float | str = "inf",
    processes: float | str = "inf",
    oom_score_adj: int | str = "1000",
    max_output: float | str = "1MB",
    log: _PathLike | None = None,
    echo: bool = False,
    on_output: OnOutput | None = None,
    check: bool = False,
) -> Result: ...
@overload
def run(command: str | Sequence[_PathLike], timeout: float | str, *, engines: object, **options: Any) -> Results: ...
def run(  # type: ignore[misc]  # what else stands in ``options`` is refused when it is called
    command: str | Sequence[_PathLike],
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: _PathLike = "bash",
    strict: bool = False,
    cwd: _PathLike | None = None,
    env: Mapping[str, _PathLike] | Mapping[bytes, _PathLike] | None = None,
    stdin: str | bytes | bytearray | memoryview | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    memory: float | str = "inf",
    cpu: float | str = "inf",
    processes: float | str = "inf",
    oom_score_adj: int | str = "1000",
    max_output: float | str = "1MB",
    log: _PathLike | None = None,
    echo: bool = False,
    on_output: OnOutput | None = None,
    check: bool = False,
    engines: object = None,
) -> Result | Results:
    """Run a shell script in its own session and return when nothing of it is left.

    ``command`` can also be a list, of a program and its arguments: no shell sees them, as in `subprocess.run`.
    ``timeout`` and ``kill_after`` are seconds or durations such as ``"2m"``. ``env`` is added to the
    environment. The output is captured, of each stream ``max_output`` bytes: ``"inf"`` for all.
    With ``echo`` it is also printed as it comes, and ``on_output`` is called with it, as in
    ``on_output("stdout", "text")``. Processes that outlive the shell are waited for until the deadline;
    ``leftovers="leave"`` or ``"kill"`` does not wait. ``%%timeout_shell?`` explains the other options.

    With ``engines``, a direct view of ipyparallel, it runs on all engines of the view, and `Results` come back, one
    `Result` for each engine. A list in ``env`` has one value for each.

    Raises InputError (a ValueError) for what can't be run, with nothing started; KeyboardInterrupt, with
    the result as ``.result``, when interrupted on the main thread; GuardDied if the supervising process
    was killed; with ``check``, CommandTimeout, CommandOverLimit and CommandFailed.
    """
    given = locals()
    if engines is not None:
        return _run_on_engines(given)
    result = run_to_end(*_prepared(given))
    if result.interrupted:
        raise make_interrupt(result)
    if check:
        result.check_returncode()
    return result


def _run_on_engines(given: dict[str, Any]) -> Results:
    from .parallel.client import run_on_engines  # here and not above: most programs have no engines

    results = run_on_engines(given["engines"], given, _shower(given))
    if results.interrupted:
        raise results.make_interrupt()
    if given["check"]:
        results.check_returncode()
    return results


def start(
    command: str | Sequence[_PathLike],
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: _PathLike = "bash",
    strict: bool = False,
    cwd: _PathLike | None = None,
    env: Mapping[str, _PathLike] | Mapping[bytes, _PathLike] | None = None,
    stdin: str | bytes | bytearray | memoryview | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    memory: float | str = "inf",
    cpu: float | str = "inf",
    processes: float | str = "inf",
    oom_score_adj: int | str = "1000",
    max_output: float | str = "1MB",
    log: _PathLike | None = None,
    echo: bool = False,
    on_output: OnOutput | None = None,
) -> Job:
    """Start a shell script, or a list of a program and its arguments, in the background, and return at once.

    The arguments are those of `run`. ``on_output`` is called on the thread that serves all jobs, so it may not wait for
    anything. If it raises an error, the job is ended, and `Job.wait` raises that error.

    Raises InputError (a ValueError) for what can't be run, with nothing started.
    """
    return Job(*_prepared(locals()))


async def run_async(
    command: str | Sequence[_PathLike],
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: _PathLike = "bash",
    strict: bool = False,
    cwd: _PathLike | None = None,
    env: Mapping[str, _PathLike] | Mapping[bytes, _PathLike] | None = None,
    stdin: str | bytes | bytearray | memoryview | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    memory: float | str = "inf",
    cpu: float | str = "inf",
    processes: float | str = "inf",
    oom_score_adj: int | str = "1000",
    max_output: float | str = "1MB",
    log: _PathLike | None = None,
    echo: bool = False,
    on_output: OnOutput | None = None,
    check: bool = False,
) -> Result:
    """As `run`, without blocking the asyncio event loop.

    When the task is cancelled, the command is interrupted as by the stop button, and CancelledError is raised only when
    nothing of it is left; a second cancellation kills it. ``on_output`` is called on another thread: see `start`.
    """
    from .caller.awaiting import result_or_end_of  # here and not above: it imports asyncio
    from .caller.driven import Driven

    result = await result_or_end_of(Driven(*_prepared(locals())))
    if check:
        result.check_returncode()
    return result


def _prepared(given: dict[str, Any]) -> tuple[Spec, Callable[[str, str], None]]:
    """The command, checked, and a function that shows its output."""
    show = _shower(given)
    return make_spec(given), show


def _shower(given: dict[str, Any]) -> Callable[[str, str], None]:
    """A function that shows output, by ``echo`` and ``on_output``. Raises InputError."""
    echo, on_output = given["echo"], given["on_output"]
    if on_output is not None and not callable(on_output):
        raise InputError(
            f" can't be {on_output!r}; write a function, for example: on_output=lambda stream, text: print(text)",
            field="on_output",
        )

    def show(stream: str, text: str) -> None:
        if echo:
            _print(stream, text)
        if on_output is not None and stream != "notice":
            on_output(stream, text)

    return show


def _print(stream: str, text: str) -> None:
    if stream == "notice":
        text = format_notice(text)
    print(text, end="", file=sys.stdout if stream == "stdout" else sys.stderr, flush=True)
