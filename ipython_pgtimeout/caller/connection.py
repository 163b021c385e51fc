"""The caller's side of the launcher: start it, take a guard for a command, and give it back after that.

Each guard waits on a channel of its own. The caller makes the pair of sockets, hands one end to the launcher, which
forks a guard for it, and speaks to the guard directly from then on: no command waits for the launcher.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import weakref
from typing import NamedTuple

from ..shared import debuglog, rights
from ..shared.channel import Channel
from .guard_handle import GuardHandle, is_readable, wait_until_writable
from .helper_errors import HelperErrors

# The launcher does not run the package's own __init__, which would load what only the caller needs. Site-packages come
# last in the path, and only for psutil, which guards need where there is no proc(5).
_BOOTSTRAP = """\
import sys, types
package = types.ModuleType("ipython_pgtimeout")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
sys.path.append(sys.argv[2])
from ipython_pgtimeout.helper.launcher import main
main(int(sys.argv[3]), int(sys.argv[4]))
"""
_KEPT = 4
"""How many idle guards are kept at most, of those that were needed at once. Each has 2 to 3 MB of its own."""
_FORKED_AFTER_S = 10.0
"""How long the launcher may leave all the guards that it has been asked for unforked."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Launcher(NamedTuple):
    """A launcher process. ``control`` is the channel to it; ``fingerprint`` are its rights: see `rights`."""

    process: subprocess.Popen[bytes]
    control: Channel
    fingerprint: tuple[object, ...]


class Connection:
    """A connection to one launcher process, which is started when first needed and again after it has died.

    A command can be run from a signal handler or a ``__del__``, in the middle of any method here and on the same
    thread. So the lock is one that its owner passes, the state is right after each step of a method, and a step that
    changes it is a single one: an attribute is assigned, or a list grows or shrinks by one.
    """

    def __init__(self) -> None:
        self.errors = HelperErrors()
        self._lock = threading.RLock()
        self._launcher: _Launcher | None = None
        self._retired: list[subprocess.Popen[bytes]] = []
        self._idle: list[GuardHandle] = []
        self._busy: weakref.WeakSet[GuardHandle] = weakref.WeakSet()

    @property
    def lock(self) -> threading.RLock:
        """For a thread that must not wait for it: it takes it with a timeout before the methods do."""
        return self._lock

    def prepare(self) -> None:
        """Have a guard made ready. Does not wait for it."""
        with self._lock:
            if not self._idle:
                self._idle.append(self._new_guard())

    def take(self, fingerprint: tuple[object, ...]) -> GuardHandle:
        """A guard that waits for a request, or soon will, and has the rights of this process as they are now:
        ``fingerprint`` is from `rights`. Raises OSError if there can't be one."""
        if sys.is_finalizing():  # a thread may have been stopped for ever while it had the lock
            raise OSError("Python is shutting down")
        with self._lock:
            if self._launcher is not None and fingerprint != self._launcher.fingerprint:
                rights.reopen_files()
                if rights.fingerprint(rights.read_status()) != self._launcher.fingerprint:
                    debuglog.note("caller", "has other rights now than its launcher")
                    self._retire()
            while (guard := _pop(self._idle)) is not None:
                if self._can_serve(guard):
                    break
                guard.hang_up()
            else:
                guard = self._new_guard()
            self._busy.add(guard)
            return guard

    def give_back(self, guard: GuardHandle, is_free: bool) -> None:
        """Call this after each `take`. A guard that is not free gets end of file, and ends what it supervises.

        At rest a few idle guards are kept, if so many were needed at once. While many commands run at once, more are
        kept, because how many run at the same moment goes up and down.
        """
        with self._lock:
            self._busy.discard(guard)
            launcher = self._launcher
            if is_free and launcher is not None and guard.launcher is launcher.process and self._has_launcher():
                self._idle.append(guard)
            else:
                guard.hang_up()
            while len(self._idle) > max(_KEPT, 2 * len(self._busy)) and (surplus := _pop(self._idle, 0)) is not None:
                surplus.hang_up()
            if launcher is not None:
                with contextlib.suppress(OSError):  # no descriptors: if that lasts, the next command reports it
                    self.prepare()
            self._reap_retired()

    def abandon(self, launcher: subprocess.Popen[bytes]) -> None:
        """It does not do its work: the next command needs a new one."""
        with self._lock:
            if self._launcher is not None and self._launcher.process is launcher:
                self._retire()

    def close(self) -> None:
        """Release the helper processes: they end when they get end of file."""
        with self._lock:
            process = self._retire()
            # The launcher stays while commands run, and while processes were left running on purpose: so don't wait, or
            # not for long.
            if process is not None and not self._busy:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            self._reap_retired()
            self.errors.close()

    def forget(self) -> None:
        """In a forked child: the launcher and its channels belong to the parent."""
        for guard in [*self._idle, *self._busy]:
            guard.close()
        if self._launcher is not None:
            self._launcher.control.close()
            self._retired.append(self._launcher.process)
        for process in self._retired:
            process.returncode = 0  # not ours to wait for, nor to signal or to warn about
        self.errors.close()
        self.__init__()  # type: ignore[misc]

    def _retire(self) -> subprocess.Popen[bytes] | None:
        """End the connection to the launcher and to all idle guards: the next command needs a new launcher. Running
        commands keep theirs. Returns the launcher, None if there was none."""
        launcher, self._launcher = self._launcher, None
        while (guard := _pop(self._idle)) is not None:
            guard.hang_up()
        if launcher is None:
            return None
        launcher.control.close()
        self._retired.append(launcher.process)
        return launcher.process

    def _reap_retired(self) -> None:
        """A launcher stays until the last of its guards has ended, so don't wait for it."""
        if self._retired:
            self._retired = [process for process in self._retired if process.poll() is None]

    def _has_launcher(self) -> bool:
        return self._launcher is not None and not is_readable(self._launcher.control)

    def _can_serve(self, guard: GuardHandle) -> bool:
        """Whether it lives. Without a launcher, nothing would end the processes of a guard that is killed."""
        if self._launcher is None or guard.launcher is not self._launcher.process or not guard.channel.is_ours():
            return False
        return not is_readable(self._launcher.control, guard.channel) or (self._has_launcher() and guard.is_waiting())

    def _new_guard(self) -> GuardHandle:
        launcher = self._launcher
        if launcher is None or not launcher.control.is_ours() or is_readable(launcher.control):
            launcher = self._start()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # The socket is full when hundreds of commands are started faster than guards can be forked.
                if not wait_until_writable(launcher.control, _FORKED_AFTER_S):
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                socket.send_fds(launcher.control.socket, [b"+"], [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return GuardHandle(ours, launcher.process)

    def _start(self) -> _Launcher:
        self._retire()
        rights.reopen_files()
        fingerprint = rights.fingerprint(rights.read_status())
        ours, theirs = socket.socketpair()
        caller_fd = _pidfd_of_this_process()
        inherited = [fd for fd in (theirs.fileno(), caller_fd) if fd >= 0]
        arguments = [_PACKAGE, _directory_of_psutil(), str(theirs.fileno()), str(caller_fd)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *arguments],
                env={**os.environ, debuglog.VARIABLE: debuglog.path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors.open(),
                pass_fds=inherited,
                start_new_session=True,
            )
        finally:
            theirs.close()
            if caller_fd >= 0:
                os.close(caller_fd)
        debuglog.note("caller", f"has started launcher {process.pid}")
        self._retire()  # a command in a signal handler may have started one meanwhile
        self._launcher = launcher = _Launcher(process, Channel(ours), fingerprint)
        return launcher


def _pop(guards: list[GuardHandle], index: int = -1) -> GuardHandle | None:
    try:
        return guards.pop(index)
    except IndexError:
        return None


def _pidfd_of_this_process() -> int:
    """A descriptor that becomes readable when this process dies, pidfd_open(2); -1 where there is none."""
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(os.getpid())
    return -1


def _directory_of_psutil() -> str:
    """Where to import it from. It is not imported here: it would take a third of importing this package."""
    from importlib.util import find_spec

    found = find_spec("psutil")
    return "" if found is None or found.origin is None else os.path.dirname(os.path.dirname(found.origin))


debuglog.open_from_environment()
connection = Connection()
atexit.register(connection.close)
os.register_at_fork(after_in_child=connection.forget)
