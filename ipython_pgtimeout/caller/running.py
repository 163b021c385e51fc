"""The caller's side of one command while it runs: a state machine without a loop.

It does not decide how a command is ended, but it can ask the guard to end it now. Whatever goes wrong here, the channel
is closed on the way out, and the guard treats that as the death of the caller.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from .. import wording
from ..result import GuardDied, Result
from ..shared import rights
from ..shared.inheritance import Inheritance
from ..shared.protocol import (
    Ask,
    Done,
    Extend,
    Idle,
    Interrupt,
    Message,
    Request,
    Signal,
    Started,
    Status,
    Terminate,
    Waiting,
)
from ..shared.records import Ending
from ..spec import SPEC_FIELDS, Spec
from . import preparation
from .output import BATCH_INTERVAL_S, Batcher, Pace, Show, Stream
from .plumbing import Feeder, Log, Plumbing, Terminal
from .streams import Streams
from .supervisor import Supervisor

FIRST_STATUS_AFTER_S = 1.0
STATUS_INTERVAL_S = 0.5
_END_OF_FILE_INTERVAL_S = 0.1
_REPEATED = tuple(name for name in SPEC_FIELDS if name in Result.__dataclass_fields__ and name not in Ending._fields)
"""The fields of a `Spec` that its `Result` repeats, because they can't change."""


class Running:
    """One command, from the request to the result. Use it as a context manager.

    A driver waits for the descriptors in `watched`, until `due_at` at the latest, and calls `step` with those that are
    ready, until `is_over`. `stop` can also be called from a signal handler on the driver's thread. Other threads than
    the driver's need a lock.
    """

    def __init__(
        self,
        spec: Spec,
        show: Show,
        *,
        pace: Pace | None = None,
        is_live: bool = False,
        shows_all: bool = False,
        whole: Iterable[Stream] = (),
        on_status: Callable[[Status | None, int], None] | None = None,
        first_status_after_s: float = FIRST_STATUS_AFTER_S,
        on_start: Callable[[int], None] | None = None,
        started_s: float | None = None,
    ) -> None:
        """Check everything, and ask a guard to start the command.

        ``show`` gets the output as it comes, and notices about the command: of each stream what is kept, and in
        batches; with ``shows_all`` everything, with ``is_live`` everything at once. Of the ``whole`` streams everything
        is kept, of the others what `Spec.max_output` allows. ``on_status`` is called, ``first_status_after_s`` and then
        twice a second, with a status and the number of bytes written so far; with None once the command is over and its
        output not yet shown. ``on_start`` gets the shell's pid. The deadline counts from ``started_s``
        (CLOCK_MONOTONIC), or from now.

        Raises InputError, with nothing started, for what can't be run, and NothingStarted if there can't be a guard.
        """
        self._spec = spec
        self._started_s = time.monotonic() if started_s is None else started_s
        self._cleanup = contextlib.ExitStack()
        self._on_status = on_status
        self._on_start = on_start
        self._status_at = math.inf if on_status is None else self._started_s + first_status_after_s
        self._presses = 0
        self._is_closed = False
        self._fed: Feeder | None = None
        self._idle_s = spec.idle
        self._shows_all = shows_all or is_live
        self._batcher = Batcher(show, pace, 0.0 if is_live else BATCH_INTERVAL_S)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            _open.add(self)
            self._prepare(whole)
            on_failure.pop_all()

    def _prepare(self, whole: Iterable[Stream]) -> None:
        spec = self._spec
        environment = preparation.environment(spec.env, spec.pty)
        program, argv = preparation.program_and_arguments(spec, environment, self._cleanup)
        until_sent = self._cleanup.enter_context(contextlib.ExitStack())
        cwd = preparation.directory(spec.cwd, until_sent)
        log = None if spec.log is None else Log(spec.log, spec.appends_log, self._cleanup)
        plumbing = Plumbing(spec.stdin, spec.pty, spec.wiring, self._cleanup)
        status = rights.read_status()
        inheritance = Inheritance.current(status)
        limits = spec.limits(self._started_s)
        tells_start = self._on_start is not None
        has_terminal = plumbing.terminal is not None
        request = Request(program, argv, environment, inheritance, limits, has_terminal, tells_start)
        drained = [file.fileno() for file, _ in plumbing.outputs] if spec.leftovers == "leave" else []
        self._guard = Supervisor(rights.fingerprint(status), limits, self._cleanup)
        self._guard.tell(request, [*plumbing.far_ends, cwd, *drained])
        # What can be done later is done after the request: the shell starts meanwhile.
        plumbing.hand_over()
        until_sent.close()
        self._terminal = plumbing.terminal
        self._keyboard = self._terminal if self._terminal is not None and self._terminal.has_end_of_file else None
        self._feeder = plumbing.feeder
        kept: Mapping[Stream, float] = {
            stream: math.inf if stream in whole else spec.max_output for stream in ("stdout", "stderr")
        }
        self.streams = Streams(plumbing.outputs, kept, log, self._batcher, self._shows_all)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release everything. A command that is not over is ended by its guard."""
        _open.discard(self)
        self._is_closed = True  # first: after the clean-up the guard may belong to another command
        self._cleanup.close()

    # -- for a driver -------------------------------------------------------------------------------------

    @property
    def watched(self) -> dict[int, int]:
        """The descriptors to wait for now, each with the events of poll(2)."""
        if self._is_closed:
            raise RuntimeError("this command was released, or belongs to the process that this one was forked from")
        if self._done is not None:
            return {}
        events = select.POLLIN | (select.POLLOUT if self._guard.has_unsent else 0)
        watched = {self._guard.fileno(): events, **dict.fromkeys(self.streams.fds, select.POLLIN)}
        if self._feeder is not None:
            watched[self._feeder.fileno()] = select.POLLOUT
        return watched

    @property
    def due_at(self) -> float:
        """When `step` is to be called though no descriptor is ready, by CLOCK_MONOTONIC; infinite for never."""
        now = time.monotonic()
        batch_s = self._batcher.due_in()
        batch_at = math.inf if batch_s is None else now + batch_s
        if self._done is not None:
            return batch_at
        fed_at = math.inf if self._fed is None else now
        keyboard_at = math.inf if self._keyboard is None else now + _END_OF_FILE_INTERVAL_S
        return min(batch_at, fed_at, keyboard_at, self._status_at, self._idle_at, self._guard.due_at)

    @property
    def is_over(self) -> bool:
        """Whether the command has ended and everything it wrote has been shown."""
        return self._done is not None and self._batcher.is_empty

    def step(self, ready: Collection[int]) -> None:
        """Do what is due. Raises GuardDied if the guard has died, NothingStarted if that can't have done anything."""
        if self._fed is not None:
            self._fed.close()
            self._fed = None
        try:
            for fd in ready:
                self._attend_to(fd)
            if self._done is None:
                self._do_what_is_due(time.monotonic(), has_heard=self._guard.fileno() in ready)
        except GuardDied:
            self.streams.drain()
            self._batcher.show_no_more()
            raise
        if self._done is not None and self._presses:
            self._batcher.show_no_more()  # after a press of stop, nothing waits for the pace of a browser
            return
        self._batcher.show_if_due()
        if self._done is not None and self._on_status is not None and self._batcher.due_in():
            self._on_status(None, self.streams.total_bytes)
            self._on_status = None

    def stop(self, presses: int) -> None:
        """Ask the guard to end the command: the user has pressed stop ``presses`` times in all."""
        self._presses = presses
        self._tell(Interrupt(presses))

    def extend(self, timeout_s: float) -> None:
        """Move the deadline to ``timeout_s`` seconds after the start."""
        self._tell(Extend(timeout_s))

    def terminate(self, *, at_once: bool) -> None:
        """End the command as at the deadline, or ``at_once`` by SIGKILL."""
        self._tell(Terminate(at_once))

    def send_signal(self, number: int) -> None:
        """Send a signal to every process of the command."""
        self._tell(Signal(number))

    def ask_for_status(self) -> None:
        """One more call of ``on_status``, soon."""
        self._tell(Ask())

    def result(self) -> Result:
        """How it ended, once it `is_over`."""
        assert self._done is not None
        repeated: dict[str, Any] = {name: getattr(self._spec, name) for name in _REPEATED}
        repeated["command"] = self._spec.command_line
        return Result(
            **repeated, **self._done.ending._asdict(), **self.streams.outcome(), interrupted=self._presses > 0
        )

    @property
    def _done(self) -> Done | None:
        return self._guard.done

    # -- what has happened --------------------------------------------------------------------------------

    @property
    def _idle_at(self) -> float:
        return self.streams.heard_at + self._idle_s

    def _do_what_is_due(self, now: float, has_heard: bool) -> None:
        if now >= self._guard.due_at and not has_heard:
            self._guard.act(now)
        if now >= self._idle_at:
            self._idle_s = math.inf
            self._tell(Idle())
        if self._keyboard is not None:
            self._keyboard.keep_at_end_of_file()
        if now >= self._status_at:
            self._status_at = now + STATUS_INTERVAL_S
            self._tell(Ask())

    def _attend_to(self, fd: int) -> None:
        if fd in self.streams.fds:
            self.streams.read(fd)
        elif fd == self._guard.fileno():
            for message in self._guard.receive():
                self._take(message)
        elif self._feeder is not None and fd == self._feeder.fileno() and not self._feeder.feed():
            self._fed, self._feeder = self._feeder, None  # closed at the next step, when it is watched no more

    def _take(self, message: Message) -> None:
        if isinstance(message, Status):
            if self._on_status is not None:
                self._on_status(message, self.streams.total_bytes)
        elif isinstance(message, Started):
            if self._on_start is not None:
                self._on_start(message.pid)
        elif isinstance(message, Waiting):
            self.streams.notify(wording.describe_waiting(message.returncode, message.processes, message.total))
        elif isinstance(message, Done) and self._done is not None:
            # What the command wrote before it ended is in the pipes by now.
            if self._terminal is not None:
                self._terminal.hang_up()
            self.streams.drain()
            if self._keyboard is not None and self._has_failed_at_a_prompt(self._keyboard):
                self.streams.notify("stdin is empty; hand over --stdin NAME")

    def _has_failed_at_a_prompt(self, terminal: Terminal) -> bool:
        """Whether an empty stdin is probably why the command has failed. Without a terminal nothing is known of it: no
        read of /dev/null is seen, and programs treat a pipe or a file otherwise."""
        assert self._done is not None
        ending = self._done.ending
        has_failed = ending.reason == "exited" and (ending.returncode or 0) > 0
        return has_failed and self._spec.stdin is None and (terminal.end_was_read or self.streams.is_within_a_line)

    def _tell(self, message: Message) -> None:
        if not self._is_closed:
            self._guard.tell(message)


_open: weakref.WeakSet[Running] = weakref.WeakSet()


def _close_copies() -> None:
    """In a forked child, after `Connection.forget`: the commands belong to the parent. A copy of the pipe to a
    command's stdin would also hide its end of file."""
    for running in list(_open):
        running.close()


os.register_at_fork(after_in_child=_close_copies)
