"""The messages between the caller, the launcher and a guard. Plain values; nothing in this module decides anything."""

from __future__ import annotations

import math
from typing import NamedTuple

from .inheritance import Inheritance
from .records import Ending, Process

GIVE_UP_AFTER_S = 3.0
"""How long after the first SIGKILL a guard reports what is still there as surviving."""


class Limits(NamedTuple):
    """How long a command may run, what it may use, and how it is ended. Seconds and bytes; a limit can be infinite.

    ``started_s`` is when the user's call began and the deadline counts from, by the clock that all processes
    share: CLOCK_MONOTONIC, clock_gettime(2). The other fields are those of `Spec` with these names.
    """

    started_s: float
    timeout: float
    kill_after: float
    signal: int
    leftovers: str
    memory: float = math.inf
    cpu: float = math.inf
    processes: float = math.inf
    oom_score_adj: int = 0


class Ready(NamedTuple):
    """Guard to caller, once: it has been forked, has this pid, and waits for a request."""

    pid: int


class Request(NamedTuple):
    """Caller to guard: run this.

    Comes with the descriptors stdin, stdout, stderr and cwd, and, if processes may be left running, with the
    reading ends of their output, to be drained for them. With ``pty``, stdout is a terminal, to become the
    session's controlling terminal. ``tells_start`` asks for `Started`, which costs a message, and ``tells_signals`` for
    `Sent`.
    """

    program: bytes
    argv: list[bytes]
    environment: dict[bytes, bytes]
    inheritance: Inheritance
    limits: Limits
    pty: bool
    tells_start: bool
    tells_signals: bool = False


class Started(NamedTuple):
    """Guard to caller, if the request ``tells_start``: the shell has been started, and has this pid."""

    pid: int


class Sent(NamedTuple):
    """Guard to caller, if the request ``tells_signals``: this signal was sent to the command, for the first time."""

    name: str


class Interrupt(NamedTuple):
    """Caller to guard: the user has pressed stop ``presses`` times by now.

    A total, not an increment: the signal handler that sends it may interrupt itself half-way, and a
    message sent twice must not count twice.
    """

    presses: int


class Idle(NamedTuple):
    """Caller to guard: the command has been silent for too long. Only the caller sees its output."""


class Extend(NamedTuple):
    """Caller to guard: the deadline is now ``timeout`` seconds after the command's start."""

    timeout: float


class Terminate(NamedTuple):
    """Caller to guard: end the command as at the deadline, or with ``at_once`` by SIGKILL. ``signal`` is the first one,
    0 for that of the deadline."""

    at_once: bool
    signal: int = 0


class Signal(NamedTuple):
    """Caller to guard: send this signal to every process of the command. This ends nothing by itself."""

    number: int


class Ask(NamedTuple):
    """Caller to guard: send a `Status`. The guard sends one only when asked, so that a caller that does not
    read receives a bounded number of them."""


class Status(NamedTuple):
    """Guard to caller, when asked: what was last observed. ``signal`` is the last one that was sent, and
    ``next_signal_s`` the time until the next; ``names`` are the first few of ``processes``."""

    returncode: int | None
    signal: str
    next_signal_s: float
    names: list[str]
    processes: int
    cpu_s: float
    memory_bytes: int


class Waiting(NamedTuple):
    """Guard to caller: the shell has exited, and these processes remain (the first few of ``total``)."""

    returncode: int
    processes: list[Process]
    total: int


class Done(NamedTuple):
    """Guard to caller: the command is over. With ``is_free`` the guard waits for the next request."""

    ending: Ending
    is_free: bool


class Swept(NamedTuple):
    """Launcher to caller: the command's guard has died, and what it left was sent SIGKILL, ``killed`` processes.
    ``survivors`` are those that are still there, as far as the system can tell: only if ``certain`` are they all."""

    killed: int
    survivors: list[Process]
    certain: bool


Message = (
    Ready
    | Request
    | Started
    | Sent
    | Interrupt
    | Idle
    | Extend
    | Terminate
    | Signal
    | Ask
    | Status
    | Waiting
    | Done
    | Swept
)
