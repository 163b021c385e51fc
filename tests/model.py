"""A guard without processes and with an invented clock, and a referee that knows the rules on its own: what is allowed
when, and what is due when. For ``test_model``.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass, field

from ipython_pgtimeout.helper import ladder
from ipython_pgtimeout.helper.ladder import Act, Step
from ipython_pgtimeout.shared.channel import Channel
from ipython_pgtimeout.shared.protocol import (
    GIVE_UP_AFTER_S,
    Done,
    Extend,
    Idle,
    Interrupt,
    Limits,
    Message,
    Request,
    Terminate,
)
from ipython_pgtimeout.shared.records import Ending, Process

INT, TERM, KILL, USR1 = map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1))
KILL_AGAIN_S = 0.1
"""SIGKILL is due again after that time at the latest."""
NEVER = math.inf


@dataclass(eq=False)
class Program:
    """A process of the command."""

    ignores: frozenset[int] = frozenset()
    forks_when_killed: int = 0
    is_immortal: bool = False


@dataclass
class Referee:
    """What has happened to one command, and what follows from it. Times are absolute."""

    limits: Limits
    deadline: float = 0.0
    causes: list[str] = field(default_factory=list)
    """Reasons to end it that the guard knows of and that nothing has followed from yet."""
    reason: str = "exited"
    presses: int = 0
    exited_at: float = NEVER
    sent: list[tuple[float, int]] = field(default_factory=list)
    is_hurried: bool = False
    has_noticed: bool = False

    def __post_init__(self) -> None:
        self.deadline = self.limits.started_s + self.limits.timeout

    def hear(self, message: Message) -> None:
        if isinstance(message, Interrupt) and message.presses > self.presses:
            self.presses = message.presses
            self.is_hurried |= bool(self.sent or self.causes) or self.presses > 1
            self.causes.append("interrupted")
        elif isinstance(message, Idle):
            self.causes.append("idle")
        elif isinstance(message, Terminate):
            self.is_hurried |= message.at_once
            self.causes.append("terminated")
        elif isinstance(message, Extend) and not self.sent and not self.causes:
            self.deadline = self.limits.started_s + message.timeout

    @property
    def killed_at(self) -> float:
        return next((at for at, number in self.sent if number == KILL), NEVER)

    def look_at_time(self, now: float) -> None:
        if not self.causes and now >= self.deadline:
            self.causes.append("timeout")
        elif not self.causes and self.limits.leftovers == "kill" and self.exited_at <= now:
            self.causes.append("exited")

    def judge(self, step: Step, reason: str, now: float) -> None:
        """This step at this time: is it allowed?"""
        self.look_at_time(now)
        if step.act is Act.NOTICE:
            assert not self.causes, "the end has begun"
            assert not self.has_noticed, "a second notice"
            assert now >= self.exited_at + ladder.NOTICE_AFTER_S, "the notice comes early"
            self.has_noticed = True
        elif step.act is Act.RELEASE:
            assert self.limits.leftovers == "leave", "nobody wants it to be left"
            assert self.exited_at <= now, "the shell still runs"
            assert not self.causes, "the end has begun"
        elif step.act is Act.GIVE_UP:
            assert now >= self.killed_at + GIVE_UP_AFTER_S, "gives up early"
        else:
            assert self.causes, f"signal {step.signal} without a cause"
            assert step.signal in self._allowed(now), f"{step.signal} is not due, after {self.sent}"
            assert reason == (self.reason if self.sent else self.causes[0]), f"{reason} is not what began the end"
            self.reason = reason
            self.sent.append((now, step.signal))

    def final_reason(self) -> str:
        return self.reason if self.sent else [*self.causes, "exited"][0]

    def _allowed(self, now: float) -> set[int]:
        is_graceless = self.limits.kill_after == 0 or self.is_hurried
        if is_graceless or self.killed_at < NEVER:
            return {KILL}
        if not self.sent:
            return {INT if self.causes[0] == "interrupted" else self.limits.signal}
        at, last = self.sent[-1]
        is_over = now >= at + self.limits.kill_after
        if self.reason == "interrupted" and len(self.sent) == 1:
            return {TERM} if is_over or self.exited_at <= now else set()
        assert last != KILL
        return {KILL} if is_over else set()

    def due_at(self, now: float) -> float:
        """When the next step is due if nothing else happens; ``now`` if one is overdue."""
        self.look_at_time(now)
        if self.killed_at < NEVER:
            return min(self.sent[-1][0] + KILL_AGAIN_S, self.killed_at + GIVE_UP_AFTER_S)
        if self.causes and (not self.sent or self.is_hurried):
            return now
        if self.sent:
            is_heeded = self.reason == "interrupted" and len(self.sent) == 1 and self.exited_at <= now
            return now if is_heeded else self.sent[-1][0] + self.limits.kill_after
        if self.exited_at <= now and self.limits.leftovers == "leave":
            return now
        return min(self.deadline, NEVER if self.has_noticed else self.exited_at + ladder.NOTICE_AFTER_S)


class Launcher:
    """The launcher of the model: it closes the channel of a guard that is dead."""

    def __init__(self, guard: Guard) -> None:
        self.state = "runs"
        """Or it is ``stopped`` or ``traced``, so that the caller gets no end of file."""
        self._guard = guard

    def send_signal(self, number: int) -> None:
        if number == KILL or self.state == "stopped":
            self.state = "runs"  # or is no more
        if self._guard.state == "dead":
            self._guard.die()


class Guard:
    """The guard of the model, with its processes: it hears, asks the ladder, signals, reports."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pid = 4711
        self.state = "runs"
        """Or it is ``stopped``, ``traced`` (can't be continued), ``dead``."""
        self.launcher = Launcher(self)
        self.caller_is_there = True
        self.inbox: list[Message] = []
        self.referee: Referee | None = None
        self.shell: Program | None = None
        self.processes: list[Program] = []
        self.programs: list[Program] = []

    def turn(self, now: float) -> None:
        """What it does when it is woken."""
        if self.state != "runs":
            return None
        self._receive()
        if self.referee is None and not self.caller_is_there:
            return self.die()
        if self.referee is None and not self._start():
            return None
        assert self.referee is not None
        while self.inbox and not isinstance(self.inbox[0], Request):
            message = self.inbox.pop(0)
            self.referee.hear(message)
            if isinstance(message, Interrupt):
                self.ladder.note_interrupt(message.presses, now)
            elif isinstance(message, Idle):
                self.ladder.note_silence(now)
            elif isinstance(message, Extend):
                self.ladder.extend(message.timeout)
            elif isinstance(message, Terminate):
                self.ladder.note_termination(message.at_once, now)
        if not self.caller_is_there:
            self.referee.causes.append("kernel-died")
            self.ladder.note_death_of_caller(now)
        return self._act(now)

    def _receive(self) -> None:
        try:
            while self.caller_is_there and (messages := self.channel.receive()):
                self.inbox += messages
            self.channel.flush()
        except (EOFError, OSError):
            self.caller_is_there = False

    def _start(self) -> bool:
        # What comes before a request was meant for the last command.
        while self.inbox and not isinstance(self.inbox[0], Request):
            del self.inbox[0]
        if not self.inbox:
            return False
        request = self.inbox.pop(0)
        assert isinstance(request, Request)
        self.ladder = ladder.Ladder(request.limits)
        self.referee = Referee(request.limits)
        self.processes = list(self.programs)
        self.shell = self.processes[0]
        return True

    def _act(self, now: float) -> None:
        assert self.referee is not None
        while True:
            if self.shell not in self.processes and self.referee.exited_at == NEVER:
                self.referee.exited_at = now
                self.ladder.note_shell_exit(now)
            if not self.processes:
                return self._report(is_free=True)
            step = self.ladder.next_step(now)
            if step is None:
                break
            self.referee.judge(step, self.ladder.reason, now)
            if step.act in (Act.GIVE_UP, Act.RELEASE):
                return self._report(is_free=False)
            if step.act is Act.SIGNAL:
                self._signal(step.signal)
        assert now < self.ladder.due_at <= self.referee.due_at(now), "a step is skipped or late, or the guard spins"
        return None

    def _signal(self, number: int) -> None:
        for process in list(self.processes):
            if number == KILL and process.forks_when_killed:
                process.forks_when_killed -= 1
                self.processes.append(Program(process.ignores, process.forks_when_killed))
            if not process.is_immortal and (number == KILL or number not in process.ignores):
                self.processes.remove(process)

    def _report(self, *, is_free: bool) -> None:
        assert self.referee is not None
        assert self.ladder.reason == self.referee.final_reason(), "that is not what began the end"
        left = (Process(1, 0, 1, 1, "D", 0, "left", "left", 0.0, 0.0, 0),) * len(self.processes)
        ending = Ending(
            1, self.ladder.timeout_s, 0, self.ladder.reason, "", None, 0.0, 0.0, 0, 0, (), (), left, True, (), 0
        )
        if self.caller_is_there:
            self.channel.send(Done(ending, is_free))
        self.referee = None
        if not is_free or not self.caller_is_there:
            self.die()

    def is_killing(self) -> bool:
        return self.referee is not None and self.referee.killed_at < NEVER

    def due_at(self) -> float:
        return self.ladder.due_at if self.referee is not None and self.state == "runs" else NEVER

    def die(self) -> None:
        self.state = "dead"
        if self.launcher.state == "runs":
            self.channel.close()

    # What the backstop does by `GuardHandle`.

    def signal(self, number: int) -> None:
        assert number == signal.SIGCONT
        if self.state == "stopped":
            self.state = "runs"

    def kill_with_descendants(self) -> int:
        killed = [process for process in self.processes if not process.is_immortal]
        self.processes = [process for process in self.processes if process.is_immortal]
        self.die()
        return len(killed)
