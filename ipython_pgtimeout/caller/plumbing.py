"""The descriptors of one command: its stdin, stdout and stderr as pipes or a terminal, and the log file.

The far ends go to the guard. The near ends stay here, and the driver of the command says when one is ready.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
from io import FileIO

from ..shared.errors import describe_error
from ..spec import Wiring
from ..values import InputError
from .output import Stream

PIPE_BYTES = 1 << 20
NARROW_PIPE_BYTES = 1 << 16
"""What a pipe holds at first."""
_END_OF_TRANSMISSION = b"\x04"


class Plumbing:
    """The pipes or the terminal of one command. Everything is closed with ``cleanup``."""

    def __init__(self, stdin: bytes | None, pty: bool, wiring: Wiring, cleanup: contextlib.ExitStack) -> None:
        self.terminal: Terminal | None = None
        self.feeder: Feeder | None = None
        self.outputs: list[tuple[FileIO, Stream]] = []
        self._far: list[FileIO] = []
        if pty or wiring == "plain terminal":
            self.terminal = terminal = Terminal(cleanup) if pty else PlainTerminal(cleanup)
            self.outputs = [(terminal.master, "stdout")]
            self._far = [terminal.slave] * 3
        else:
            stdout, far_stdout = _pipe(cleanup)
            self.outputs = [(stdout, "stdout")]
            self._far = [cleanup.enter_context(FileIO(os.devnull)), far_stdout, far_stdout]
            if wiring == "pipes":
                stderr, self._far[2] = _pipe(cleanup)
                self.outputs.append((stderr, "stderr"))
        if stdin is not None:
            self._far[0], near_stdin = _pipe(cleanup)
            self.feeder = Feeder(near_stdin, stdin)

    @property
    def far_ends(self) -> list[int]:
        """stdin, stdout and stderr for the command."""
        return [file.fileno() for file in self._far]

    def hand_over(self) -> None:
        """Close our copies of the far ends once the guard has them: otherwise the pipes would never reach end of file.
        The terminal's is kept: see `Terminal`."""
        for file in self._far:
            if self.terminal is None or file is not self.terminal.slave:
                file.close()


class Feeder:
    """Writes a value to the command's stdin as fast as it is read. Never blocks, so that a command may read nothing."""

    def __init__(self, file: FileIO, data: bytes) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file
        self._left = memoryview(data)

    def fileno(self) -> int:
        return self._file.fileno()

    def feed(self) -> bool:
        """Write what fits now. Returns False when all is written or the pipe has no reader: then `close` it."""
        with contextlib.suppress(BrokenPipeError):
            if self._left:
                self._left = self._left[self._file.write(self._left) or 0 :]
            return bool(self._left)
        return False

    def close(self) -> None:
        """The end of the command's stdin. Call it when the descriptor is waited for no more: see `Drivable.release`."""
        self._file.close()


class Terminal:
    """A pseudo-terminal: pty(7). Newlines stay as they are written, nothing is echoed, and the keyboard is at end of
    file.

    The far end is held open here, too: reading the near end fails while no process has the far end open, and the
    command may have processes that open the terminal later.
    """

    has_end_of_file = True
    """Whether its keyboard is at end of file, by `keep_at_end_of_file`."""

    def __init__(self, cleanup: contextlib.ExitStack) -> None:
        near, far = os.openpty()
        self.master = cleanup.enter_context(FileIO(near, "r+"))
        self.slave = cleanup.enter_context(FileIO(far, "r+"))
        os.set_blocking(near, False)
        columns, lines = self._set_up(far)
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.end_was_read = False
        """Whether a process has read an end of file, or discarded it, as far as seen: a hang-up can come too soon."""
        self._has_typed = False

    def _set_up(self, far: int) -> tuple[int, int]:
        """Set its modes. Returns how many columns and lines it has."""
        attributes = termios.tcgetattr(far)
        attributes[1] &= ~termios.ONLCR
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(far, termios.TCSANOW, attributes)
        import shutil  # here and not above: it takes a tenth of importing this package

        return shutil.get_terminal_size()

    def keep_at_end_of_file(self) -> None:
        """Type an end of file, so that a program that reads the keyboard does not wait for ever.

        The terminal forgets an end of file once it has been read, so this has to be done again and again.
        """
        poller = select.poll()  # not select(2), which takes no descriptor above 1023
        poller.register(self.slave, select.POLLIN)
        if not poller.poll(0):
            self.end_was_read = self._has_typed
            self._has_typed |= bool(self.master.write(_END_OF_TRANSMISSION))  # None if the terminal takes no more

    def hang_up(self) -> None:
        """Close the far end. Then reading what the command wrote last ends with an error instead of a wait."""
        self.slave.close()


class PlainTerminal(Terminal):
    """One as the system has it, and nobody at its keyboard: what IPython gives to the commands of ``!``."""

    has_end_of_file = False

    def _set_up(self, far: int) -> tuple[int, int]:
        return 80, 24  # as in pexpect, whatever the page can show


class Log:
    """The file of ``--log``: gets every byte as it comes. When it takes no more, the command goes on without it."""

    def __init__(self, path: str, appends: bool, cleanup: contextlib.ExitStack) -> None:
        self.path = path
        self.error = ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if appends else os.O_TRUNC)
        try:
            # O_NONBLOCK, because opening a FIFO that has no reader would wait for ever.
            fd = os.open(os.path.expanduser(path), flags | os.O_NONBLOCK, 0o666)
        except (OSError, ValueError) as error:
            why = "nobody reads this FIFO" if getattr(error, "errno", 0) == errno.ENXIO else describe_error(error)
            raise InputError(f" {path}: {why}", "make.log", field="log") from None
        self._file = cleanup.enter_context(FileIO(fd, "w"))

    def write(self, data: memoryview) -> bool:
        """Write ``data``. Returns False once, when the log becomes incomplete."""
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
    """Enlarge a pipe that was found full, so that its writer waits less often: F_SETPIPE_SZ, pipe(7)."""
    with contextlib.suppress(OSError, AttributeError):  # over the user's quota, a terminal, or not Linux
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _pipe(cleanup: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return cleanup.enter_context(FileIO(reading)), cleanup.enter_context(FileIO(writing, "w"))
