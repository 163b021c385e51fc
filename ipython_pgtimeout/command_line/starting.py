"""The guard of ``pgtimeout`` in its first moments, and the command's own process until its execve(2).

The command is started before the supervision is imported, which takes longer than to start Python: that happens while
the command runs, and not at all if nothing is left of it after a moment.
"""

from __future__ import annotations

import _signal  # `signal` makes enums of all signals first
import errno
import posix  # `os` is all this, and imports what takes a tenth of our time
import sys
import time

from ..helper import prctl
from .arguments import Arguments
from .parent import ending, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .relay import Relay

_MOMENT_S = 0.02
"""What takes no longer than this ends without supervision having been imported, which takes 50 ms."""
_LOST = (_signal.SIGPIPE, getattr(_signal, "SIGXFSZ", 0))
"""The signals that Python ignores from its start on."""
_CANNOT_INVOKE, _NOT_FOUND = 126, 127
"""The exit codes of shells, env(1) and GNU timeout when there is no such program, or it can't be executed."""


def ignored_at_start() -> set[int]:
    """The signals that were ignored when this program was started. Of those that Python ignores, only the script that
    has started it can tell."""
    told = int(str(sys._xoptions.get("pgtimeout_ignored") or "0"))
    return {number for number in _signal.valid_signals() if _is_ignored(number, told)}


def _is_ignored(number: int, told: int) -> bool:
    if number in _LOST:
        return bool(told >> (number - 1) & 1)
    return bool(_signal.getsignal(number) == _signal.SIG_IGN)


def guard(
    arguments: Arguments,
    name: str,
    started_s: float,
    channel: int,
    relay: Relay | None,
    ignored: set[int],
    mask: set[int],
) -> NoReturn:
    """The life of the guard, whose signals are all blocked: start the command, and stay until nothing of it is left.

    ``channel`` leads to the parent. ``ignored`` are the signals that the command is to ignore, and ``mask`` those that
    it is to block, both as this program was started.
    """
    try:
        if not arguments.foreground:
            posix.setsid()  # what is sent to the parent's process group, by a terminal for one, is not for the guard
        adopts = prctl.become_subreaper()
        prctl.set_name("pgtimeout-guard")  # `GUARD` in `shared.processes`, whose import takes too long here
        shell = posix.fork()
        if not shell:
            _command(arguments, name, relay, ignored, mask)
        returncode, is_over = _wait_a_moment(shell, arguments.timeout) if adopts else (None, False)
        if is_over:
            posix.write(channel, ending(returncode, False, False))
        else:
            from . import guarding  # here and not above: see the top of this file

            guarding.supervise(arguments, started_s, channel, adopts, shell, returncode)
        posix._exit(0)
    except BaseException as error:
        posix.write(channel, f"say the guard has failed: {error!r}\n".encode("utf-8", "backslashreplace"))
    finally:
        posix._exit(1)


def _command(arguments: Arguments, name: str, relay: Relay | None, ignored: set[int], mask: set[int]) -> NoReturn:
    try:
        if relay:
            relay.connect()
        _become(arguments, ignored, mask)
    except OSError as error:
        say(name, f"can't run {arguments.command[0]!r}: {error.strerror}")
        posix._exit(_NOT_FOUND if error.errno == errno.ENOENT else _CANNOT_INVOKE)
    finally:
        posix._exit(_CANNOT_INVOKE)


def _become(arguments: Arguments, ignored: set[int], mask: set[int]) -> None:
    if not arguments.foreground:
        posix.setsid()
    for number in (*_LOST, _signal.SIGINT):
        if number and number not in ignored:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    _execute(arguments.command, _environment())


def _execute(command: list[str], variables: dict[bytes, bytes]) -> NoReturn:
    """As execvp(3), which os.execvp is not quite; and that takes 3 ms before it looks for the program."""
    name = command[0]
    path = variables.get(b"PATH", b"/bin:/usr/bin").decode("utf-8", "surrogateescape")
    denied: OSError | None = None
    for directory in [""] if "/" in name else path.split(":"):
        program = f"{directory}/{name}" if directory else name
        try:
            posix.execve(program, command, variables)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # a script without a first line that names its interpreter
            posix.execve("/bin/sh", ["sh", program, *command[1:]], variables)
    raise denied or FileNotFoundError(errno.ENOENT, posix.strerror(errno.ENOENT))


def _environment() -> dict[bytes, bytes]:
    """What this program was started with. Python adds LC_CTYPE to it where the locale is that of C: PEP 538."""
    variables = dict(posix.environ)
    if b"LC_CTYPE" in variables:
        try:
            with open("/proc/self/environ", "rb") as file:
                given = file.read()
        except OSError:
            return variables
        if b"\0LC_CTYPE=" not in b"\0" + given:
            del variables[b"LC_CTYPE"]
    return variables


def _wait_a_moment(pid: int, timeout_s: float) -> tuple[int | None, bool]:
    """Wait until nothing is left of the command, but not for long. Returns its return code, None if it runs, and
    whether all is over. This process must be a subreaper, SIGCHLD blocked, and its action the default one."""
    returncode = None
    until = time.monotonic() + min(_MOMENT_S, timeout_s / 2)
    while (left_s := until - time.monotonic()) > 0:
        try:
            ended, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return returncode, True
        if ended == pid:
            returncode = posix.waitstatus_to_exitcode(status)
        elif not ended:
            _signal.sigtimedwait([_signal.SIGCHLD], left_s)
    return returncode, False
