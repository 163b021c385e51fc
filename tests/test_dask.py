"""Commands on the workers of a Dask cluster, as docs/how-to/cluster.md says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from ipython_pgtimeout import CommandFailed, Result, run

from .jobs import NASTY, nasty
from .watching import survivors, wait_until, wait_until_gone

distributed = pytest.importorskip("distributed")
import dask  # noqa: E402

pytestmark = pytest.mark.timeout(180)
START_S = 60
SOON_S = 10.0
HOW_TO = Path(__file__).parent.parent / "docs" / "how-to" / "cluster.md"
WORKERS = 2


def _documented() -> Callable[..., Result]:
    """The function that the how-to shows."""
    (code,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    function: Callable[..., Result] = namespace["run_unless_cancelled"]
    return function


@pytest.fixture(scope="module", autouse=True)
def tracker() -> Iterator[None]:
    """multiprocessing starts a resource tracker for the workers, which would run until the tests' own process ends."""
    yield
    started: Any = resource_tracker._resource_tracker
    started._stop()


@pytest.fixture
def client() -> Iterator[Any]:
    """A cluster of workers that are processes with nannies. What one was doing when it died is not tried again."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as connected,
    ):
        connected.wait_for_workers(WORKERS, timeout=START_S)
        yield connected


def _begun(client: Any, function: Callable[..., Any], mark: str) -> Any:
    """A task whose command has started all its processes."""
    future = client.submit(function, nasty(mark), "90s", pure=False)
    assert wait_until(lambda: len(survivors(mark)) > len(NASTY), START_S)
    return future


def test_results_and_errors_come_back(client: Any) -> None:
    results = client.gather(client.map(run, [f"echo {n}; exit {n}" for n in range(4)], timeout=30))
    assert [(result.stdout, result.returncode) for result in results] == [(f"{n}\n", n) for n in range(4)]
    assert results[3].summary().startswith("exit code 3")
    with pytest.raises(CommandFailed) as failed:
        client.submit(run, "exit 5", 30, check=True).result()
    assert failed.value.result.returncode == 5
    result = client.submit(_documented(), "echo out; exit 4", 30, pure=False).result()
    assert (result.stdout, result.returncode) == ("out\n", 4)


def test_a_future_that_is_cancelled_ends_its_command(client: Any, mark: str) -> None:
    _begun(client, _documented(), mark).cancel()
    assert not wait_until_gone(mark, SOON_S)
    assert client.submit(run, "echo next", 30, pure=False).result().stdout == "next\n"


def test_a_future_that_is_forgotten_ends_its_command(client: Any, mark: str) -> None:
    future = _begun(client, _documented(), mark)
    future.release()
    assert not wait_until_gone(mark, SOON_S)


def test_a_plain_task_goes_on_when_it_is_cancelled(client: Any, mark: str) -> None:
    """The negative control."""
    _begun(client, run, mark).cancel()
    assert not wait_until(lambda: not survivors(mark), 5)
    client.restart()
    assert not wait_until_gone(mark, SOON_S)


def _signal_workers(client: Any, number: int) -> None:
    for pid in client.run(os.getpid).values():
        os.kill(pid, number)


ENDINGS: dict[str, Callable[[Any], object]] = {
    "SIGKILL to the workers": lambda client: _signal_workers(client, signal.SIGKILL),
    "SIGTERM to the workers": lambda client: _signal_workers(client, signal.SIGTERM),
    "restart": lambda client: client.restart(),
    "close": lambda client: client.cluster.close(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_survives_the_end_of_a_worker(ending: str, client: Any, mark: str) -> None:
    _future = _begun(client, run, mark)
    ENDINGS[ending](client)
    assert not wait_until_gone(mark, SOON_S)


def test_a_plain_subprocess_survives_the_end_of_a_worker(client: Any, mark: str) -> None:
    """The negative control."""
    _future = client.submit(subprocess.run, ["bash", "-c", nasty(mark)], pure=False)
    assert wait_until(lambda: len(survivors(mark)) > len(NASTY), START_S)
    ENDINGS["SIGKILL to the workers"](client)
    assert not wait_until(lambda: not survivors(mark), 5)


CLIENT = """
import re, sys, time
from distributed import Client
exec(re.search(r"```python\\n(.*?)```", open({page!r}).read(), re.DOTALL)[1])
client = Client({address!r})
future = client.submit(run_unless_cancelled, {command!r}, "90s", pure=False)
print("submitted", flush=True)
time.sleep(90)
"""


def test_nothing_survives_the_death_of_the_client(client: Any, mark: str) -> None:
    code = CLIENT.format(page=os.fspath(HOW_TO), address=client.scheduler.address, command=nasty(mark))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert wait_until(lambda: len(survivors(mark)) > len(NASTY), START_S)
        other.kill()
    assert not wait_until_gone(mark, SOON_S)
