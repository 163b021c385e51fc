"""What the caller does when a guard does not answer: stopped together with the launcher, traced, or hanging in a system
call. The one case in which the caller kills."""

from __future__ import annotations

import math
import signal

from ..shared import debuglog
from ..shared.protocol import GIVE_UP_AFTER_S, Limits
from .guard_handle import GuardHandle

MARGIN_S = 2.0
"""How much later than it must a guard may answer before something is done about it."""
_AWAKE_AFTER_S = 1.0
_SWEPT_AFTER_S = GIVE_UP_AFTER_S + 1.0
_IMPATIENT_PRESSES = 3
"""The second press has asked the guard for SIGKILL. A third one means that the guard does not answer."""


class Backstop:
    """Call `act` at ``due_at``, unless the guard has answered: first both helpers are continued, then the guard is
    killed with all that is below it, and the launcher reports; at last the launcher is killed too."""

    def __init__(self, limits: Limits, guard: GuardHandle) -> None:
        self._limits = limits
        self._guard = guard
        self._presses = 0
        self._is_ending = False
        self._stage = 0
        self.killed = 0
        """How many processes of the command have been killed from here."""
        self.due_at = limits.started_s + limits.timeout + limits.kill_after + GIVE_UP_AFTER_S + MARGIN_S

    @property
    def has_killed(self) -> bool:
        """Whether the guard has been killed from here: then its death is no accident."""
        return self._stage > 1

    def note_stop(self, presses: int, now: float) -> None:
        """The user has pressed stop ``presses`` times by now: SIGINT, SIGTERM and SIGKILL are due."""
        if self._stage == 0:
            if presses >= _IMPATIENT_PRESSES:
                self.due_at = now
            elif presses > self._presses == 0 and not self._is_ending:
                # Earlier than it was, or later: the deadline grants one grace, an interrupt two.
                self.due_at = now + 2 * self._limits.kill_after + GIVE_UP_AFTER_S + MARGIN_S
        self._presses = presses
        self._is_ending = True

    def note_termination(self, at_once: bool, now: float) -> None:
        """The caller's program has asked for the first signal, or ``at_once`` for SIGKILL."""
        grace_s = 0.0 if at_once else self._limits.kill_after
        due_at = now + grace_s + GIVE_UP_AFTER_S + MARGIN_S
        if self._stage == 0:
            self.due_at = min(self.due_at, due_at) if at_once or self._is_ending else due_at
        self._is_ending = True

    def extend(self, timeout_s: float, now: float) -> None:
        """The deadline is ``timeout_s`` seconds after the start, but not before ``now``."""
        if self._stage == 0 and not self._is_ending:
            deadline = max(now, self._limits.started_s + timeout_s)
            self.due_at = deadline + self._limits.kill_after + GIVE_UP_AFTER_S + MARGIN_S

    def act(self, now: float) -> bool:
        """Take the next step. False when there is none: guard and launcher are dead."""
        self._stage += 1
        debuglog.note("caller", f"the guard does not answer, step {self._stage}")
        if self._stage == 1:
            self._guard.launcher.send_signal(signal.SIGCONT)
            self._guard.signal(signal.SIGCONT)
            self.due_at = now + _AWAKE_AFTER_S
        elif self._stage == 2:
            self.killed = self._guard.kill_with_descendants()
            self._guard.launcher.send_signal(signal.SIGCONT)
            self.due_at = now + (_SWEPT_AFTER_S if self._guard.pid else 0.0)
        else:
            self._guard.launcher.send_signal(signal.SIGKILL)
            self.due_at = math.inf
        return self._stage < 3
