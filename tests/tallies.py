"""Tables that the tests of a session fill, and that the session prints at its end.

Under pytest-xdist each worker has its own tables. It hands the rows to the controller, which prints all of them
together. Rows must therefore consist of plain values: str, int, float, bool, None, and tuples of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

Row = TypeVar("Row", bound=tuple[Any, ...])


class Tally(list[Row], Generic[Row]):
    """The rows of one table. ``lines`` makes text of the rows of all workers; an empty table is not printed."""

    def __init__(self, title: str, row: Callable[..., Row], lines: Callable[[Sequence[Row]], Iterable[str]]) -> None:
        super().__init__()
        self.title = title
        self._row = row
        self._lines = lines

    def as_plain_values(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self]

    def add_plain_values(self, rows: Iterable[Sequence[Any]]) -> None:
        self.extend(self._row(*row) for row in rows)

    def print(self, terminal: pytest.TerminalReporter) -> None:
        if self:
            terminal.section(self.title)
            for line in self._lines(self):
                terminal.line(line)


class Combination(NamedTuple):
    """One misbehaving program, ended in one way."""

    program: str
    ending: str
    started: int
    survived: int


def _summarize(combinations: Sequence[Combination]) -> Iterable[str]:
    programs, endings = {one.program for one in combinations}, {one.ending for one in combinations}
    started, survived = sum(one.started for one in combinations), sum(one.survived for one in combinations)
    yield (
        f"{len(combinations)} combinations of {len(programs)} programs and {len(endings)} endings: "
        f"{started} processes seen, {survived} survivors"
    )


class Fault(NamedTuple):
    """One fault that met one ending: how late the first signal or the end was, how many were left, what was said."""

    fault: str
    ending: str
    late_s: float
    left: int
    said: str


def _table(faults: Sequence[Fault]) -> Iterable[str]:
    rounds: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        rounds.setdefault((fault.fault, fault.ending), []).append(fault)
    for (name, ending), met in sorted(rounds.items()):
        late_s = sorted(fault.late_s for fault in met)
        yield (
            f"{name:26} {ending:13} {len(met):3} rounds: {late_s[len(late_s) // 2]:6.3f} s late, "
            f"{late_s[-1]:6.3f} s at worst, {sum(fault.left for fault in met)} left; {met[-1].said[:80]}"
        )


class Crash(NamedTuple):
    """A process that was killed at points of a command's life: at how many of how many, how often something was left
    or claimed to be gone though it lived, and how often each outcome came."""

    steps: str
    ending: str
    victim: str
    points: int
    tried: int
    left: int
    false: int
    outcomes: str


def _crash_lines(crashes: Sequence[Crash]) -> Iterable[str]:
    for crash in sorted(crashes):
        yield (
            f"steps of the {crash.steps}, {crash.ending}: {crash.victim} killed at {crash.tried} of {crash.points}, "
            f"{crash.left} with something left, {crash.false} false words; {crash.outcomes}"
        )
    yield f"{sum(crash.tried for crash in crashes)} kills in all"


class Compared(NamedTuple):
    """A cell that was run with and without a deadline for every command."""

    cell: str
    is_same: bool


class LeftBehind(NamedTuple):
    """A process that still runs when the tests of a session, or of a worker, are over."""

    description: str


SURVIVORS = Tally("survivors", Combination, _summarize)
LEFT_BEHIND = Tally("left behind by the tests", LeftBehind, lambda rows: (row.description for row in rows))
FAULTS = Tally("faults", Fault, _table)
CRASHES = Tally("crashes", Crash, _crash_lines)
SAME_CELLS = Tally(
    "cells with and without %timeout_shell",
    Compared,
    lambda rows: [f"{sum(row.is_same for row in rows)} of {len(rows)} cells show the same"],
)
ALL: tuple[Tally[Any], ...] = (SURVIVORS, FAULTS, CRASHES, SAME_CELLS, LEFT_BEHIND)


def record_fault(fault: str, ending: str, told: dict[str, Any]) -> None:
    FAULTS.append(Fault(fault, ending, told["late_s"], len(told["left"]), told["said"]))


def rows_for_controller() -> dict[str, list[tuple[Any, ...]]]:
    """The rows that a worker sends to the controller."""
    return {tally.title: tally.as_plain_values() for tally in ALL}


def add_rows_from_worker(sent: dict[str, list[tuple[Any, ...]]]) -> None:
    """Add the rows that a worker has sent."""
    for tally in ALL:
        tally.add_plain_values(sent.get(tally.title, []))
