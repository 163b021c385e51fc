"""A command in the background, as its user sees it: `Job`."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeVar

from .. import values, wording
from ..result import CommandEnded, JobTimeout, Result
from ..shared.protocol import Status
from ..spec import Spec
from ..values import InputError
from .driven import Driven
from .output import Show, Stream

_LONGEST = 60
_REMEMBERED = 10
_numbers = itertools.count(1)
_jobs: list[Job] = []
_Quantity = TypeVar("_Quantity")


class Job:
    """A command in the background, made by `start`. Nothing of it outlives its deadline, nor this process.

    The methods are those of `subprocess.Popen`, and can be called from any thread. Those that end the job ask for its
    end and do not wait for it; when it is over they do nothing. As a context manager, it is ended on the way out. If
    the process that supervises it was killed, `poll`, `wait`, ``await`` and the end of a ``with`` block raise
    `GuardDied`.
    """

    def __init__(self, spec: Spec, show: Show) -> None:
        self.name = f"job{next(_numbers)}"
        self.command = self.args = spec.command_line
        self.started_at = time.time()
        """By the clock on the wall."""
        self._timeout_s = spec.timeout
        self.driven = Driven(spec, show)
        """For those who show it."""
        _jobs.append(self)
        list_jobs()  # forgets old ones

    # -- as subprocess.Popen ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The shell's, which is also its session's and its process group's. Waits until it is known; 0 if there was
        none."""
        self.driven.wait_until(lambda: self.driven.pid or self.is_over)
        return self.driven.pid

    @property
    def returncode(self) -> int | None:
        """The shell's exit code, or negative the signal that ended it; None while the job is not over."""
        if self.result is None:
            return None
        code = self.result.returncode
        return -signal.SIGKILL if code is None else code  # None: SIGKILL was sent, and has not ended it

    def poll(self) -> int | None:
        """`returncode`, None while the job is not over."""
        self.driven.outcome()
        return self.returncode

    def wait(self, timeout: float | str | None = None) -> int:
        """Wait until nothing of the job is left, and return `returncode`. Raises subprocess.TimeoutExpired after
        ``timeout``, seconds or a duration such as ``"5m"``; the job goes on."""
        limit_s = _parse("timeout", values.parse_wait, timeout)
        if not self.driven.wait_until(lambda: self.driven.is_told, limit_s):
            raise JobTimeout(self.command, limit_s, self.stdout, self.stderr)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, sig: str | int) -> None:
        """Send a signal to every process of the command: ``"HUP"``, ``signal.SIGSTOP``. SIGKILL is `kill`."""
        number = _parse("sig", values.parse_signal, sig)
        if number == signal.SIGKILL:
            self.kill()
        else:
            self.driven.ask(lambda running: running.send_signal(number))

    def interrupt(self) -> None:
        """End it as the stop button does: SIGINT, after the grace SIGTERM, then SIGKILL. A second time: SIGKILL."""
        self.driven.interrupt()

    def terminate(self) -> None:
        """End it as the deadline does: SIGTERM or the signal that was given, and SIGKILL after the grace, to
        everything that the command has started."""
        self.driven.terminate(at_once=False)

    def kill(self) -> None:
        """SIGKILL to everything that the command has started."""
        self.driven.terminate(at_once=True)

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self.interrupt()
            else:
                self.terminate()
            self.driven.wait_until(lambda: self.driven.is_told)
        except KeyboardInterrupt:
            self.kill()
            self.driven.wait_until(lambda: self.driven.is_told)
            raise
        if kind is None:
            self.poll()  # raises what else would not be told

    # -- beyond it ----------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left, or its supervision has failed."""
        return self.driven.is_over

    @property
    def result(self) -> Result | None:
        """How it ended; None while it is not over."""
        return self.driven.result

    @property
    def timeout(self) -> float:
        """The deadline, in seconds after the start."""
        return self._timeout_s if self.result is None else self.result.timeout

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 when it has passed or the job is over."""
        return 0.0 if self.is_over else max(0.0, self.driven.started_s + self._timeout_s - time.monotonic())

    def extend(self, duration: float | str) -> float:
        """Move the deadline: it is ``duration`` later. Returns `remaining`. When the job is being ended already, or
        over, it is too late, and nothing changes."""
        more_s = _parse("duration", values.parse_timeout, duration)
        with self.driven.lock:
            if self.remaining > 0 and not self.driven.is_ending:
                self._timeout_s += more_s
                self.driven.ask(lambda running: running.extend(self._timeout_s))
        return self.remaining

    @property
    def stdout(self) -> str:
        """What it has written so far, of which ``max_output`` bytes are kept."""
        return self.driven.text("stdout")

    @property
    def stderr(self) -> str:
        """The same of its other stream."""
        return self.driven.text("stderr")

    def __iter__(self) -> Iterator[str]:
        """The texts of both streams as they come, until the job is over; a line may come in pieces. They begin with
        what has been written before, and a loop that is too slow misses some: ``max_output`` is kept."""
        new, position = self._texts_after(0)
        while new:
            yield from (text for stream, text in new if stream != "notice")
            new, position = self._texts_after(position)

    def _texts_after(self, position: int) -> tuple[list[tuple[Stream, str]], int]:
        """Those that come next, and the next position; none when the job is over."""
        self.driven.wait_until(lambda: self.driven.texts.end > position or self.is_over)
        with self.driven.lock:
            return self.driven.texts.after(position)

    def wait_for(self, pattern: str | re.Pattern[str], timeout: float | str | None = None) -> re.Match[str]:
        """Wait until ``pattern``, a regular expression, is found in what is kept of stdout or of stderr. Returns the
        match. Raises subprocess.TimeoutExpired after ``timeout``, and `CommandEnded` if the command is over; both tell
        what it has written instead."""
        expression = re.compile(pattern)
        limit_s = _parse("timeout", values.parse_wait, timeout)
        found: list[re.Match[str]] = []

        def is_decided() -> bool:
            is_all = self.is_over  # first: then what is looked through is all that it has written
            found.extend(filter(None, map(expression.search, (self.stdout, self.stderr))))
            return bool(found) or is_all

        if not self.driven.wait_until(is_decided, limit_s):
            raise JobTimeout(self.command, limit_s, self.stdout, self.stderr, expression.pattern)
        if found:
            return found[0]
        self.poll()
        assert self.result is not None
        raise CommandEnded(self.result, expression.pattern)

    def __await__(self) -> Generator[Any, None, Result]:
        from .awaiting import result_of  # here and not above: most programs do not use asyncio

        return result_of(self.driven).__await__()

    def __aiter__(self) -> AsyncIterator[str]:
        from .awaiting import texts_of

        return texts_of(self.driven)

    def status(self, timeout: float | str = 1.0) -> Status | None:
        """The command's processes, their processor time and memory, asked for now. The last known after ``timeout``,
        or when the job is over."""
        limit_s = _parse("timeout", values.parse_wait, timeout)
        before = self.driven.status
        self.driven.ask(lambda running: running.ask_for_status())
        self.driven.wait_until(lambda: self.driven.status is not before or self.is_over, limit_s)
        return self.driven.status

    def summary(self) -> str:
        """One line: how long it has run, or how it ended."""
        if self.driven.error is not None:
            return str(self.driven.error)
        if self.result is not None:
            return self.result.summary()
        elapsed_s = time.monotonic() - self.driven.started_s
        return f"running for {wording.format_seconds(elapsed_s)} of {wording.format_limit(self._timeout_s)}"

    def __repr__(self) -> str:
        return f"<Job {self.name}: {self.summary()}: {wording.visible(self.command.strip(), _LONGEST)}>"


def _parse(field: str, parse: Callable[[object], _Quantity], value: object) -> _Quantity:
    """An argument as a quantity. An `InputError` names it."""
    try:
        return parse(value)
    except InputError as error:
        error.field = field
        raise


def list_jobs() -> list[Job]:
    """Those that run, and the last that have ended, in the order in which they were started."""
    ended = [job for job in _jobs if job.is_over]
    for job in ended[:-_REMEMBERED]:
        with contextlib.suppress(ValueError):  # another thread has removed it
            _jobs.remove(job)
    return list(_jobs)
