"""The supervision of the command of ``pgtimeout``: the same as for a cell, but the channel leads to the parent, and a
signal that the parent gets is one for the command."""

from __future__ import annotations

import os
import signal

from ..helper import prctl, signal_mask
from ..helper.attributes import Attributes
from ..helper.childwatch import ChildWatch
from ..helper.link import Link
from ..helper.supervision import Supervision
from ..shared import debuglog
from ..shared.protocol import Done, Extend, Idle, Interrupt, Limits, Message, Request, Sent, Signal, Terminate, Waiting
from ..shared.records import Ending
from ..shared.walk import make_room
from ..wording import describe_result, describe_waiting, visible
from .arguments import Arguments
from .parent import SILENCE, ending

_GENTLE = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""What asks this program to end, beside SIGINT: the command gets that signal, then the grace, then SIGKILL."""


def supervise(
    arguments: Arguments, started_s: float, channel: int, adopts: bool, shell: int, returncode: int | None
) -> None:
    """Returns when nothing is left of the command, or only what is left running on purpose. ``shell`` is its first
    process, and ``returncode`` that of it if it has ended."""
    signal_mask.block_signals()
    _let_go_of_files(channel)
    debuglog.open_from_environment()
    make_room()
    prctl.be_continued_at_death_of_parent()
    limits = Limits(
        started_s,
        arguments.timeout,
        arguments.kill_after,
        arguments.signal,
        arguments.leftovers,
        arguments.memory,
        arguments.cpu,
        arguments.processes,
    )
    attributes = Attributes.current()
    argv = [os.fsencode(word) for word in arguments.command]
    request = Request(argv[0], argv, {}, attributes.inheritance, limits, False, False, arguments.verbose)
    link = Link(Parley(channel, arguments), None)
    children = ChildWatch()
    children.wake()  # for what has ended before SIGCHLD was watched for
    Supervision([request], attributes, link, children, adopts, shell, returncode).run()


def _let_go_of_files(channel: int) -> None:
    """The command has its files. Here they would keep its readers waiting when it has closed them, or is gone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    try:
        others = set(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        others = set(range(256))
    for fd in others - {0, 1, 2, channel}:
        try:
            os.close(fd)
        except OSError:  # that of the list itself
            continue
    os.chdir("/")


class Parley:
    """The end of a `Channel`, for the guard: it takes bytes, which are signals, for messages, and writes what the
    parent is to show and to do."""

    def __init__(self, channel: int, arguments: Arguments) -> None:
        os.set_blocking(channel, False)
        self.fds: list[int] = []
        self._channel = channel
        self._arguments = arguments
        self._name = visible(os.path.basename(arguments.command[0]))
        self._unsent = b""
        self._presses = 0
        self._is_ending = False

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def fileno(self) -> int:
        return self._channel

    def receive(self) -> list[Message]:
        try:
            orders = os.read(self._channel, 4096)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            orders = b""
        if not orders:
            raise EOFError("the parent has closed the channel")
        return [self._message(order) for order in orders]

    def _message(self, order: int) -> Message:
        if order == SILENCE:
            return Idle()
        if order == signal.SIGALRM:
            return Extend(0.0)  # the deadline is now, as in GNU timeout
        if order == signal.SIGINT and not self._arguments.foreground:
            self._presses += 1
            return Interrupt(self._presses)
        if order in _GENTLE and not self._is_ending:
            self._is_ending = True
            return Terminate(False, order)
        return Signal(order)

    def send(self, message: Message) -> None:
        if isinstance(message, Sent):
            name = message.name.removeprefix("SIG").removeprefix("signal ")
            self._write(f"say sending signal {name} to command '{self._name}'\n".encode())
        elif isinstance(message, Waiting):
            text = describe_waiting(*message, first=f"{self._name!r}", whole="pgtimeout")
            self._write(f"say {text}\n".encode())
        elif isinstance(message, Done):
            self._write(self._end(message.ending))

    def _end(self, end: Ending) -> bytes:
        lines = b""
        if (end.survivors and end.signals) or end.reason not in ("exited", "timeout", "interrupted", "terminated"):
            limit_s = self._arguments.idle if end.reason == "idle" else end.timeout
            sentence = describe_result(
                end.reason,
                end.returncode,
                limit_s,
                end.exceeded,
                end.error,
                end.signals,
                end.survivors,
                end.certain,
                end.duration,
                "",
            )
            lines = f"say {sentence}\n".encode("utf-8", "backslashreplace")
        if end.survivors:
            lines += b"linger\n"
        timed_out = end.reason in ("timeout", "idle") or end.exceeded is not None
        return lines + ending(end.returncode, timed_out, self._arguments.preserve_status)

    def _write(self, data: bytes) -> None:
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._channel, self._unsent) :]
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._channel)
