"""The guard of one command, as the caller deals with it: take it, tell it, hear it, notice its death or silence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from .. import wording
from ..result import GuardDied
from ..shared import debuglog
from ..shared.channel import UnreadError
from ..shared.errors import describe_error
from ..shared.protocol import Done, Extend, Interrupt, Limits, Message, Swept, Terminate
from .backstop import Backstop
from .connection import connection


class NothingStarted(GuardDied):
    """The command's guard has died before it read the request, or there was none: the command can be tried again."""


class Supervisor:
    """A guard, taken for one command. ``done`` is its report, once the command is over."""

    def __init__(self, fingerprint: tuple[object, ...], limits: Limits, cleanup: contextlib.ExitStack) -> None:
        """``fingerprint`` are the rights of this process: see `rights`. The guard is given back with ``cleanup``.
        Raises NothingStarted if there can't be one."""
        self.done: Done | None = None
        try:
            self._guard = connection.take(fingerprint)
        except OSError as error:
            raise NothingStarted(
                f"the launcher, which supervises commands, can't be started: {describe_error(error)}"
            ) from None
        cleanup.callback(self._give_back)
        self._backstop = Backstop(limits, self._guard)
        self._swept: Swept | None = None
        self._messages_sent = 0

    def _give_back(self) -> None:
        connection.give_back(self._guard, is_free=self.done is not None and self.done.is_free)

    def fileno(self) -> int:
        return self._guard.channel.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether to wait until its descriptor is writable, too."""
        return self._guard.channel.has_unsent

    @property
    def due_at(self) -> float:
        """When to `act`, unless it has been heard."""
        return self._backstop.due_at

    def tell(self, message: Message, fds: Iterable[int] = ()) -> None:
        """Send a message. Does nothing if the guard is dead: the next read tells that."""
        now = time.monotonic()
        if isinstance(message, Interrupt):
            self._backstop.note_stop(message.presses, now)
        elif isinstance(message, Extend):
            self._backstop.extend(message.timeout, now)
        elif isinstance(message, Terminate):
            self._backstop.note_termination(message.at_once, now)
        self._messages_sent += 1
        with contextlib.suppress(OSError):
            self._guard.channel.send(message, list(fds))

    def receive(self) -> list[Message]:
        """What it says about the command. Raises GuardDied; NothingStarted, if it can't have done anything."""
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
            raise self._death(NothingStarted if unread else GuardDied) from None
        for message in messages:
            if isinstance(message, Swept):
                self._swept = message
            elif isinstance(message, Done) and not self._backstop.has_killed:
                # A report that comes after we have killed is ignored: it tells of our kill, not how the command ended.
                # A traced guard can still send one, because the death of its tracer sets it free.
                self.done = message
        return messages

    def act(self, now: float) -> None:
        """It does not answer, and it is `due_at`. Raises GuardDied if nothing more can be done."""
        if not self._backstop.act(now):
            connection.abandon(self._guard.launcher)
            raise self._death(GuardDied)

    def _death(self, kind: type[GuardDied]) -> GuardDied:
        details = connection.errors.take()
        last_line = details.rpartition("\n")[2]
        debuglog.note("caller", f"the guard has died {last_line}")
        swept = None if self._swept is None else (self._swept.killed, self._swept.survivors, self._swept.certain)
        killed = self._backstop.killed if self._backstop.has_killed else None
        return kind(wording.describe_death_of_guard(swept, last_line, killed), details)
