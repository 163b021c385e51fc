"""Many threads that run commands: quick commands begin a few at a time, and no command waits for a long one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ipython_pgtimeout import run
from ipython_pgtimeout.caller import blocking, connection, turns
from ipython_pgtimeout.caller.guard_handle import GuardHandle

from .watching import wait_until


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "AT_ONCE", 2)
    monkeypatch.setattr(turns, "_TURN_S", 30.0)


class Runner:
    """A thread that takes a turn, and ends it when told to."""

    def __init__(self, of: turns.Turns) -> None:
        self.has_begun = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[of])
        waiting = len(of._waiting)
        self._thread.start()
        assert wait_until(lambda: self.has_begun.is_set() or len(of._waiting) > waiting, 10)

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self, of: turns.Turns) -> None:
        with of.turn():
            self.began_s = time.monotonic()
            self.has_begun.set()
            self._end.wait(60)


@pytest.fixture
def five() -> Iterator[list[Runner]]:
    """The first two have begun; the others wait."""
    of = turns.Turns()
    runners = [Runner(of) for _ in range(5)]
    yield runners
    for runner in runners:
        runner.end()


def _begun(runners: list[Runner]) -> list[bool]:
    return [runner.has_begun.is_set() for runner in runners]


def test_the_next_turn_begins_when_one_ends(five: list[Runner]) -> None:
    assert _begun(five) == [True, True, False, False, False]
    five[1].end()
    assert five[2].has_begun.wait(10)
    assert _begun(five) == [True, True, True, False, False]
    five[2].end()
    five[0].end()
    assert five[3].has_begun.wait(10)
    assert five[4].has_begun.wait(10)


def test_a_turn_keeps_others_waiting_only_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where many wait, they begin one after the other."""
    monkeypatch.setattr(turns, "_TURN_S", 0.2)
    of = turns.Turns()
    runners = [Runner(of) for _ in range(6)]
    assert all(runner.has_begun.wait(10) for runner in runners)
    first = runners[0].began_s
    assert runners[2].began_s - first >= 0.2
    assert runners[4].began_s - first >= 0.4
    assert wait_until(lambda: of._room_in(0) <= 0, 10)
    waited_s = []
    for _ in range(3):  # the machine may be busy for a moment
        before = time.monotonic()
        with of.turn():
            waited_s.append(time.monotonic() - before)
    assert min(waited_s) < 0.1, "those that have begun before run for long, and should not count"
    for runner in runners:
        runner.end()
    assert not of._begun
    assert not of._waiting


def test_an_exception_in_a_wait_leaves_nothing() -> None:
    of = turns.Turns()
    runners = [Runner(of) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, "_room_in", lambda _ahead: 1 / 0)
        with pytest.raises(ZeroDivisionError), of.turn():
            pass
    assert not of._waiting
    for runner in runners:
        runner.end()
    assert not of._begun


def test_quick_commands_of_many_threads_use_a_few_guards_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without turns, 40 such threads had 20 to 40 guards forked."""
    forked = []
    new_guard = connection.Connection._new_guard

    def count(self: connection.Connection) -> GuardHandle:
        forked.append(1)
        return new_guard(self)

    monkeypatch.setattr(connection.Connection, "_new_guard", count)
    monkeypatch.setattr(blocking, "turns", turns.Turns())
    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(lambda number: run(f"echo {number}", 50), range(40)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(40)]
    assert len(forked) <= 4
    assert len(connection.connection._idle) <= 4
