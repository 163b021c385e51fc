"""Kernels, marks, and the count of what was started and what survived."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ipython_pgtimeout.caller.connection import connection

from .kernels import LOAD, Kernel
from .watching import kill_marked, wait_until_gone


class Combination(NamedTuple):
    """One misbehaving program, ended in one way."""

    program: str
    ending: str
    started: int
    survived: int


class Tally(list[Combination]):
    """All combinations that were tried. The session's last lines say what came of them."""

    def summary(self) -> str:
        programs, endings = {one.program for one in self}, {one.ending for one in self}
        started, survived = sum(one.started for one in self), sum(one.survived for one in self)
        return (
            f"{len(self)} combinations of {len(programs)} programs and {len(endings)} endings: "
            f"{started} processes seen, {survived} survivors"
        )


_TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if tally := config.stash[_TALLY]:
        terminalreporter.section("survivors")
        terminalreporter.line(tally.summary())


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash[_TALLY]


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What the tests themselves leave behind is found by a mark that everything they start inherits."""
    word = f"session-{uuid.uuid4().hex}"
    os.environ["PGTIMEOUT_TESTS"] = word
    yield
    connection.close()
    left = wait_until_gone(word, 10)
    kill_marked(word)
    assert left == []


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel with the extension loaded, for all tests of a file: leave it as you found it."""
    with Kernel(LOAD) as shared:
        yield shared


@pytest.fixture
def fresh_kernel() -> Iterator[Kernel]:
    """A kernel of one's own with the extension loaded, to kill or to change."""
    with Kernel(LOAD) as own:
        yield own


@pytest.fixture
def mark() -> Iterator[str]:
    """A word that is nowhere else on the machine. What carries it and still runs after the test is killed then."""
    word = f"mark-{uuid.uuid4().hex}"
    yield word
    kill_marked(word)
