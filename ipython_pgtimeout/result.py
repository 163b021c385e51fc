"""What comes back from a command: the result, and the exceptions that carry it. Plain data: `wording` describes it,
`pictures` draws it."""

from __future__ import annotations

import functools
import math
import subprocess
from dataclasses import dataclass, field

from . import wording
from .shared.records import Exceeded, Life, MemorySample, Process, Signalled


@dataclass(frozen=True)
class Result:
    """How a command ended. It has the attributes of `subprocess.CompletedProcess`.

    ``command``, ``timeout`` and ``idle`` are those of the call; ``timeout`` is the last one, if it was extended.
    ``reason`` is ``exited``, ``timeout``, ``idle``, ``memory``, ``cpu`` or ``processes`` (and ``exceeded`` tells more),
    ``interrupted``, ``terminated`` (by `Job.terminate` or `Job.kill`), ``failed-to-start`` or ``engine-died`` (and
    ``error`` says why).
    ``returncode`` is the shell's: negative for the signal that ended it, 126 if it could not be started, None if it
    could not even be killed. If ``truncated``, ``stdout`` and ``stderr`` hold head and tail, with a line between them
    that counts what was left out; ``stdout_bytes`` and ``stderr_bytes`` count everything. ``log_error`` says why a
    ``--log`` is incomplete. ``duration`` and ``cpu_time`` (user and system, of every process that was waited for) are
    seconds, ``max_rss`` is the largest process's in bytes: getrusage(2). It is 0 if the shell, and all that it waited
    for, was smaller than the guard (about 12 MB) and too quick to be looked at: Linux counts the memory that a process
    had before its execve(2) as well. ``peak_memory`` is the most that all processes had together, in bytes, and
    ``memory_samples`` what they had when: sampled, so short peaks can be missing; before 0.1 s nothing is looked at,
    unless there is a limit. Pages that they share count once, on Linux.

    ``signals`` are those that were sent, each with its time and pids. ``survivors`` are the processes of the command
    that are still there; where the system can't tell whether they are all, ``certain`` is False. ``processes`` are the
    lives of all that were seen: a sample where Linux reports no process events, because a process that the shell waits
    for is missed there if it is quicker than the pause between two looks. ``unseen`` counts those that the guard has
    reaped and not seen before.
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
    peak_memory: int
    memory_samples: tuple[MemorySample, ...] = field(repr=False)
    pid: int
    signals: tuple[Signalled, ...]
    survivors: tuple[Process, ...]
    certain: bool
    processes: tuple[Life, ...] = field(repr=False)
    unseen: int = field(repr=False)
    exceeded: Exceeded | None
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

    @property
    def over_limit(self) -> bool:
        """Whether a limit of memory, processor time or processes ended the command."""
        return self.exceeded is not None

    @property
    def _limit_s(self) -> float:
        """The limit that ended the command, in seconds: the silence it may keep, or the time it may take."""
        return self.idle if self.reason == "idle" else self.timeout

    def check_returncode(self) -> None:
        """Raise `CommandTimeout` if the deadline ended the command, `CommandOverLimit` if a limit did, `CommandFailed`
        if its exit code is not zero."""
        if self.timed_out:
            raise CommandTimeout(self)
        if self.over_limit:
            raise CommandOverLimit(self)
        if self.returncode != 0:
            raise CommandFailed(self)

    def summary(self) -> str:
        """One sentence: what ended the command, which signals were sent, which processes are left, how long it took."""
        return wording.describe_result(
            self.reason,
            self.returncode,
            self._limit_s,
            self.exceeded,
            self.error,
            self.signals,
            self.survivors,
            self.certain,
            self.duration,
            self.stderr,
        )

    def __str__(self) -> str:
        return self.summary()

    @property
    def _lived(self) -> tuple[tuple[Life, ...], int, tuple[Signalled, ...], tuple[MemorySample, ...], float]:
        """What the timeline draws."""
        return self.processes, self.unseen, self.signals, self.memory_samples, self.duration

    def timeline(self) -> str:
        """The lives of the command's processes as text: ``=`` while one was there, ``~`` for an orphan, ``-`` where its
        end lies if no look has seen it, ``!`` where a signal was sent and ``K`` where SIGKILL was."""
        from .pictures import timeline  # only here: a program that uses `run` draws no pictures

        return timeline.draw_text(self.summary(), *self._lived)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from .pictures import timeline

        html = timeline.draw_html(self.summary(), self.ok, *self._lived)
        return {"text/plain": self.summary(), "text/html": html}


def lost_result(command: str, timeout_s: float, reason: str, error: str) -> Result:
    """For a command of which nothing is known but that it has not run, or that its end was not told."""
    return Result(
        command=command,
        timeout=timeout_s,
        idle=math.inf,
        returncode=None,
        reason=reason,
        interrupted=reason == "interrupted",
        stdout="",
        stderr="",
        truncated=False,
        stdout_bytes=0,
        stderr_bytes=0,
        log_error="",
        duration=0.0,
        cpu_time=0.0,
        max_rss=0,
        peak_memory=0,
        memory_samples=(),
        pid=0,
        signals=(),
        survivors=(),
        certain=False,
        processes=(),
        unseen=0,
        exceeded=None,
        error=error,
    )


class CarrierOfResult(Exception):
    """An exception with a result, that IPython shows as one line and not as a traceback through our code."""

    result: Result
    results: object = None
    """All results, where the command has run on several engines: `Results`."""
    sentence = ""
    """What is shown if the result alone does not tell all."""

    def __init__(self, result: Result, *arguments: object) -> None:
        super().__init__(*arguments)
        self.result = result

    def __str__(self) -> str:
        return self.sentence or self.result.summary()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result,)

    def _render_traceback_(self) -> list[str]:
        return wording.render_error(type(self).__name__, str(self))


class CommandTimeout(CarrierOfResult, subprocess.TimeoutExpired):
    """The deadline, or the limit for silence, ended the command; ``result`` tells how."""

    def __init__(self, result: Result) -> None:
        super().__init__(result, result.command, result._limit_s, result.stdout, result.stderr)


class CommandOverLimit(CarrierOfResult, subprocess.SubprocessError):
    """The command used more memory, processor time or processes than it may; ``result`` tells how it was ended."""

    def __init__(self, result: Result) -> None:
        super().__init__(result, result.summary())


class CommandFailed(CarrierOfResult, subprocess.CalledProcessError):
    """The command's exit code is not zero, or it could not be started; ``result`` tells which."""

    def __init__(self, result: Result) -> None:
        super().__init__(result, result.returncode or 0, result.command, result.stdout, result.stderr)


class JobTimeout(subprocess.TimeoutExpired):
    """A wait for a job has taken longer than it may; the job goes on. ``pattern`` is what was waited for, "" for the
    job's end. As `subprocess.TimeoutExpired`, whose message says in addition what the job has written."""

    def __init__(self, command: str, timeout_s: float, stdout: str, stderr: str, pattern: str = "") -> None:
        super().__init__(command, timeout_s, stdout, stderr)
        self.pattern = pattern
        self._written = wording.describe_written(stdout, stderr)

    def __str__(self) -> str:
        return f"{wording.describe_wait(self.timeout, self.pattern)}; {self._written}; the job goes on"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.cmd, self.timeout, self.output, self.stderr, self.pattern)

    def _render_traceback_(self) -> list[str]:
        return wording.render_error(type(self).__name__, str(self))


class CommandEnded(CarrierOfResult, RuntimeError):
    """The command has ended and has not written what `Job.wait_for` was waiting for, ``pattern``."""

    def __init__(self, result: Result, pattern: str) -> None:
        super().__init__(result, pattern)
        self.pattern = pattern

    def __str__(self) -> str:
        written = wording.describe_written(self.result.stdout, self.result.stderr)
        return f"the command has ended without {self.pattern!r}: {self.result.summary()}; {written}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result, self.pattern)


class GuardDied(RuntimeError):
    """The process that supervised the command has died: how the command would have ended is unknown.

    ``details`` is the traceback of a Python error in the helper processes, if that was the cause.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.details)

    def _render_traceback_(self) -> list[str]:
        return [*wording.render_error(type(self).__name__, str(self)), *self.details.splitlines()]


def make_interrupt(result: Result) -> KeyboardInterrupt:
    """A plain KeyboardInterrupt, as loops, "run all" and front ends know it, that carries the result."""
    error = KeyboardInterrupt(result.summary())
    carry_result(error, result)
    return error


def carry_result(error: BaseException, result: Result) -> None:
    """Give an exception of Python's the result, and have IPython show it as one line."""
    error.result = result  # type: ignore[attr-defined]
    describe_in_a_line(error, result.summary())


def describe_in_a_line(error: BaseException, text: str) -> None:
    """Have IPython show the error as one line with this text, and not as a traceback through our code."""
    # Not a closure: it must survive pickling, as the exception does.
    error._render_traceback_ = functools.partial(  # type: ignore[attr-defined]
        wording.render_error, type(error).__name__, text
    )
