"""The kernel's side of one command: send the request, pass output and interrupts on, await the end.

It decides nothing about killing but "please end it now". Whatever goes wrong in here, the channel is
closed on the way out, and the guard takes that for the death of the kernel: one release path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import FileIO
from types import FrameType

from .connection import connection
from .inheritance import Inheritance
from .options import InputError
from .output import Batcher, Capture, Show, Stream
from .protocol import Channel, Done, Interrupt, Message, Request, Swept, Waiting
from .result import GuardDied, Result, count, describe_exit, name_processes

_READ_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_ARGUMENT_BYTES = 100_000
"""A longer script goes through a file: Linux takes 128 KiB in one argument, execve(2)."""

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """What to run and how. Times are seconds; ``environment`` is added to the kernel's own."""

    script: str
    timeout_s: float
    signal: signal.Signals = signal.SIGTERM
    grace_s: float = 2.0
    leftovers: str = "wait"
    shell: str = "bash"
    strict: bool = False
    cwd: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def supervise(command: Command, show: Show, notify: Notify) -> Result:
    """Run it to its end. ``show`` gets its output as it comes, ``notify`` a line where there is something to say.

    Raises InputError, with nothing started, for what can't be run, and GuardDied if the supervision was
    killed. An interrupt on the main thread ends the command and is told by ``Result.interrupted``.
    """
    with Interrupts() as interrupts, contextlib.ExitStack() as cleanup:
        environment = _environment(command.environment)
        argv = _argv(command, environment, cleanup)
        cwd = _directory(command.cwd, cleanup)
        stdin = cleanup.enter_context(FileIO(os.devnull))
        stdout, stdout_writing = _pipe(cleanup)
        stderr, stderr_writing = _pipe(cleanup)
        descriptors = [stdin.fileno(), stdout_writing.fileno(), stderr_writing.fileno(), cwd]
        if command.leftovers == "leave":
            descriptors += [stdout.fileno(), stderr.fileno()]
        request = Request(
            program=argv[0],
            argv=argv,
            environment=environment,
            inheritance=Inheritance.current(),
            timeout_s=command.timeout_s,
            grace_s=command.grace_s,
            signal=command.signal,
            leftovers=command.leftovers,
        )
        with contextlib.closing(connection.take()) as channel:
            with contextlib.suppress(BrokenPipeError):  # the guard is dead: the loop will meet the end of file
                channel.send(request, descriptors)
                interrupts.forward_to(channel)
            stdout_writing.close()
            stderr_writing.close()
            run = _Run(channel, stdout, stderr, show, notify)
            run.loop()
        connection.prepare()
    return run.result(command, interrupts.count > 0)  # counted to the last moment of our handler


class Interrupts:
    """SIGINT while a command runs: counted and passed on to its guard, never raised in the middle of our work.

    The handler of before is put back at the end. Off the main thread Python allows no handler, and there a
    command ends by its deadline. An ignored SIGINT stays ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._channel: Channel | None = None
        self._previous: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel = None
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def forward_to(self, channel: Channel) -> None:
        """From now on; what has come before is sent now. Only after the request, which it must not cut in two."""
        self._channel = channel
        if self.count:
            self._send()

    def _received(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._send()

    def _send(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(Interrupt(self.count))


class _Run:
    """The loop over the command's output and the guard's words, and what it has learned."""

    def __init__(self, channel: Channel, stdout: FileIO, stderr: FileIO, show: Show, notify: Notify) -> None:
        self._channel = channel
        self._files: dict[int, tuple[FileIO, Stream]] = {
            stdout.fileno(): (stdout, "stdout"),
            stderr.fileno(): (stderr, "stderr"),
        }
        self._captures: dict[Stream, Capture] = {"stdout": Capture(), "stderr": Capture()}
        self._batcher = Batcher(show)
        self._notify = notify
        self._end: Done | None = None
        self._swept: Swept | None = None
        self._poller = select.poll()
        for readable in (channel, stdout, stderr):
            self._poller.register(readable, select.POLLIN)

    def loop(self) -> None:
        """Until the guard has reported. What was written before it is in the pipes by then, and read."""
        while self._end is None:
            due_s = self._batcher.due_in()
            for fd, _ in self._poller.poll(None if due_s is None else due_s * 1000):
                if fd in self._files:
                    self._read(fd)
                else:
                    self._listen()
            self._batcher.show_if_due()
        self._drain()

    def _read(self, fd: int) -> bool:
        file, stream = self._files[fd]
        data = file.read(_READ_BYTES)
        if data:
            self._batcher.add(stream, self._captures[stream].feed(data))
        elif data is not None:
            self._poller.unregister(fd)
            del self._files[fd]
        return bool(data)

    def _drain(self) -> None:
        """What is in the pipes, without waiting for their end: what was left running may keep them open."""
        for fd in list(self._files):
            os.set_blocking(fd, False)
            while self._read(fd):
                self._batcher.show_if_due()
        for stream, capture in self._captures.items():
            self._batcher.add(stream, capture.feed(b"", final=True))
        self._batcher.show()

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
        elif isinstance(message, Swept):
            self._swept = message
        elif isinstance(message, Waiting):
            self._batcher.show()
            names = name_processes(message.processes, message.total)
            self._notify(
                f"the shell has ended ({describe_exit(message.returncode)}); "
                f"waiting for {count(message.total, 'process')}: {names}"
            )

    def result(self, command: Command, interrupted: bool) -> Result:
        stdout, stderr = self._captures["stdout"], self._captures["stderr"]
        end = self._end
        assert end is not None
        return Result(
            command=command.script,
            timeout=command.timeout_s,
            returncode=end.returncode,
            reason=end.reason,
            interrupted=interrupted,
            stdout=stdout.text,
            stderr=stderr.text,
            stdout_bytes=stdout.bytes,
            stderr_bytes=stderr.bytes,
            duration=end.duration_s,
            cpu_time=end.cpu_s,
            max_rss=end.max_rss_bytes,
            pid=end.pid,
            signals=tuple(end.signals),
            survivors=tuple(end.survivors),
            error=end.error,
        )


def _tell_of_death(swept: Swept | None) -> str:
    died = "the guard of this command has died"
    if swept is None:
        return f"{died}, and the launcher too: what the command has started may still run"
    ended = f"{died}; the launcher has sent SIGKILL to {count(swept.killed, 'process')} it left"
    if swept.survivors:
        return f"{ended}; could not be killed: {name_processes(swept.survivors)}"
    return f"{ended}; all are gone"


def _environment(added: Mapping[str, str]) -> dict[bytes, bytes]:
    environment = dict(os.environb)
    for name, value in added.items():
        if "\0" in value:
            raise InputError(f"--env {name}: a value can't hold a NUL byte; take it out")
        environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def _argv(command: Command, environment: Mapping[bytes, bytes], cleanup: contextlib.ExitStack) -> list[bytes]:
    """The shell with its script. The script is never on stdin, where a ``read`` in it would eat its next lines."""
    if not command.script.strip():
        raise InputError("there is nothing to run; write a command, for example: make test")
    if "\0" in command.script:
        line = command.script[: command.script.index("\0")].count("\n") + 1
        raise InputError(
            f"the script has a NUL byte in line {line}, which no shell can take; write it as $'\\0' or \\0"
        )
    script = command.script.encode("utf-8", "surrogateescape")
    argv = [_program(command.shell, environment), *([b"-eu", b"-o", b"pipefail"] if command.strict else [])]
    if len(script) <= _ARGUMENT_BYTES:
        return [*argv, b"-c", script]
    return [*argv, os.fsencode(_file_holding(script, cleanup))]


def _program(shell: str, environment: Mapping[bytes, bytes]) -> bytes:
    path = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    found = shutil.which(os.path.expanduser(shell), path=path)
    if found is None and shell == "bash":
        found = shutil.which("sh", path=path)
    if found is None:
        raise InputError(f"--shell: there is no program {shell!r}; write for example bash, sh or /bin/zsh")
    return os.fsencode(os.path.abspath(found))


def _file_holding(script: bytes, cleanup: contextlib.ExitStack) -> str:
    """A path to read the script from, for as long as the command runs."""
    if hasattr(os, "memfd_create"):  # has no name that a killed kernel could leave behind
        memory = cleanup.enter_context(FileIO(os.memfd_create("script"), "w"))
        memory.write(script)
        return f"/proc/{os.getpid()}/fd/{memory.fileno()}"
    file = cleanup.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115
    file.write(script)
    file.flush()
    return file.name


def _directory(cwd: str | None, cleanup: contextlib.ExitStack) -> int:
    """The directory to run in, open: it stays the right one even if it is renamed or removed meanwhile."""
    flags = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    try:
        fd = os.open("." if cwd is None else os.path.expanduser(cwd), flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"--cwd {cwd}: {reason}; write the path of a directory, for example --cwd /tmp") from None
    cleanup.callback(os.close, fd)
    return fd


def _pipe(cleanup: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    ends = cleanup.enter_context(FileIO(reading)), cleanup.enter_context(FileIO(writing, "w"))
    with contextlib.suppress(OSError, AttributeError):  # over the user's quota, or not Linux
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ends
