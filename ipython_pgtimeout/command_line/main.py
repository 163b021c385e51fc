"""The parent: it starts the guard, hands signals on to it, and ends as the command has ended.

It stays small: in the time that this program needs until the command runs, Python can import hardly anything.
"""

from __future__ import annotations

import _signal  # `signal` makes enums of all signals first
import _socket  # likewise
import posix  # see `starting`
import sys
import time

from ..helper import prctl
from . import arguments, starting
from .arguments import Arguments, UsageError
from .parent import Parent, children_of_this_process, say

FAILED = 125
"""The exit code when this program itself fails, as in GNU timeout."""


def main(words: list[str]) -> int:
    """Run the command that ``words`` ask for, and end this process as it has ended. Returns an exit code if it did not
    come to that."""
    started_s = time.monotonic()
    name = str(sys._xoptions.get("pgtimeout_name", "pgtimeout"))
    try:
        given = arguments.parse(words)
        if given.help or given.version:
            from . import reference

            print(reference.version(name) if given.version else reference.usage(name))
            return 0
        posix._exit(_run(given, name, started_s))  # to end in the usual way takes Python some milliseconds
    except UsageError as error:
        say(name, f"{error}; for example: {name} 30s make test")
        return FAILED
    except OSError as error:
        say(name, f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return FAILED


def _run(given: Arguments, name: str, started_s: float) -> int:
    if min(given.memory, given.cpu, given.processes) < float("inf"):
        from ..shared.processes import can_measure  # here and not above: see the top of this file

        if not can_measure():
            raise UsageError(
                "memory, processor time and processes can't be measured here: there is no /proc of its own"
            )
    _occupy_standard_descriptors()
    relay = None
    if given.reads_output:
        from .relay import Relay  # likewise

        relay = Relay(given.log, given.idle)
    ignored = starting.ignored_at_start()
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # where it is ignored, children end without a return code
    prctl.become_subreaper()
    prctl.set_name("pgtimeout")
    ours, theirs = _socket.socketpair()
    own_children = children_of_this_process()
    guard = posix.fork()
    if not guard:
        ours.close()
        starting.guard(given, name, started_s, theirs.detach(), relay, ignored, mask)
    theirs.close()
    if relay:
        relay.hand_over()
    parent = Parent(name, guard, ours.detach(), own_children, relay, given.foreground)
    return parent.attend(ignored, mask)


def _occupy_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, our own descriptors must not get that number: the command would get them."""
    while (fd := posix.open("/dev/null", posix.O_RDWR)) < 3:
        posix.set_inheritable(fd, True)
    posix.close(fd)
