"""What is known about processes: plain values that travel in messages and end up in a result."""

from __future__ import annotations

from typing import NamedTuple

COMMAND_BYTES = 4096
"""How much of a command line is kept. It can have many megabytes."""


def shown_command(arguments: bytes) -> str:
    """Arguments that end with NUL each, as one line to be shown: it may be cut, and every character can be encoded."""
    cut = "…" if len(arguments) > COMMAND_BYTES else ""
    return arguments[:COMMAND_BYTES].rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace") + cut


class Process(NamedTuple):
    """A process as it was when it was looked at.

    ``state`` is the letter of proc(5) (R, S, D, T, Z…), ``user`` the effective user's id, ``command``
    the command line, or the name in brackets where there is none. ``name`` has 15 bytes at most on Linux, without the
    rest of a character that was cut. ``age_s`` is how long it has run, ``cpu_s`` its processor time with that of the
    children it has waited for.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    user: int
    name: str
    command: str
    age_s: float
    cpu_s: float
    rss_bytes: int

    @property
    def has_ended(self) -> bool:
        """Whether it is a zombie, which only waits for its parent."""
        return self.state in "ZX"


class Life(NamedTuple):
    """One process of a command: what it was, and when.

    ``start`` and ``end`` are seconds since the command's start; ``end`` is None while the process runs. The end of a
    process that the guard has reaped is exact. Others are sampled: they have ended between ``last_seen``, when a look
    found them running, and ``end``, when one did not. ``adopted`` tells that it was an orphan, which the guard
    inherited.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    command: str
    start: float
    last_seen: float
    end: float | None
    adopted: bool


class Signalled(NamedTuple):
    """One signal: seconds since the start, the signal's name, and the pids it was sent to. ``on_request`` tells that
    it is none of those that end the command, but was asked for by `Job.send_signal`."""

    at_s: float
    signal: str
    pids: list[int]
    on_request: bool = False


class Resident(NamedTuple):
    """What a process has in RAM. ``anonymous_bytes`` is the part that is in no file and no memory made for sharing;
    after a fork(2) it is shared all the same."""

    all_bytes: int
    anonymous_bytes: int


class Exceeded(NamedTuple):
    """The limit that ended a command, ``what`` as a `Result`'s reason has it: ``memory``, ``cpu`` or ``processes``; and
    what all processes had ``used`` together when that was found. ``share`` is what the largest of them, ``pid``, had.
    Bytes, seconds of processor time, or a number (then no process is named)."""

    what: str
    limit: float
    used: float
    pid: int = 0
    name: str = ""
    share: float = 0.0


class MemorySample(NamedTuple):
    """The memory of all processes of a command together, ``at_s`` seconds after its start."""

    at_s: float
    used_bytes: int


class Ending(NamedTuple):
    """How a command ended. The fields are those of `Result` with the same names, where they are explained."""

    pid: int
    timeout: float
    returncode: int | None
    reason: str
    error: str
    exceeded: Exceeded | None
    duration: float
    cpu_time: float
    max_rss: int
    peak_memory: int
    memory_samples: tuple[MemorySample, ...]
    signals: tuple[Signalled, ...]
    survivors: tuple[Process, ...]
    certain: bool
    processes: tuple[Life, ...]
    unseen: int
