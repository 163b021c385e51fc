"""Kernels, marks, the tables that are printed at the end, and the check that the tests leave no process behind."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from ipython_pgtimeout.caller.connection import connection

from . import tallies
from .clusters import ENGINES, START_S, running_cluster
from .kernels import LOAD, Kernel
from .watching import kill_marked, wait_until_gone

_SESSION_MARK = f"session-{uuid.uuid4().hex}"
"""It is in the environment of every process that the tests of this process start, notebooks included."""

PATIENCE_S = 10.0
"""How long processes that the tests have started may run on after the last test."""

LONGEST = (
    *("browser_pictures", "browser", "pipelines", "survivors", "backstop", "engines_endings", "crashes"),
    *("command_line_endings", "browser_status", "pipelines_saved", "browser_jobs", "model", "engines", "dask"),
)
"""The files that take longest. Side by side, none of them should begin last; nor all with a browser at once."""

# Hypothesis limits the time of each example, which is too short on a busy machine. Each test has a limit already.
hypothesis.settings.register_profile("pgtimeout", deadline=None)
hypothesis.settings.load_profile("pgtimeout")


def _runs_tests(config: pytest.Config) -> bool:
    """False for the controller of pytest-xdist, which only hands tests out and collects their results."""
    return not config.pluginmanager.has_plugin("dsession")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_sessionstart(session: pytest.Session) -> None:
    if _runs_tests(session.config):
        os.environ["PGTIMEOUT_TESTS"] = _SESSION_MARK


@pytest.hookimpl(trylast=True)  # after the fixtures and the notebooks' kernels have been closed
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _runs_tests(session.config):
        connection.close()
        left = wait_until_gone(_SESSION_MARK, PATIENCE_S)
        kill_marked(_SESSION_MARK)
        tallies.LEFT_BEHIND.extend(map(tallies.LeftBehind, left))
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tallies"] = tallies.rows_for_controller()
    elif tallies.LEFT_BEHIND:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)  # pytest-xdist calls it in the controller, when a worker has ended
def pytest_testnodedown(node: Any) -> None:
    # A worker that crashed sends nothing. Its test is reported as failed.
    tallies.add_rows_from_worker(getattr(node, "workeroutput", {}).get("tallies", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for tally in tallies.ALL:
        tally.print(terminalreporter)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel with the extension loaded, for all tests of a file: leave it as you found it."""
    with Kernel(LOAD) as shared:
        yield shared


@pytest.fixture
def fresh_kernel() -> Iterator[Kernel]:
    """A kernel for one test, with the extension loaded. The test may kill it or change it."""
    with Kernel(LOAD) as own:
        yield own


@pytest.fixture
def mark() -> Iterator[str]:
    """A unique word for arguments and environments. Processes that have it and outlive the test are killed then."""
    word = f"mark-{uuid.uuid4().hex}"
    yield word
    kill_marked(word)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of `ENGINES` engines for all tests of a file, which kill none of them."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def view(cluster: Any) -> Iterator[Any]:
    """A direct view on all engines of ``cluster``."""
    with cluster.connect_client_sync() as client:
        client.wait_for_engines(ENGINES, timeout=START_S)
        yield client[:]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Install Python's SIGINT handler, which Python does not do if the tests were started with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
