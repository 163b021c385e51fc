"""The descriptors of one command: its stdin, stdout and stderr as pipes or a terminal, and the log file.

The far ends go to the guard. The near ends stay here, and whoever drives the command says when one is ready.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import struct
import termios
from io import FileIO

from ..shared.errors import describe_error
from ..values import InputError
from .output import Stream

PIPE_BYTES = 1 << 20
NARROW_PIPE_BYTES = 1 << 16
"""What a pipe holds at first."""
_END_OF_TRANSMISSION = b"\x04"


class Plumbing:
    """What a command is connected to. Everything is closed with ``cleanup``."""

    def __init__(self, stdin: bytes | None, pty: bool, cleanup: contextlib.ExitStack) -> None:
        self.terminal: Terminal | None = None
        self.feeder: Feeder | None = None
        self.outputs: list[tuple[FileIO, Stream]] = []
        self._far: list[FileIO] = []
        if pty:
            self.terminal = terminal = Terminal(cleanup)
            self.outputs = [(terminal.master, "stdout")]
            self._far = [terminal.slave] * 3
        else:
            stdout, far_stdout = _pipe(cleanup)
            stderr, far_stderr = _pipe(cleanup)
            self.outputs = [(stdout, "stdout"), (stderr, "stderr")]
            self._far = [cleanup.enter_context(FileIO(os.devnull)), far_stdout, far_stderr]
        if stdin is not None:
            self._far[0], near_stdin = _pipe(cleanup)
            self.feeder = Feeder(near_stdin, stdin)

    @property
    def far_ends(self) -> list[int]:
        """stdin, stdout and stderr for the command."""
        return [file.fileno() for file in self._far]

    def hand_over(self) -> None:
        """The guard has the far ends: close ours, or a pipe would never end. (We keep the terminal's, see there.)"""
        for file in self._far:
            if self.terminal is None or file is not self.terminal.slave:
                file.close()


class Feeder:
    """Writes a value to the command's stdin as fast as it is read. A command that reads nothing stalls nobody."""

    def __init__(self, file: FileIO, data: bytes) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file
        self._left = memoryview(data)

    def fileno(self) -> int:
        return self._file.fileno()

    def feed(self) -> bool:
        """Write what fits. False when that was the last of it, or nobody reads any more: then it is closed."""
        with contextlib.suppress(BrokenPipeError):
            if self._left:
                self._left = self._left[self._file.write(self._left) or 0 :]
            if self._left:
                return True
        self._file.close()
        return False


class Terminal:
    """A pseudo-terminal: pty(7). Newlines stay as they are written, and nothing is echoed.

    We hold the far end open, too: the near end reads as broken whenever nobody does, and the command may
    have processes that open the terminal later.
    """

    def __init__(self, cleanup: contextlib.ExitStack) -> None:
        near, far = os.openpty()
        self.master = cleanup.enter_context(FileIO(near, "r+"))
        self.slave = cleanup.enter_context(FileIO(far, "r+"))
        os.set_blocking(near, False)
        attributes = termios.tcgetattr(far)
        attributes[1] &= ~termios.ONLCR
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(far, termios.TCSANOW, attributes)
        columns, lines = shutil.get_terminal_size()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def keep_at_end_of_file(self) -> None:
        """See to it that whoever reads the keyboard meets the end of file instead of waiting for nobody.

        The terminal forgets an end of file once it has been read, so this has to be done again and again.
        """
        poller = select.poll()  # not select(2), which takes no descriptor above 1023
        poller.register(self.slave, select.POLLIN)
        if not poller.poll(0):  # with --stdin nobody reads this one: then once is enough
            with contextlib.suppress(BlockingIOError):
                self.master.write(_END_OF_TRANSMISSION)

    def hang_up(self) -> None:
        """Let go of the far end. Then what the command wrote last is followed by an error, not by a pause."""
        self.slave.close()


class Log:
    """The file of ``--log``: gets every byte as it comes. When it takes no more, the command goes on without it."""

    def __init__(self, path: str, cleanup: contextlib.ExitStack) -> None:
        self.path = path
        self.error = ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            # Not blocking, because a FIFO that nobody reads would let us wait here for ever.
            fd = os.open(os.path.expanduser(path), flags | os.O_NONBLOCK, 0o666)
        except (OSError, ValueError) as error:
            why = "nobody reads this FIFO" if getattr(error, "errno", 0) == errno.ENXIO else describe_error(error)
            raise InputError(f" {path}: {why}", "make.log", field="log") from None
        self._file = cleanup.enter_context(FileIO(fd, "w"))

    def write(self, data: memoryview) -> bool:
        """False if the log is incomplete from now on, once."""
        while data and not self.error:
            try:
                written = self._file.write(data)
            except OSError as error:
                written, self.error = 0, describe_error(error)
            if written is None:
                written, self.error = 0, "its reader is too slow"
            data = data[written:]
            if self.error:
                return False
        return True


def widen(file: FileIO) -> None:
    """More room in a pipe that was found full, so that its writer waits less often: F_SETPIPE_SZ, pipe(7)."""
    with contextlib.suppress(OSError, AttributeError):  # over the user's quota, a terminal, or not Linux
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _pipe(cleanup: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return cleanup.enter_context(FileIO(reading)), cleanup.enter_context(FileIO(writing, "w"))
