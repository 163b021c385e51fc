"""What comes back from a command: the result, the sentence that tells it, and the exceptions that carry it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import timeline
from .lives import Life
from .processes import Process
from .protocol import Signalled


@dataclass(frozen=True)
class Result:
    """How a command ended. It quacks like `subprocess.CompletedProcess`.

    ``reason`` is ``exited``, ``timeout``, ``idle``, ``interrupted`` or ``failed-to-start`` (and ``error`` says
    why). ``returncode`` is the shell's: negative for the signal that ended it, 126 if it could not be
    started, None if it could not even be killed. If ``truncated``, ``stdout`` and ``stderr`` hold head and
    tail, with a line between them that counts what was left out; ``stdout_bytes`` and ``stderr_bytes`` count
    everything. ``log_error`` says why a ``--log`` is incomplete. ``duration`` and ``cpu_time`` (user and
    system, of every process that was waited for) are seconds, ``max_rss`` is the largest process's in bytes:
    getrusage(2). ``signals`` says when, which and to whom; ``survivors`` are the processes of the command
    that are still there, ``processes`` the lives of all that were seen.
    """

    command: str
    timeout: float
    idle: float
    returncode: int | None
    reason: str
    interrupted: bool
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    truncated: bool
    stdout_bytes: int
    stderr_bytes: int
    log_error: str
    duration: float
    cpu_time: float
    max_rss: int
    pid: int | None
    signals: tuple[Signalled, ...]
    survivors: tuple[Process, ...]
    processes: tuple[Life, ...] = field(repr=False)
    error: str

    @property
    def args(self) -> str:
        """The command, under the name `subprocess.CompletedProcess` has for it."""
        return self.command

    @property
    def ok(self) -> bool:
        """Whether the shell ended by itself, with exit code 0."""
        return self.reason == "exited" and self.returncode == 0

    @property
    def timed_out(self) -> bool:
        """Whether the deadline, or the limit for silence, ended the command."""
        return self.reason in ("timeout", "idle")

    def check_returncode(self) -> None:
        """Raise `CommandTimeout` if the deadline ended the command, `CommandFailed` if its exit code is not zero."""
        if self.timed_out:
            raise CommandTimeout(self)
        if self.returncode != 0:
            raise CommandFailed(self)

    def summary(self) -> str:
        """One sentence: what ended the command, who was signalled, who is left, how long it took."""
        parts = [_ending(self)]
        if sent := _signals(self.signals):
            parts[0] += f": {sent}"
            if not self.survivors:
                parts.append("all are gone")
        if self.survivors:
            what = "could not be killed" if self.signals else "left running"
            parts.append(f"{what}: {name_processes(self.survivors)}")
        return "; ".join(parts) + f" ({format_seconds(self.duration)})"

    def __str__(self) -> str:
        return self.summary()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.summary(), "text/html": timeline.html(self)}

    def timeline(self) -> str:
        """The lives of the command's processes as text: ``=`` while one was there, ``~`` for an orphan, ``!`` where
        a signal was sent and ``K`` where SIGKILL was."""
        return timeline.text(self)

    def plot(self) -> Any:
        """The timeline as matplotlib axes. Needs the extra ``plot``: raises ImportError without matplotlib."""
        return timeline.plot(self)


class _Carrier:
    """An exception with a result, that IPython shows as one line and not as a traceback through our code."""

    result: Result

    def __str__(self) -> str:
        return self.result.summary()

    def _render_traceback_(self) -> list[str]:
        return [render_error(type(self).__name__, str(self))]


class CommandTimeout(_Carrier, subprocess.TimeoutExpired):
    """The deadline, or the limit for silence, ended the command; ``result`` tells how."""

    def __init__(self, result: Result) -> None:
        limit_s = result.idle if result.reason == "idle" else result.timeout
        super().__init__(result.command, limit_s, result.stdout, result.stderr)
        self.result = result

    def __reduce__(self) -> tuple[type[CommandTimeout], tuple[Result]]:
        return type(self), (self.result,)


class CommandFailed(_Carrier, subprocess.CalledProcessError):
    """The command's exit code is not zero, or it could not be started; ``result`` tells which."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.returncode or 0, result.command, result.stdout, result.stderr)
        self.result = result

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[Result]]:
        return type(self), (self.result,)


class GuardDied(RuntimeError):
    """The process that supervised the command was killed: how the command would have ended is unknown."""

    def _render_traceback_(self) -> list[str]:
        return [render_error(type(self).__name__, str(self))]


def interrupted(result: Result) -> KeyboardInterrupt:
    """A plain KeyboardInterrupt, as loops, "run all" and front ends know it, that carries the result."""
    error = KeyboardInterrupt(result.summary())
    lines = [render_error("KeyboardInterrupt", result.summary())]
    error.result = result  # type: ignore[attr-defined]
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
    return error


def render_error(name: str, text: str) -> str:
    """As IPython begins its own tracebacks, in colour unless the user wants none."""
    from IPython import get_ipython

    ip: Any = get_ipython()
    plain = ip is not None and ip.colors.lower() == "nocolor"
    return f"{name}: {text}" if plain else f"\x1b[31m{name}\x1b[0m: {text}"


def name_processes(processes: Sequence[Process], total: int | None = None) -> str:
    """``sleep (1234), python3 (1235) and 7 more``"""
    names = ", ".join(f"{process.name} ({process.pid})" for process in processes)
    more = (total or 0) - len(processes)
    return f"{names} and {more} more" if more > 0 else names


def count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + ('es' if noun.endswith('s') else 's')}"


def format_seconds(seconds: float) -> str:
    """``0.012 s``, ``3.2 s``, ``30 s``: what a person wants to read; ``inf`` as it is."""
    if 0 < seconds < 0.1:
        return f"{seconds:.3f} s"
    return f"{seconds:.1f} s"


def _ending(result: Result) -> str:
    if result.reason == "timeout":
        return f"timed out after {result.timeout:.10g} s"
    if result.reason == "idle":
        return f"ended after {result.idle:.10g} s without output"
    if result.reason == "failed-to-start":
        return f"could not start: {result.error}"
    if result.reason == "interrupted":
        return "interrupted"
    ending = describe_exit(result.returncode)
    return f"{ending}; leftovers ended" if result.signals else ending


def describe_exit(returncode: int | None) -> str:
    """``exit code 3`` or ``ended by SIGSEGV``"""
    if returncode is None:
        return "not ended"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has a number only
        return f"ended by signal {-returncode}"


def _signals(signals: Sequence[Signalled]) -> str:
    told = [f"{sent.signal} to {count(len(sent.pids), 'process')}" for sent in signals if sent.pids]
    if len(told) > 1:
        # The noun once is enough: "SIGTERM to 3 processes, SIGKILL to 1"
        told[1:] = [f"{sent.signal} to {len(sent.pids)}" for sent in [s for s in signals if s.pids][1:]]
    return ", ".join(told)
