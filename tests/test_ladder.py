"""The policy that ends a command: what is sent when, for each ending. Tested with a fake clock and no processes."""

from __future__ import annotations

import itertools
import math
import signal
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from ipython_pgtimeout.helper.ladder import KILL_AGAIN_AFTER_S, NOTICE_AFTER_S, Act, Ladder
from ipython_pgtimeout.shared.protocol import GIVE_UP_AFTER_S, Limits

INT, TERM, KILL, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1
START_S = 1000.0
Event = Callable[[Ladder, float], object]


class Action(NamedTuple):
    """One action of the ladder: seconds since the start, and the name of the signal or of the act."""

    at_s: float
    what: str


def exit_of_shell(ladder: Ladder, now: float) -> None:
    ladder.note_shell_exit(now)


def silence(ladder: Ladder, now: float) -> None:
    ladder.note_silence(now)


def death_of_caller(ladder: Ladder, now: float) -> None:
    ladder.note_death_of_caller(now)


def press(number: int) -> Event:
    return lambda ladder, now: ladder.note_interrupt(number, now)


def terminate(at_once: bool) -> Event:
    return lambda ladder, now: ladder.note_termination(at_once, now)


def excess(ladder: Ladder, now: float) -> None:
    ladder.note_excess("memory", now)


def extend(timeout_s: float) -> Event:
    return lambda ladder, now: ladder.extend(timeout_s)


def limits(timeout: float = 10.0, kill_after: float = 2.0, number: int = TERM, leftovers: str = "wait") -> Limits:
    return Limits(START_S, timeout, kill_after, int(number), leftovers)


def climb(given: Limits, events: Iterable[tuple[float, Event]] = (), until_s: float = 60.0) -> tuple[list[Action], str]:
    """Run a ladder. Returns its actions and its reason. Processes never end, but an event can end the shell.

    Time jumps to the next event, or to the ladder's ``due_at``. After the first SIGKILL it advances by 0.25 s at least,
    so that SIGKILL is repeated only a few times. The repetitions are left out of the actions.
    """
    ladder = Ladder(given)
    waiting = sorted(events, key=lambda event: event[0])
    actions: list[Action] = []
    now = START_S
    while now <= START_S + until_s:
        while waiting and START_S + waiting[0][0] <= now:
            waiting.pop(0)[1](ladder, now)
        while True:
            due_at = ladder.due_at
            if (step := ladder.next_step(now)) is None:
                break
            assert due_at <= now, "a guard that could not take the step at once would sleep on"
            what = signal.Signals(step.signal).name if step.act is Act.SIGNAL else step.act.name
            if not (what == "SIGKILL" and actions and actions[-1].what == "SIGKILL"):
                actions.append(Action(round(now - START_S, 6), what))
            if step.act in (Act.RELEASE, Act.GIVE_UP):
                return actions, ladder.reason
        event_at = START_S + waiting[0][0] if waiting else math.inf
        assert ladder.due_at > now, "a step is due, and there is none: the guard would loop without a pause"
        is_killing = bool(actions) and actions[-1].what == "SIGKILL"
        now = min(event_at, max(ladder.due_at, now + 0.25) if is_killing else ladder.due_at)
    return actions, ladder.reason


GAVE_UP = "GIVE_UP"


@pytest.mark.parametrize(
    ("given", "events", "expected", "reason"),
    [
        pytest.param(limits(), [], [(10, "SIGTERM"), (12, "SIGKILL"), (15, GAVE_UP)], "timeout", id="deadline"),
        pytest.param(limits(math.inf), [], [], "exited", id="no deadline"),
        pytest.param(limits(1, 0), [], [(1, "SIGKILL"), (4, GAVE_UP)], "timeout", id="no grace"),
        pytest.param(limits(1, 2, KILL), [], [(1, "SIGKILL"), (4, GAVE_UP)], "timeout", id="SIGKILL first"),
        pytest.param(
            limits(1, 0.5, USR1), [], [(1, "SIGUSR1"), (1.5, "SIGKILL"), (4.5, GAVE_UP)], "timeout", id="other signal"
        ),
        pytest.param(limits(), [(3, silence)], [(3, "SIGTERM"), (5, "SIGKILL"), (8, GAVE_UP)], "idle", id="silence"),
        pytest.param(
            limits(),
            [(3, press(1))],
            [(3, "SIGINT"), (5, "SIGTERM"), (7, "SIGKILL"), (10, GAVE_UP)],
            "interrupted",
            id="interrupt",
        ),
        pytest.param(
            limits(kill_after=0),
            [(3, press(1))],
            [(3, "SIGKILL"), (6, GAVE_UP)],
            "interrupted",
            id="interrupt, no grace",
        ),
        pytest.param(
            limits(),
            [(3, press(1)), (3.5, press(2))],
            [(3, "SIGINT"), (3.5, "SIGKILL"), (6.5, GAVE_UP)],
            "interrupted",
            id="second interrupt",
        ),
        pytest.param(
            limits(), [(3, press(2))], [(3, "SIGKILL"), (6, GAVE_UP)], "interrupted", id="two interrupts in one message"
        ),
        pytest.param(
            limits(),
            [(3, press(1)), (3.1, press(1))],
            [(3, "SIGINT"), (5, "SIGTERM"), (7, "SIGKILL"), (10, GAVE_UP)],
            "interrupted",
            id="the same interrupt twice",
        ),
        pytest.param(
            limits(),
            [(3, press(1)), (3.2, exit_of_shell)],
            [(3, "SIGINT"), (3.2, "SIGTERM"), (5.2, "SIGKILL"), (8.2, GAVE_UP)],
            "interrupted",
            id="interrupt that the shell heeds",
        ),
        pytest.param(
            limits(),
            [(2, exit_of_shell), (4, press(1))],
            [(3, "NOTICE"), (4, "SIGINT"), (4, "SIGTERM"), (6, "SIGKILL"), (9, GAVE_UP)],
            "interrupted",
            id="interrupt when the shell has exited",
        ),
        pytest.param(
            limits(),
            [(10.5, press(1))],
            [(10, "SIGTERM"), (10.5, "SIGKILL"), (13.5, GAVE_UP)],
            "timeout",
            id="interrupt during the grace",
        ),
        pytest.param(
            limits(),
            [(3, death_of_caller)],
            [(3, "SIGTERM"), (5, "SIGKILL"), (8, GAVE_UP)],
            "kernel-died",
            id="kernel died",
        ),
        pytest.param(
            limits(),
            [(10.5, death_of_caller)],
            [(10, "SIGTERM"), (12, "SIGKILL"), (15, GAVE_UP)],
            "timeout",
            id="kernel died during the grace",
        ),
        pytest.param(
            limits(),
            [(3, press(1)), (3.5, death_of_caller)],
            [(3, "SIGINT"), (5, "SIGTERM"), (7, "SIGKILL"), (10, GAVE_UP)],
            "interrupted",
            id="kernel died after an interrupt",
        ),
        pytest.param(
            limits(),
            [(2, exit_of_shell)],
            [(3, "NOTICE"), (10, "SIGTERM"), (12, "SIGKILL"), (15, GAVE_UP)],
            "timeout",
            id="leftovers: wait",
        ),
        pytest.param(
            limits(leftovers="kill"),
            [(2, exit_of_shell)],
            [(2, "SIGTERM"), (4, "SIGKILL"), (7, GAVE_UP)],
            "exited",
            id="leftovers: kill",
        ),
        pytest.param(
            limits(leftovers="leave"), [(2, exit_of_shell)], [(2, "RELEASE")], "exited", id="leftovers: leave"
        ),
        pytest.param(
            limits(leftovers="leave"),
            [(10.5, exit_of_shell)],
            [(10, "SIGTERM"), (12, "SIGKILL"), (15, GAVE_UP)],
            "timeout",
            id="leave, but too late",
        ),
        pytest.param(
            limits(),
            [(3, extend(20)), (19, extend(5))],
            [(19, "SIGTERM"), (21, "SIGKILL"), (24, GAVE_UP)],
            "timeout",
            id="extended, then shortened",
        ),
        pytest.param(
            limits(),
            [(11, extend(50))],
            [(10, "SIGTERM"), (12, "SIGKILL"), (15, GAVE_UP)],
            "timeout",
            id="extended too late",
        ),
        pytest.param(
            limits(),
            [(1, terminate(False))],
            [(1, "SIGTERM"), (3, "SIGKILL"), (6, GAVE_UP)],
            "terminated",
            id="terminated",
        ),
        pytest.param(
            limits(number=USR1), [(1, terminate(True))], [(1, "SIGKILL"), (4, GAVE_UP)], "terminated", id="killed"
        ),
        pytest.param(
            limits(),
            [(1, terminate(False)), (2, terminate(False)), (2.5, terminate(True))],
            [(1, "SIGTERM"), (2.5, "SIGKILL"), (5.5, GAVE_UP)],
            "terminated",
            id="terminated twice, killed",
        ),
        pytest.param(
            limits(),
            [(10.5, terminate(False)), (11, terminate(True))],
            [(10, "SIGTERM"), (11, "SIGKILL"), (14, GAVE_UP)],
            "timeout",
            id="terminated and killed after the deadline",
        ),
        pytest.param(
            limits(),
            [(1, press(1)), (2, terminate(False)), (2.5, terminate(True))],
            [(1, "SIGINT"), (2.5, "SIGKILL"), (5.5, GAVE_UP)],
            "interrupted",
            id="interrupted, then terminated and killed",
        ),
        pytest.param(
            limits(),
            [(1, terminate(False)), (2, press(1))],
            [(1, "SIGTERM"), (2, "SIGKILL"), (5, GAVE_UP)],
            "terminated",
            id="terminated, then interrupted",
        ),
        pytest.param(
            limits(),
            [(1, terminate(True)), (2, terminate(True)), (3, terminate(True))],
            [(1, "SIGKILL"), (4, GAVE_UP)],
            "terminated",
            id="killed again and again",
        ),
        pytest.param(limits(), [(1, excess)], [(1, "SIGTERM"), (3, "SIGKILL"), (6, GAVE_UP)], "memory", id="excess"),
        pytest.param(
            limits(),
            [(1, excess), (1.25, excess), (2, excess)],
            [(1, "SIGTERM"), (1.25, "SIGKILL"), (4.25, GAVE_UP)],
            "memory",
            id="excess that goes on",
        ),
        pytest.param(
            limits(),
            [(10.5, excess)],
            [(10, "SIGTERM"), (10.5, "SIGKILL"), (13.5, GAVE_UP)],
            "timeout",
            id="excess after the deadline",
        ),
    ],
)
def test_each_ending_sends_its_signals_in_time(
    given: Limits, events: list[tuple[float, Event]], expected: list[tuple[float, str]], reason: str
) -> None:
    assert climb(given, events) == ([Action(*each) for each in expected], reason)


def test_sigkill_is_repeated_until_the_ladder_gives_up() -> None:
    ladder = Ladder(limits(1, 0))
    now, kills = START_S + 1, 0
    while (step := ladder.next_step(now)) is None or step.act is not Act.GIVE_UP:
        kills += step is not None
        now = ladder.due_at
    assert now - START_S == pytest.approx(1 + GIVE_UP_AFTER_S)
    assert kills == pytest.approx(GIVE_UP_AFTER_S / KILL_AGAIN_AFTER_S, rel=0.02)


def test_a_late_guard_skips_no_signal_and_shortens_no_grace() -> None:
    """Woken long after the deadline, it still sends the gentle signal first, and waits for the whole grace."""
    ladder = Ladder(limits(1, 2))
    late = START_S + 50
    assert ladder.next_step(late) == (Act.SIGNAL, TERM)
    assert ladder.next_step(late) is None
    assert ladder.due_at == late + 2
    assert ladder.next_signal_in(late) == 2


TIMES_S = (0.0, 0.5, 1.0)
EVENTS = {
    "exit": exit_of_shell,
    "silence": silence,
    "death": death_of_caller,
    "press 1": press(1),
    "press 2": press(2),
    "extend": extend(4),
    "terminate": terminate(False),
    "kill": terminate(True),
    "excess": excess,
}
GIVEN = [
    limits(0.75, kill_after, number, leftovers)
    for kill_after in (0.0, 0.5)
    for number in (TERM, KILL)
    for leftovers in ("wait", "kill", "leave")
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "-".join(map(str, given[1:])))
def test_any_two_events_lead_to_a_timely_end_with_whole_graces(given: Limits) -> None:
    """Two events of any kind at any time: the command ends in time, SIGKILL comes last, and no grace is shortened."""
    names = itertools.product(EVENTS, TIMES_S, EVENTS, TIMES_S)
    for first, first_s, second, second_s in names:
        actions, reason = climb(given, [(first_s, EVENTS[first]), (second_s, EVENTS[second])])
        case = f"{first} at {first_s}, {second} at {second_s}: {actions}"
        assert actions[-1].what in ("GIVE_UP", "RELEASE"), case
        assert actions[-1].at_s <= 4 + 2 * given.kill_after + GIVE_UP_AFTER_S, case
        signals = [each for each in actions if each.what.startswith("SIG")]
        if actions[-1].what == "RELEASE":
            assert (given.leftovers, reason, signals) == ("leave", "exited", []), case
            continue
        assert [each.what for each in signals].count("SIGKILL") == 1, case
        assert signals[-1].what == "SIGKILL", case
        assert actions[-1].at_s == pytest.approx(signals[-1].at_s + GIVE_UP_AFTER_S, abs=0.3), case
        is_hurried = any(word in first + second for word in ("press", "kill", "excess"))
        for earlier, later in itertools.pairwise(signals):
            if not is_hurried:
                assert later.at_s - earlier.at_s == pytest.approx(given.kill_after), case
        causes_s = [at for name, at in ((first, first_s), (second, second_s)) if name != "extend"]
        assert signals[0].at_s >= min([given.timeout, *causes_s]), case
        notices = [each for each in actions if each.what == "NOTICE"]
        assert len(notices) <= 1, case
        if notices:
            assert notices[0].at_s >= NOTICE_AFTER_S, case
