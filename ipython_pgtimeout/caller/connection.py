"""The caller's side of the launcher: start it, take a guard for a command, and give it back after that.

Each guard waits on a channel of its own. The caller makes the pair of sockets, hands one end to the launcher, which
forks a guard for it, and speaks to the guard directly from then on: no command waits for the launcher.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading

from ..shared import debuglog, rights
from .guard_handle import GuardHandle, is_readable
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
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Connection:
    """A connection to one launcher process, which is started when first needed and again after it has died."""

    def __init__(self) -> None:
        self.errors = HelperErrors()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._fingerprint: tuple[object, ...] = ()
        self._retired: list[subprocess.Popen[bytes]] = []
        self._control: socket.socket | None = None
        self._idle: list[GuardHandle] = []
        self._busy = 0

    def prepare(self) -> None:
        """Have a guard made ready. Does not wait for it."""
        with self._lock:
            self._prepare()

    def take(self, fingerprint: tuple[object, ...]) -> GuardHandle:
        """A guard that waits for a request, or soon will, and has the rights of this process as they are now:
        ``fingerprint`` is from `rights`. Raises OSError if there can't be one."""
        with self._lock:
            if fingerprint != self._fingerprint:
                self._retire()
            while self._idle:
                guard = self._idle.pop()
                # Without a launcher, nothing would end the processes of a guard that is killed.
                if self._control is not None and not is_readable(self._control, guard.channel):
                    break
                if self._has_launcher() and guard.is_waiting():
                    break
                guard.close()
            else:
                guard = self._new_guard()
            self._busy += 1
            return guard

    def give_back(self, guard: GuardHandle, is_free: bool) -> None:
        """Call this after each `take`. A guard that is not free gets end of file, and ends what it supervises.

        At rest one idle guard is kept. While many commands run at once, more are kept, because their threads may soon
        need as many.
        """
        with self._lock:
            self._busy -= 1
            if is_free and guard.launcher is self._process and self._has_launcher():
                self._idle.append(guard)
            else:
                guard.hang_up()
            while len(self._idle) > self._busy + 1:
                self._idle.pop(0).hang_up()
            if self._process is not None:
                with contextlib.suppress(OSError):  # no descriptors: if that lasts, the next command reports it
                    self._prepare()

    def close(self) -> None:
        """Release the helper processes: they end when they get end of file."""
        with self._lock:
            process = self._release()
            if process is not None:
                # The launcher stays while processes were left running on purpose, so don't wait for long.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            self.errors.close()

    def signal_launcher(self, number: int) -> None:
        """For when a guard does not answer."""
        process = self._process
        if process is not None:
            process.send_signal(number)

    def forget(self) -> None:
        """In a forked child: the launcher and its channels belong to the parent."""
        for guard in self._idle:
            guard.close()
        if self._control is not None:
            self._control.close()
        for process in (self._process, *self._retired):
            if process is not None:
                process.returncode = 0  # not ours to wait for, nor to warn about
        self.errors.close()
        self.__init__()  # type: ignore[misc]

    def _retire(self) -> None:
        """This process has other rights than when it started the launcher: the next command needs a new one. Running
        commands keep theirs."""
        process = self._release()
        if process is not None:
            debuglog.note("caller", "has other rights now than its launcher")
            self._retired.append(process)

    def _release(self) -> subprocess.Popen[bytes] | None:
        """End the connection to the launcher and to all idle guards. Returns the launcher, which is still to be reaped;
        None if there was none."""
        while self._idle:
            self._idle.pop().hang_up()
        if self._control is not None:
            self._control.close()
        process, self._control, self._process = self._process, None, None
        return process

    def _prepare(self) -> None:
        if not self._idle:
            self._idle.append(self._new_guard())

    def _has_launcher(self) -> bool:
        return self._control is not None and not is_readable(self._control)

    def _new_guard(self) -> GuardHandle:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                if not self._has_launcher():
                    self._start()
                assert self._control is not None
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return GuardHandle(ours, self._process)

    def _start(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()  # its descriptors are closed, so it is about to end
        self._retired = [process for process in self._retired if process.poll() is None]
        self._fingerprint = rights.fingerprint(rights.read_status())
        ours, theirs = socket.socketpair()
        caller_fd = _pidfd_of_this_process()
        inherited = [fd for fd in (theirs.fileno(), caller_fd) if fd >= 0]
        arguments = [_PACKAGE, _directory_of_psutil(), str(theirs.fileno()), str(caller_fd)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *arguments],
                env={**os.environ, debuglog.VARIABLE: debuglog.path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors.open(),
                pass_fds=inherited,
                start_new_session=True,
            )
            self._control = ours
            debuglog.note("caller", f"has started launcher {self._process.pid}")
        finally:
            theirs.close()
            if caller_fd >= 0:
                os.close(caller_fd)


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
