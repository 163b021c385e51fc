"""Any events in any order, twice, late, crossed or lost: a model of caller, guard and processes drives the real ladder,
channel and backstop.

`Guard` does what a guard does, and `Referee` judges each step of it: see ``model``.
"""

from __future__ import annotations

import os
import socket

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ipython_pgtimeout.caller import backstop
from ipython_pgtimeout.shared.channel import Channel
from ipython_pgtimeout.shared.inheritance import Inheritance
from ipython_pgtimeout.shared.protocol import Done, Extend, Idle, Interrupt, Limits, Message, Request, Terminate

from .model import INT, KILL, NEVER, TERM, USR1, Guard, Program

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))
PROGRAMS = st.builds(
    Program,
    ignores=st.sampled_from([frozenset(), frozenset({INT}), frozenset({INT, TERM, USR1})]),
    forks_when_killed=st.sampled_from([0, 0, 1, 3]),
    is_immortal=st.sampled_from([False, False, False, True]),
)
PAUSES_S = st.sampled_from([0.004, 1.0, 2.9, 30.0])
NOTHING_INHERITED = Inheritance(0, 0, frozenset(), ())
LIMITS = st.builds(
    Limits,
    started_s=st.just(0.0),  # to be replaced
    timeout=st.sampled_from([3.0, 3.0, NEVER]),
    kill_after=st.sampled_from([0.0, 2.0, 10.0]),
    signal=st.sampled_from([TERM, USR1, KILL]),
    leftovers=st.sampled_from(["wait", "wait", "kill", "leave"]),
)
COMMANDS = st.lists(PROGRAMS, min_size=2, max_size=3)


class Life(RuleBasedStateMachine):
    """Commands one after the other, of one caller with one guard."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # a request does not fit at once
        self.caller = Channel(ours)
        self.guard = Guard(Channel(theirs))
        self.is_over = True
        self.is_dead = False
        self.is_punctual = True

    # -- the caller ---------------------------------------------------------------------------------------

    @initialize(limits=LIMITS, programs=COMMANDS)
    def run_first(self, limits: Limits, programs: list[Program]) -> None:
        self.run(limits, programs)

    @precondition(lambda self: self.is_over and not self.is_dead and self.guard.state == "runs")
    @rule(limits=LIMITS, programs=COMMANDS)
    def run(self, limits: Limits, programs: list[Program]) -> None:
        limits = limits._replace(started_s=self.now)
        self.is_over, self.presses, self.is_punctual = False, 0, True
        self.guard.programs = programs
        self.backstop = backstop.Backstop(limits, self.guard)  # type: ignore[arg-type]
        self.tell(Request(b"sh", [], {b"LARGE": b"x" * 20_000}, NOTHING_INHERITED, limits, False, False))

    @precondition(lambda self: not self.is_over)
    @rule(times=st.sampled_from([1, 1, 2, 3]), twice=st.booleans())
    def press_stop(self, times: int, twice: bool) -> None:
        for _ in range(times):
            self.presses += 1
            self.backstop.note_stop(self.presses, self.now)
            self.tell(Interrupt(self.presses))
        if twice:
            self.tell(Interrupt(self.presses))

    @precondition(lambda self: not self.is_over and self.presses > 1)
    @rule()
    def send_an_old_interrupt(self) -> None:
        """A signal handler that was interrupted half-way by a later one."""
        self.tell(Interrupt(1))

    @precondition(lambda self: not self.is_over)
    @rule()
    def note_silence(self) -> None:
        self.tell(Idle())

    @precondition(lambda self: not self.is_over)
    @rule(at_once=st.booleans(), times=st.sampled_from([1, 1, 2]))
    def terminate(self, at_once: bool, times: int) -> None:
        for _ in range(times):
            self.backstop.note_termination(at_once, self.now)
            self.tell(Terminate(at_once))

    @precondition(lambda self: not self.is_over)
    @rule(timeout=st.sampled_from([0.0, 20.0, NEVER]))
    def extend(self, timeout: float) -> None:
        self.backstop.extend(timeout, self.now)
        self.tell(Extend(timeout))

    @precondition(lambda self: not self.is_dead)
    @rule()
    def listen(self) -> None:
        self.is_over |= self.hears_the_end()

    def die(self) -> None:
        self.caller.close()
        self.is_dead = self.is_over = True

    def tell(self, message: Message) -> None:
        try:
            self.caller.send(message)
        except OSError:
            assert self.guard.state == "dead"

    def hears_the_end(self) -> bool:
        try:
            self.caller.flush()
        except OSError:
            assert self.guard.state == "dead"
        try:
            while messages := self.caller.receive():
                for message in messages:
                    assert isinstance(message, Done)
                    assert not self.is_over, "a second report of one command"
                    assert message.ending.survivors or not self.guard.processes, "called gone, and there"
                    return True
        except EOFError:
            assert self.guard.state == "dead"
            return True
        return False

    # -- the guard and the processes ----------------------------------------------------------------------

    @rule(times=st.sampled_from([1, 10]))
    def take_turns(self, times: int) -> None:
        """A request comes in pieces: one turn is not enough."""
        for _ in range(times):
            self.guard.turn(self.now)
            self.is_over |= not self.is_dead and self.hears_the_end()

    @precondition(lambda self: self.guard.processes)
    @rule(data=st.data())
    def a_process_exits(self, data: st.DataObject) -> None:
        self.guard.processes.remove(data.draw(st.sampled_from(self.guard.processes)))

    @precondition(lambda self: self.guard.shell in self.guard.processes)
    @rule()
    def the_shell_exits(self) -> None:
        self.guard.processes = [process for process in self.guard.processes if process is not self.guard.shell]

    @precondition(lambda self: self.guard.processes)
    @rule(program=PROGRAMS)
    def a_process_forks(self, program: Program) -> None:
        self.guard.processes.append(program)

    @precondition(lambda self: self.guard.state == "runs" and not self.is_dead)
    @rule(disaster=st.sampled_from(["caller dies", "guard dies", "guard hangs", "guard hangs"]), data=st.data())
    def meet_disaster(self, disaster: str, data: st.DataObject) -> None:
        if disaster == "caller dies":
            self.die()
        elif disaster == "guard dies":
            self.guard.kill_with_descendants()  # the launcher does; what the guard has not sent is lost
        else:
            self.hang(*data.draw(st.tuples(*[st.sampled_from(["stopped", "traced"])] * 2)))

    def hang(self, guard: str, launcher: str) -> None:
        self.guard.state, self.guard.launcher.state = guard, launcher
        self.is_punctual = False

    # -- time ---------------------------------------------------------------------------------------------

    @rule(pause_s=PAUSES_S)
    def everybody_is_late(self, pause_s: float) -> None:
        self.now += pause_s
        self.is_punctual = False

    @rule(pause_s=PAUSES_S)
    def wait(self, pause_s: float) -> None:
        self.wait_until(self.now + pause_s)

    def wait_until(self, until: float) -> None:
        """Everybody takes turns when it is time."""
        while True:
            self.take_turns(10)
            due_at = NEVER if self.is_over else self.backstop.due_at
            if now_is_due := not self.is_over and self.now >= due_at:
                self.is_over = not self.act()
            next_at = min(self.guard.due_at(), due_at)
            if next_at > until:
                break
            if not now_is_due:
                # SIGKILL is repeated often: leave most of that out.
                self.now = max(next_at, min(self.now + 0.25, until)) if self.guard.is_killing() else next_at
        self.now = max(self.now, until)

    def act(self) -> bool:
        """The backstop's next step. Returns whether there is one."""
        assert not self.is_punctual or self.presses > 2, "the guard is killed though it does what it must"
        return self.backstop.act(self.now)

    def teardown(self) -> None:
        try:
            self.end()
        finally:
            self.caller.close()
            self.guard.channel.close()

    def end(self) -> None:
        """Whatever has happened: it ends, and in time."""
        if not self.is_over and self.backstop.due_at == NEVER:
            self.press_stop(1, False)
        if not self.is_over:
            assert self.backstop.due_at < NEVER, "the caller waits for ever"
            # The third press means that the user has waited long enough.
            self.wait_until((self.now if self.presses > 2 else max(self.now, self.backstop.due_at)) + 6)
            assert self.is_over, "the caller waits too long"
        if not self.is_dead:
            self.die()
        self.wait_until(self.now + 60)
        assert self.guard.state != "runs", "the guard waits for ever"


TestLife = Life.TestCase
TestLife.pytestmark = [pytest.mark.timeout(60 + EXAMPLES / 4)]  # type: ignore[attr-defined]
TestLife.settings = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=30)


def test_an_interrupt_shortly_before_the_deadline_has_two_graces() -> None:
    """The backstop counted one from the deadline, and killed a guard that was about to send SIGKILL."""
    life = Life()
    life.run(Limits(0, 3.0, 10.0, TERM, "wait"), [Program(frozenset({INT, TERM}))])
    life.press_stop(1, twice=False)
    life.wait(30)
    assert life.is_over
    assert life.guard.state == "runs"
    life.teardown()


def test_an_interrupt_that_comes_with_the_deadline_has_two_graces() -> None:
    """The guard hears of it before it looks at the time, so the backstop must not count from the deadline."""
    life = Life()
    life.run(Limits(0, 3.0, 10.0, TERM, "wait"), [Program(frozenset({INT, TERM}))])
    life.take_turns(10)
    life.now += 3.0
    life.press_stop(1, twice=False)
    life.wait(30)
    assert life.guard.state == "runs"
    life.teardown()


def test_a_deadline_that_was_moved_to_never_and_back_is_kept() -> None:
    """The backstop calculated with infinities, and was due at "nan": never."""
    life = Life()
    life.run(Limits(0, 3.0, 0.0, TERM, "wait"), [Program()])
    life.hang("traced", "runs")
    life.extend(NEVER)
    life.extend(5.0)
    life.wait(30)
    assert life.is_over
    life.teardown()
