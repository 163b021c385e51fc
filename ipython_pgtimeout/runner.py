"""The kernel's side of one command: send the request, pass output and interrupts on, await the end.

It decides nothing about killing but "please end it now". Whatever goes wrong in here, the channel is
closed on the way out, and the guard takes that for the death of the kernel: one release path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO

from . import handover
from .connection import connection
from .display import LiveStatus
from .inheritance import Inheritance
from .interrupts import Interrupts
from .output import Batcher, Keeper, Pace, Show, Stream
from .plumbing import NARROW_PIPE_BYTES, PIPE_BYTES, Log, Plumbing, reason, widen
from .protocol import Ask, Channel, Done, Idle, Message, Request, Status, Swept, Waiting
from .result import GuardDied, Result, count, describe_exit, name_processes

_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")
_END_OF_FILE_INTERVAL_S = 0.1
_MAX_WAIT_S = 3600.0
_NEVER = float("inf")


@dataclass(frozen=True)
class Command:
    """What to run and how. Times are seconds; ``environment`` is added to the kernel's own; ``stdin`` is what
    the command can read. Of each stream ``max_output_bytes`` are shown and kept, of ``whole`` ones everything."""

    script: str
    timeout_s: float
    signal: signal.Signals
    grace_s: float
    idle_s: float
    leftovers: str
    shell: str
    strict: bool
    cwd: str | None
    environment: Mapping[str, str]
    stdin: bytes | None
    pty: bool
    log: str | None
    max_output_bytes: float
    whole: frozenset[Stream] = field(default=frozenset())


def supervise(command: Command, show: Show, pace: Pace | None = None, live: LiveStatus | None = None) -> Result:
    """Run it to its end. ``show`` gets its output, and notices where there is something to say, as they come.

    Raises InputError, with nothing started, for what can't be run, and GuardDied if the supervision was
    killed. An interrupt on the main thread ends the command and is told by ``Result.interrupted``.
    """
    started_s = time.monotonic()
    with Interrupts() as interrupts, contextlib.ExitStack() as cleanup:
        environment = handover.environment_with(command.environment)
        if command.pty:
            environment.setdefault(b"TERM", b"xterm-256color")
        program = handover.program(command.shell, environment)
        argv = handover.arguments(command.script, command.shell, command.strict, cleanup)
        cwd = handover.directory(command.cwd, cleanup)
        log = None if command.log is None else Log(command.log, cleanup)
        plumbing = Plumbing(command.stdin, command.pty, cleanup)
        request = Request(
            started_s=started_s,
            program=program,
            argv=argv,
            environment=environment,
            inheritance=Inheritance.current(),
            timeout_s=command.timeout_s,
            grace_s=command.grace_s,
            signal=command.signal,
            leftovers=command.leftovers,
            terminal=command.pty,
        )
        drained = [file.fileno() for file, _ in plumbing.outputs] if command.leftovers == "leave" else []
        is_free = False
        channel = _take_guard()
        try:
            with contextlib.suppress(BrokenPipeError):  # the guard is dead: the loop will meet the end of file
                channel.send(request, [*plumbing.far_ends, cwd, *drained])
                interrupts.forward_to(channel)
            # What can be done later is done after the request: the shell starts meanwhile.
            plumbing.hand_over()
            run = _Run(command, interrupts, channel, plumbing, log, Batcher(show, pace), live)
            is_free = run.loop()
        finally:
            interrupts.forward_to(None)
            connection.give_back(channel, is_free)
    return run.result(interrupts.count > 0)  # counted to the last moment of our handler


def _take_guard() -> Channel:
    try:
        return connection.take()
    except OSError as error:
        raise GuardDied(f"the launcher, which supervises commands, can't be started: {reason(error)}") from None


class _Run:
    """The loop over the command's output and the guard's words, and what it has learned."""

    def __init__(
        self,
        command: Command,
        interrupts: Interrupts,
        channel: Channel,
        plumbing: Plumbing,
        log: Log | None,
        batcher: Batcher,
        live: LiveStatus | None,
    ) -> None:
        self._command = command
        self._interrupts = interrupts
        self._channel = channel
        self._log = log
        self._terminal = plumbing.terminal if plumbing.feeder is None else None
        self._feeder = plumbing.feeder
        self._files: dict[int, tuple[FileIO, Stream]] = {file.fileno(): (file, name) for file, name in plumbing.outputs}
        limits = {name: _NEVER if name in command.whole else command.max_output_bytes for name in _STREAMS}
        self._keepers = {name: Keeper(limit) for name, limit in limits.items()}
        self._batcher = batcher
        self._live = live
        self._end: Done | None = None
        self._swept: Swept | None = None
        self._idle_s = command.idle_s
        self._idle_at = time.monotonic() + self._idle_s
        self._poller = select.poll()
        for fd in (channel.fileno(), interrupts.fileno(), *self._files):
            if fd >= 0:
                self._poller.register(fd, select.POLLIN)
        if self._feeder is not None:
            self._poller.register(self._feeder, select.POLLOUT)

    def loop(self) -> bool:
        """Until the guard has reported, and whether it is free. What was written before is in the pipes by then,
        and read."""
        while self._end is None:
            ready = self._poller.poll(self._wait_ms())
            for fd, _ in ready:
                if fd in self._files:
                    self._read(fd)
                elif fd == self._channel.fileno():
                    self._listen()
                elif fd == self._interrupts.fileno():
                    self._interrupts.clear()
                else:
                    self._feed(fd)
            if not ready and time.monotonic() >= self._idle_at:
                self._end_for_silence()
            if self._terminal is not None:
                self._terminal.keep_at_end_of_file()
            if self._live is not None and time.monotonic() >= self._live.due_at:
                self._live.asked()
                self._tell(Ask())
            self._batcher.show_if_due()
        self._drain()
        return self._end.is_free

    def _wait_ms(self) -> float:
        """Until the next thing is due."""
        due_s = [self._idle_at - time.monotonic(), _MAX_WAIT_S]
        if (batch_s := self._batcher.due_in()) is not None:
            due_s.append(batch_s)
        if self._live is not None:
            due_s.append(self._live.due_at - time.monotonic())
        if self._terminal is not None:
            due_s.append(_END_OF_FILE_INTERVAL_S)
        return max(0.0, min(due_s)) * 1000

    def _read(self, fd: int) -> int:
        """How many bytes came; 0 at the end of the stream, or if there are none just now."""
        file, stream = self._files[fd]
        keeper = self._keepers[stream]
        room = keeper.room()
        size = _read_into(file, room)
        if size:
            if size == NARROW_PIPE_BYTES:
                widen(file)
            self._idle_at = time.monotonic() + self._idle_s
            if self._log is not None and not self._log.write(room[:size]):
                self._notify(f"--log {self._command.log} is incomplete from here on: {self._log.error}")
            was_in_tail = keeper.in_tail
            self._batcher.add(stream, keeper.keep(size))
            if keeper.in_tail and not was_in_tail:
                self._notify(f"{stream} goes on; its end is shown when the command has ended (--max-output)")
        elif size is not None:
            self._poller.unregister(fd)
            del self._files[fd]
        return size or 0

    def _drain(self) -> None:
        """What is in the pipes, without waiting for their end: what was left running may keep them open, and go on
        writing, so that no more is read than a pipe can hold."""
        if self._terminal is not None:
            self._terminal.hang_up()
        for fd in list(self._files):
            os.set_blocking(fd, False)
            left = PIPE_BYTES
            while left > 0 and (size := self._read(fd)):
                left -= size
                self._batcher.show_if_due()
        for stream, keeper in self._keepers.items():
            self._batcher.add(stream, keeper.finish())
        self._batcher.finish()

    def _notify(self, notice: str) -> None:
        self._batcher.add("notice", notice + "\n")

    def _feed(self, fd: int) -> None:
        if self._feeder is not None and not self._feeder.feed():
            self._poller.unregister(fd)

    def _end_for_silence(self) -> None:
        self._idle_s = self._idle_at = _NEVER
        self._tell(Idle())

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the guard is dead: the loop will meet the end of file
            self._channel.send(message)

    def _listen(self) -> None:
        try:
            messages = self._channel.receive()
        except EOFError:
            self._drain()
            raise GuardDied(_tell_of_death(self._swept)) from None
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Done):
            self._end = message
        elif isinstance(message, Status) and self._live is not None:
            self._live.update(message, sum(keeper.total for keeper in self._keepers.values()))
        elif isinstance(message, Swept):
            self._swept = message
        elif isinstance(message, Waiting):
            names = name_processes(message.processes, message.total)
            self._notify(
                f"the shell has ended ({describe_exit(message.returncode)}); "
                f"waiting for {count(message.total, 'process')}: {names}"
            )

    def result(self, interrupted: bool) -> Result:
        end, command = self._end, self._command
        assert end is not None
        stdout, stderr = self._keepers["stdout"], self._keepers["stderr"]
        return Result(
            command=command.script,
            timeout=command.timeout_s,
            idle=command.idle_s,
            returncode=end.returncode,
            reason=end.reason,
            interrupted=interrupted,
            stdout=stdout.text,
            stderr=stderr.text,
            truncated=bool(stdout.left_out or stderr.left_out),
            stdout_bytes=stdout.total,
            stderr_bytes=stderr.total,
            log_error="" if self._log is None else self._log.error,
            duration=end.duration_s,
            cpu_time=end.cpu_s,
            max_rss=end.max_rss_bytes,
            pid=end.pid,
            signals=tuple(end.signals),
            survivors=tuple(end.survivors),
            processes=tuple(end.processes),
            error=end.error,
        )


def _read_into(file: FileIO, room: memoryview) -> int | None:
    """How many bytes came: 0 at the end of file, None if there are none just now."""
    try:
        return file.readinto(room)
    except OSError as error:
        if error.errno == errno.EIO:  # a terminal that nobody holds open any more: its end of file
            return 0
        raise


def _tell_of_death(swept: Swept | None) -> str:
    died = "the guard of this command has died"
    if swept is None:
        return f"{died}, and the launcher too: what the command has started may still run"
    ended = f"{died}; the launcher has sent SIGKILL to {count(swept.killed, 'process')} it left"
    if swept.survivors:
        return f"{ended}; could not be killed: {name_processes(swept.survivors)}"
    return f"{ended}; all are gone"
