"""Which processes belong to a command, on systems without a subreaper (macOS and others): orphans go to init there.

A process belongs to it if its parent does, or if it is in a process group or session of one that does, or if it has the
command's cookie in its environment. What none of this finds is lost: so a result says "no others found", and
``certain`` is False. Tested on Linux with the subreaper turned off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from ..shared.protocol import Request
from .lives import Lives
from .reaping import Reaper

COOKIE = "PGTIMEOUT_GUARD"
"""The environment variable that names the guard of a command: its pid, and a number that no other guard has."""
_LOOK_AGAIN_AFTER_S = 0.05


class Kin:
    """Finds the processes with that cookie, and their relatives. Remembers which processes have belonged to it: with
    their start times, so that a pid that has become another's does not."""

    def __init__(self, cookie: bytes, shell: int = 0) -> None:
        """The session and group of ``shell`` belong to it. Set it to 0 when it is reaped: its pid is free then."""
        self._cookie = cookie.decode()
        self.shell = shell
        self._members: dict[int, float] = {}
        self._strangers: dict[int, float] = {}

    def find(self) -> list[int]:
        """The pids of those that have not ended."""
        import psutil

        own = os.getpgrp(), os.getsid(0)
        places = {self.shell} - {0}
        parents: dict[int, int] = {}
        starts: dict[int, float] = {}
        found: dict[int, float] = {}
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                pid, start = process.pid, process.create_time()
                parents[pid], starts[pid] = process.ppid(), start
                if self._members.get(pid) == start or self._has_cookie(process, start):
                    found[pid] = start
            except psutil.Error:
                continue
        size = -1
        while len(found) != size:
            size = len(found)
            places.update(place for pid in found for place in _place(pid) if place not in own)
            for pid, start in starts.items():
                if pid not in found and (parents[pid] in found or places.intersection(_place(pid))):
                    found[pid] = start
        self._members, self._strangers = found, {pid: starts[pid] for pid in starts.keys() - found.keys()}
        return list(found)

    def _has_cookie(self, process: object, start: float) -> bool:
        """A stranger is asked once only: it can't become a member by itself."""
        pid: int = process.pid  # type: ignore[attr-defined]
        if self._strangers.get(pid) == start:
            return False
        return str(process.environ().get(COOKIE, "")).startswith(self._cookie)  # type: ignore[attr-defined]


class KinReaper(Reaper):
    """Reaps the shell, and last of all: until then its pid, the number of its session and group, is no other's."""

    is_certain = False

    def __init__(self, lives: Lives) -> None:
        super().__init__(lives)
        self._cookie = cookie_of(os.getpid()) + str(time.monotonic_ns()).encode()
        self._kin: Kin | None = None

    def marked(self, request: Request) -> Request:
        return request._replace(environment={**request.environment, COOKIE.encode(): self._cookie})

    def roots(self) -> Iterable[int]:
        if self._kin is None and self.shell:
            self._kin = Kin(self._cookie, self.shell)
        return [] if self._kin is None else self._kin.find()

    def reap(self) -> int | None:
        """Returns None when the shell has ended and no others are found."""
        if self.returncode is None and not self._note_exit():
            return 0
        now = time.monotonic()
        if now < self.look_again_at < float("inf"):
            return 0
        if self.roots():
            self.look_again_at = now + _LOOK_AGAIN_AFTER_S
            return 0
        if hasattr(os, "waitid"):
            self._collect(self.shell, (self.shell, self.shell))
        return None

    def _note_exit(self) -> bool:
        """Whether the shell has ended. Where there is no waitid(2), it must be reaped to find that out."""
        if not hasattr(os, "waitid"):
            if self._kin is not None:
                self._kin.shell = 0
            return self._collect(self.shell, (self.shell, self.shell))
        ended = os.waitid(os.P_PID, self.shell, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        self.returncode = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return True


def cookie_of(guard: int) -> bytes:
    """What the cookies of all commands of a guard begin with."""
    return f"{guard}-".encode()


def _place(pid: int) -> Iterator[int]:
    try:
        yield os.getpgid(pid)
        yield os.getsid(pid)
    except ProcessLookupError:
        return
