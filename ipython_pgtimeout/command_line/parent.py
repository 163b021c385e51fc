"""What the first process of ``pgtimeout`` does while the command runs, and how it ends."""

from __future__ import annotations

import _signal  # `signal` makes enums of all signals first
import posix  # see `starting`
import select
import time

from ..helper import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .relay import Relay

SILENCE = 0
"""The order to the guard that is not the number of a signal: the command has been silent for too long."""
_LONGEST_WAIT_S = 1e6
_NOT_HANDED_ON = ("KILL", "STOP", "SEGV", "ILL", "FPE", "BUS", "TRAP", "SYS", "TTIN", "TTOU", "URG", "WINCH")
"""Signals that can't be caught, tell of an error of this process, or are ignored or nothing but a stop by default."""
_NOT_OURS = ("PIPE", "XFSZ")
"""Ignored by Python."""


class Parent:
    """Hands signals on to the guard, and shows what the guard says. When the guard is killed, it ends the command."""

    def __init__(
        self, name: str, guard: int, channel: int, own_children: set[int], relay: Relay | None, foreground: bool
    ) -> None:
        """``own_children`` are those that this process had before it became ``pgtimeout``, by execve(2)."""
        self._name = name
        self._guard = guard
        self._channel = channel
        self._own_children = own_children
        self._relay = relay
        self._foreground = foreground
        self._received = b""
        self._lingers = False
        self._reading, self._writing = posix.pipe()

    def attend(self, ignored: set[int], mask: set[int]) -> int:
        """Until the command is over. Returns the exit code, or ends this process by the signal that ended the command.
        ``ignored`` are the signals that stay ignored, and ``mask`` is the signal mask this program was started with."""
        self._catch_signals(ignored, mask)
        poller = select.poll()
        poller.register(self._reading, select.POLLIN)
        poller.register(self._channel, select.POLLIN)
        while True:
            for fd, _ in poller.poll(self._wait_ms(poller)):
                if fd == self._reading:
                    self._take_signals()
                elif fd == self._channel:
                    if (ending := self._hear()) is not None:
                        return self._end(*ending)
                elif self._relay:
                    self._relay.serve(fd)

    def _wait_ms(self, poller: select.poll) -> float | None:
        """How long to wait for descriptors, at most; None for as long as it takes."""
        if (relay := self._relay) is None:
            return None
        relay.watch(poller)
        left_s = relay.silent_in(time.monotonic())
        if left_s <= 0:
            relay.note_silence()
            self._tell(SILENCE)
        return left_s * 1000 + 1 if 0 < left_s < _LONGEST_WAIT_S else None

    def _catch_signals(self, ignored: set[int], mask: set[int]) -> None:
        posix.set_blocking(self._reading, False)
        posix.set_blocking(self._writing, False)
        _signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        left_out = {getattr(_signal, f"SIG{name}", 0) for name in (*_NOT_HANDED_ON, *_NOT_OURS)}
        for number in _signal.valid_signals() - left_out - (ignored - {_signal.SIGALRM, _signal.SIGCHLD}):
            try:
                _signal.signal(number, _do_nothing)
            except (OSError, ValueError):  # one of those that the C library keeps for itself
                continue
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask - {_signal.SIGALRM, _signal.SIGCHLD})

    def _take_signals(self) -> None:
        for number in posix.read(self._reading, 4096):
            if number == _signal.SIGCHLD:
                self._reap()
            elif number == _signal.SIGTSTP:
                # The command has no terminal that could stop it, and to an orphaned process group, which that of a new
                # session is, SIGTSTP does nothing: setpgid(2).
                if not self._foreground:
                    self._tell(_signal.SIGSTOP)
                posix.kill(posix.getpid(), _signal.SIGSTOP)
            else:
                self._tell(number)

    def _tell(self, order: int) -> None:
        try:
            posix.write(self._channel, bytes([order]))
        except OSError:  # the guard has died, or has a thousand orders to read
            pass

    def _reap(self) -> None:
        """Orphans come here if this process is the first one of a PID namespace, or if the guard was killed."""
        try:
            while (ended := posix.waitpid(-1, posix.WNOHANG | posix.WUNTRACED))[0]:
                if ended[0] == self._guard:
                    if posix.WIFSTOPPED(ended[1]):
                        posix.kill(self._guard, _signal.SIGCONT)  # stopped, it would keep no deadline
                    else:
                        self._guard = 0
        except ChildProcessError:
            pass

    def _hear(self) -> tuple[int, bool] | None:
        """What the guard says: lines to be shown, and at last how to end. Its death without that counts as an end."""
        try:
            data = posix.read(self._channel, 1 << 16)
        except ConnectionResetError:  # it had not read all orders
            data = b""
        if not data:
            return self._sweep(), False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"say":
                say(self._name, rest.decode("utf-8", "replace"))
            elif word == b"linger":
                self._lingers = True
            else:
                return int(rest), word == b"die"
        return None

    def _end(self, number: int, by_signal: bool) -> int:
        if self._relay:
            for signum in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT):
                if _signal.getsignal(signum) == _do_nothing:
                    _signal.signal(signum, _signal.SIG_DFL)  # who reads the output may be slow
            self._relay.finish()
            if self._relay.notice:
                say(self._name, self._relay.notice)
        posix.close(self._channel)
        if self._guard and not self._lingers:
            posix.waitpid(self._guard, 0)
        if not by_signal:
            return number
        # As the shell that waits for this process expects: it stops a loop when its command ends by SIGINT.
        if prctl.leave_no_core_dump():
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):  # SIGKILL
                pass
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
            posix.kill(posix.getpid(), number)
        return 128 + number

    def _sweep(self) -> int:
        """The guard was killed: what it had to supervise is now below this process. Not counting what comes from the
        children that this process had before."""
        from . import sweeping  # here and not above: see `main`

        self._guard = 0
        say(self._name, sweeping.sweep(self._own_children))
        return 125


def ending(returncode: int | None, timed_out: bool, preserve_status: bool) -> bytes:
    """What the parent is to do at the end: as GNU timeout, exit with the command's code or end by its signal; with 124
    at the deadline, but with 137 if the command had to be killed."""
    if timed_out and returncode != -_signal.SIGKILL and not preserve_status:
        return b"exit 124\n"
    if returncode is None:
        return b"exit 125\n"
    if returncode >= 0:
        return b"exit %d\n" % returncode
    return b"exit %d\n" % (128 - returncode) if timed_out else b"die %d\n" % -returncode


def children_of_this_process() -> set[int]:
    """Where the system tells: proc(5)."""
    try:
        with open("/proc/thread-self/children") as file:
            return set(map(int, file.read().split()))
    except OSError:
        return set()


def say(name: str, text: str) -> None:
    """Write a line on stderr. A dead terminal, a closed descriptor or a full disk changes nothing else."""
    try:
        posix.write(2, f"{name}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _do_nothing(_number: int, _frame: object) -> None:
    """The number arrives through the descriptor that `_signal.set_wakeup_fd` has been given."""
