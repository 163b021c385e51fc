"""The policy of a command's end: which signal is due when. No clock, no processes and no descriptors in here.

Every method takes the time as an argument, so that each way to end can be tested with an invented clock.
"""

from __future__ import annotations

import enum
import signal
from typing import NamedTuple

from ..shared.protocol import GIVE_UP_AFTER_S, Limits

NOTICE_AFTER_S = 1.0
"""How long the shell may be gone with processes left before the caller is notified of them."""
KILL_AGAIN_AFTER_S = 0.005
"""SIGKILL is repeated, because a process can have been forked since the last walk."""
_NEVER = float("inf")


class Act(enum.Enum):
    """What the guard is to do."""

    SIGNAL = enum.auto()
    """Send the step's signal to every process of the command."""
    NOTICE = enum.auto()
    """Tell the caller what is left although the shell has exited."""
    RELEASE = enum.auto()
    """Report, and leave running what is left: the user has asked for it."""
    GIVE_UP = enum.auto()
    """Report what SIGKILL has not ended."""


class Step(NamedTuple):
    """One thing to do now. ``signal`` is 0 for every act but SIGNAL."""

    act: Act
    signal: int = 0


class Ladder:
    """How one command is ended: first a gentle signal, a grace for *everything* to end, then SIGKILL until it has.

    Feed it what happens (``note_…``), ask it for steps until there is none, and ask again at ``due_at`` at the
    latest. ``reason`` is that of the result: it is set by what began the end, and nothing that follows changes it.
    """

    def __init__(self, limits: Limits) -> None:
        self.reason = "exited"
        self._limits = limits
        self.timeout_s = limits.timeout
        """When the deadline is, after the start."""
        self._shell_has_exited = False
        self._presses = 0
        self._notice_at = _NEVER
        self._rungs: list[int] = []
        """The signals still to be sent; none until the end has begun. SIGKILL, the last one, stays."""
        self._rung_at = _NEVER
        self._give_up_at = _NEVER

    # -- what has happened --------------------------------------------------------------------------------

    def note_shell_exit(self, now: float) -> None:
        self._shell_has_exited = True
        self._notice_at = now + NOTICE_AFTER_S

    def note_interrupt(self, presses: int, now: float) -> None:
        """The user has pressed stop ``presses`` times in all: once to end the command, again to kill it at once."""
        if presses <= self._presses:
            return
        self._presses = presses
        if self._rungs or presses > 1:
            self._begin(self.reason if self._rungs else "interrupted", now, signal.SIGKILL)
        else:
            self._begin("interrupted", now, signal.SIGINT, signal.SIGTERM)

    def note_silence(self, now: float) -> None:
        """The command has written nothing for as long as it may."""
        self._begin_gently("idle", now)

    def note_death_of_caller(self, now: float) -> None:
        self._begin_gently("kernel-died", now)

    def note_termination(self, at_once: bool, now: float, first: int = 0) -> None:
        """The caller's program ends the command: as the deadline does, or with another ``first`` signal, or ``at_once``
        by SIGKILL."""
        if at_once:
            self._kill("terminated", now)
        else:
            self._begin_gently("terminated", now, first)

    def note_excess(self, reason: str, now: float) -> None:
        """The command uses more than it may of what ``reason`` names. One that does, or uses still more, while it is
        being ended is killed: at a gigabyte per second, the machine has no time for a grace."""
        if self._rungs:
            self._kill(reason, now)
        else:
            self._begin_gently(reason, now)

    def extend(self, timeout_s: float) -> None:
        """The deadline is now ``timeout_s`` after the start. Too late once the end has begun."""
        if not self._rungs:
            self.timeout_s = timeout_s

    # -- what follows from it -----------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether the end has begun: there is no way back."""
        return bool(self._rungs)

    @property
    def due_at(self) -> float:
        """When the next step is due if nothing happens before; 0 if at once. Without the 0, a guard that pauses after a
        signal would sleep on after its pause, until something else happens."""
        if self._rungs:
            return 0.0 if self._shell_has_heeded_the_interrupt() else min(self._rung_at, self._give_up_at)
        if self._shell_has_exited and self._limits.leftovers != "wait":
            return 0.0
        return min(self._limits.started_s + self.timeout_s, self._notice_at)

    def next_signal_in(self, now: float) -> float:
        """Seconds until the next signal; infinite while the end has not begun."""
        return max(0.0, self._rung_at - now)

    def next_step(self, now: float) -> Step | None:
        """What to do now; None if nothing is due before `due_at`."""
        if not self._rungs:
            if now >= self._limits.started_s + self.timeout_s:
                self._begin_gently("timeout", now)
            elif self._shell_has_exited and self._limits.leftovers == "leave":
                return Step(Act.RELEASE)
            elif self._shell_has_exited and self._limits.leftovers == "kill":
                self._begin_gently("exited", now)
            elif now >= self._notice_at:
                self._notice_at = _NEVER
                return Step(Act.NOTICE)
        if now >= self._give_up_at:
            return Step(Act.GIVE_UP)
        if self._rungs and now >= self.due_at:
            return Step(Act.SIGNAL, self._climb(now))
        return None

    def _begin_gently(self, reason: str, now: float, first: int = 0) -> None:
        if not self._rungs:
            self._begin(reason, now, first or self._limits.signal)

    def _kill(self, reason: str, now: float) -> None:
        """SIGKILL is due now, unless it has been sent already."""
        if self._give_up_at == _NEVER:
            self._begin(self.reason if self._rungs else reason, now, signal.SIGKILL)

    def _begin(self, reason: str, now: float, *rungs: int) -> None:
        self.reason = reason
        gentle = [rung for rung in rungs if rung != signal.SIGKILL] if self._limits.kill_after > 0 else []
        self._rungs = [*gentle, signal.SIGKILL]
        self._rung_at = now

    def _shell_has_heeded_the_interrupt(self) -> bool:
        """SIGTERM follows SIGINT at once when the shell is gone: a shell's background jobs ignore SIGINT."""
        return self._shell_has_exited and self.reason == "interrupted" and self._rungs[0] == signal.SIGTERM

    def _climb(self, now: float) -> int:
        rung = self._rungs[0]
        if rung == signal.SIGKILL:
            self._give_up_at = min(self._give_up_at, now + GIVE_UP_AFTER_S)
            self._rung_at = now + KILL_AGAIN_AFTER_S
        else:
            del self._rungs[0]
            self._rung_at = now + self._limits.kill_after
        return rung
