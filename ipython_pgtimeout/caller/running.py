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
from ..shared import debuglog, rights
from ..shared.channel import UnreadError
from ..shared.errors import describe_error
from ..shared.inheritance import Inheritance
from ..shared.protocol import Ask, Done, Extend, Idle, Interrupt, Message, Request, Status, Swept, Waiting
from ..spec import SPEC_FIELDS, Spec
from . import preparation
from .backstop import Backstop
from .connection import connection
from .output import Batcher, Pace, Show, Stream
from .plumbing import Log, Plumbing, Terminal
from .streams import Streams

FIRST_STATUS_AFTER_S = 1.0
STATUS_INTERVAL_S = 0.5
_END_OF_FILE_INTERVAL_S = 0.1
_REPEATED = tuple(name for name in SPEC_FIELDS if name in Result.__dataclass_fields__)
"""The fields of a `Spec` that its `Result` repeats."""


class NothingStarted(GuardDied):
    """The command's guard has died before it read the request, or there was none: the command can be tried again."""


class Running:
    """One command, from the request to the result. Use it as a context manager.

    A driver waits for the descriptors in `watched`, until `due_at` at the latest, and calls `step` with those that are
    ready, until `is_over`. `stop` and `extend` can be called at any time and from any thread; `stop` from a signal
    handler, too.
    """

    def __init__(
        self,
        spec: Spec,
        show: Show,
        *,
        pace: Pace | None = None,
        whole: Iterable[Stream] = (),
        on_status: Callable[[Status | None, int], None] | None = None,
        started_s: float | None = None,
    ) -> None:
        """Check everything, and ask a guard to start the command.

        ``show`` gets the output as it comes, and notices about the command. Of the ``whole`` streams everything is
        kept, of the others what `Spec.max_output` allows. ``on_status`` is called from time to time with a status, and
        with the number of bytes the command has written; with None once the command is over and its output is not yet
        shown. The deadline counts from ``started_s`` (CLOCK_MONOTONIC), by default from now.

        Raises InputError, with nothing started, for what can't be run, and NothingStarted if there can't be a guard.
        """
        self._spec = spec
        self._started_s = time.monotonic() if started_s is None else started_s
        self._cleanup = contextlib.ExitStack()
        self._on_status = on_status
        self._status_at = math.inf if on_status is None else self._started_s + FIRST_STATUS_AFTER_S
        self._presses = 0
        self._messages_sent = 0
        self._is_closed = False
        self._idle_s = spec.idle
        self._batcher = Batcher(show, pace)
        self._done: Done | None = None
        self._swept: Swept | None = None
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            _open.add(self)
            self._prepare(whole)
            on_failure.pop_all()

    def _prepare(self, whole: Iterable[Stream]) -> None:
        spec = self._spec
        environment = preparation.environment(spec.env, spec.pty)
        program = preparation.program(spec.shell, environment)
        argv = preparation.arguments(spec.command, spec.shell, spec.strict, self._cleanup)
        until_sent = self._cleanup.enter_context(contextlib.ExitStack())
        cwd = preparation.directory(spec.cwd, until_sent)
        log = None if spec.log is None else Log(spec.log, self._cleanup)
        plumbing = Plumbing(spec.stdin, spec.pty, self._cleanup)
        status = rights.read_status()
        inheritance = Inheritance.current(status)
        request = Request(program, argv, environment, inheritance, spec.limits(self._started_s), spec.pty)
        drained = [file.fileno() for file, _ in plumbing.outputs] if spec.leftovers == "leave" else []
        self._take_guard(rights.fingerprint(status))
        self._backstop = Backstop(request.limits, self._guard)
        self._tell(request, [*plumbing.far_ends, cwd, *drained])
        # What can be done later is done after the request: the shell starts meanwhile.
        plumbing.hand_over()
        until_sent.close()
        self._terminal = plumbing.terminal
        self._feeder = plumbing.feeder
        limits: Mapping[Stream, float] = {
            stream: math.inf if stream in whole else spec.max_output for stream in ("stdout", "stderr")
        }
        self._streams = Streams(plumbing.outputs, limits, log, self._batcher)

    def _take_guard(self, fingerprint: tuple[object, ...]) -> None:
        try:
            self._guard = connection.take(fingerprint)
        except OSError as error:
            raise NothingStarted(
                f"the launcher, which supervises commands, can't be started: {describe_error(error)}"
            ) from None
        self._cleanup.callback(self._give_guard_back)

    def _give_guard_back(self) -> None:
        connection.give_back(self._guard, is_free=self._done is not None and self._done.is_free)

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
        events = select.POLLIN | (select.POLLOUT if self._guard.channel.has_unsent else 0)
        watched = {self._guard.channel.fileno(): events, **dict.fromkeys(self._streams.fds, select.POLLIN)}
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
        keyboard_at = math.inf if self._terminal is None else now + _END_OF_FILE_INTERVAL_S
        return min(batch_at, keyboard_at, self._status_at, self._idle_at, self._backstop.due_at)

    @property
    def is_over(self) -> bool:
        """Whether the command has ended and everything it wrote has been shown."""
        return self._done is not None and self._batcher.is_empty

    def step(self, ready: Collection[int]) -> None:
        """Do what is due. Raises GuardDied if the guard has died, NothingStarted if that can't have done anything."""
        for fd in ready:
            self._attend_to(fd)
        if self._done is None:
            self._do_what_is_due(time.monotonic(), has_heard=self._guard.channel.fileno() in ready)
        if self._done is not None and self._presses:
            self._batcher.show_no_more()  # after a press of stop, nothing waits for the pace of a browser
            return
        self._batcher.show_if_due()
        if self._done is not None and self._on_status is not None and self._batcher.due_in():
            self._on_status(None, self._streams.total_bytes)
            self._on_status = None

    def stop(self, presses: int) -> None:
        """Ask the guard to end the command: the user has pressed stop ``presses`` times in all."""
        self._presses = presses
        self._backstop.note_stop(presses, time.monotonic())
        self._tell(Interrupt(presses))

    def extend(self, timeout_s: float) -> None:
        """Move the deadline to ``timeout_s`` seconds after the start."""
        self._backstop.extend(timeout_s, time.monotonic())
        self._tell(Extend(timeout_s))

    def result(self) -> Result:
        """How it ended, once it `is_over`."""
        assert self._done is not None
        repeated: dict[str, Any] = {name: getattr(self._spec, name) for name in _REPEATED}
        return Result(
            **repeated, **self._done.ending._asdict(), **self._streams.outcome(), interrupted=self._presses > 0
        )

    # -- what has happened --------------------------------------------------------------------------------

    @property
    def _idle_at(self) -> float:
        return self._streams.heard_at + self._idle_s

    def _do_what_is_due(self, now: float, has_heard: bool) -> None:
        if now >= self._backstop.due_at and not has_heard and not self._backstop.act(now):
            connection.abandon(self._guard.launcher)
            raise self._death_of_guard()
        if now >= self._idle_at:
            self._idle_s = math.inf
            self._tell(Idle())
        if self._terminal is not None:
            self._terminal.keep_at_end_of_file()
        if now >= self._status_at:
            self._status_at = now + STATUS_INTERVAL_S
            self._tell(Ask())

    def _attend_to(self, fd: int) -> None:
        if fd in self._streams.fds:
            self._streams.read(fd)
        elif fd == self._guard.channel.fileno():
            self._listen()
        elif self._feeder is not None and fd == self._feeder.fileno() and not self._feeder.feed():
            self._feeder = None

    def _listen(self) -> None:
        try:
            with contextlib.suppress(OSError):  # the guard is dead; messages about its death are still to be read
                self._guard.channel.flush()
            messages = self._guard.receive()
        except EOFError as end:
            # If the request was all that was to be sent, the guard has not read the whole of it: nothing was started.
            lost = isinstance(end, UnreadError) or self._guard.channel.has_unsent
            unread = lost and self._messages_sent == 1 and not self._backstop.has_killed
            if unread:
                connection.abandon(self._guard.launcher)  # the fault may be in the launcher, and its next guard's, too
            raise self._death_of_guard(NothingStarted if unread else GuardDied) from None
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Status):
            if self._on_status is not None:
                self._on_status(message, self._streams.total_bytes)
        elif isinstance(message, Waiting):
            self._streams.notify(wording.describe_waiting(message.returncode, message.processes, message.total))
        elif isinstance(message, Swept):
            self._swept = message
        elif isinstance(message, Done) and not self._backstop.has_killed:
            # A report that comes after we have killed is ignored: it tells of our kill, not how the command ended. A
            # traced guard can still send one, because the death of its tracer sets it free.
            self._done = message
            # What the command wrote before it ended is in the pipes by now.
            if self._terminal is not None:
                self._terminal.hang_up()
            self._streams.drain()
            if self._terminal is not None and self._has_failed_at_a_prompt(self._terminal):
                self._streams.notify("stdin is empty; hand over --stdin NAME")

    def _has_failed_at_a_prompt(self, terminal: Terminal) -> bool:
        """Whether an empty stdin is probably why the command has failed. Without a terminal nothing is known of it: no
        read of /dev/null is seen, and programs treat a pipe or a file otherwise."""
        assert self._done is not None
        ending = self._done.ending
        has_failed = ending.reason == "exited" and (ending.returncode or 0) > 0
        return has_failed and self._spec.stdin is None and (terminal.end_was_read or self._streams.is_within_a_line)

    def _death_of_guard(self, kind: type[GuardDied] = GuardDied) -> GuardDied:
        self._streams.drain()
        self._batcher.show_no_more()
        details = connection.errors.take()
        last_line = details.rpartition("\n")[2]
        debuglog.note("caller", f"the guard has died {last_line}")
        swept = None if self._swept is None else (self._swept.killed, self._swept.survivors, self._swept.certain)
        killed = self._backstop.killed if self._backstop.has_killed else None
        return kind(wording.describe_death_of_guard(swept, last_line, killed), details)

    def _tell(self, message: Message, fds: Iterable[int] = ()) -> None:
        if not self._is_closed:
            self._messages_sent += 1
            with contextlib.suppress(OSError):  # the guard is dead: the next read gets end of file
                self._guard.channel.send(message, list(fds))


_open: weakref.WeakSet[Running] = weakref.WeakSet()


def _close_copies() -> None:
    """In a forked child, after `Connection.forget`: the commands belong to the parent. A copy of the pipe to a
    command's stdin would also hide its end of file."""
    for running in list(_open):
        running.close()


os.register_at_fork(after_in_child=_close_copies)
