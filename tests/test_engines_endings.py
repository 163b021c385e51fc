"""Nothing of a command survives on any engine of a cluster, whatever ends: the command, the client, an engine, all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ipython_pgtimeout import CommandTimeout, run
from ipython_pgtimeout.parallel.engine import LEASE_S

from .clusters import ENGINES, START_S, client_file, running_cluster
from .jobs import NASTY, nasty
from .watching import survivors, wait_until, wait_until_gone

pytestmark = pytest.mark.timeout(120)


# -- every ending -----------------------------------------------------------------------------------------------


def test_nothing_survives_a_deadline_on_any_engine(view: Any, mark: str) -> None:
    ready: list[str] = []

    def note(_stream: str, text: str) -> None:
        ready.extend(line for line in text.splitlines() if "ready" in line)

    results = run(nasty(mark), 4, engines=view, kill_after=0.3, on_output=note)
    assert not survivors(mark)
    assert [result.reason for result in results] == ["timeout"] * ENGINES
    assert len(ready) == ENGINES * len(NASTY)
    with pytest.raises(CommandTimeout):
        results.check_returncode()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_command_on_all_engines(view: Any, mark: str) -> None:
    ready: list[str] = []
    pressed: list[float] = []

    def note(_stream: str, text: str) -> None:
        ready.extend(line for line in text.splitlines() if "ready" in line)
        if len(ready) == ENGINES and not pressed:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        run(f"export MARK={mark}; echo ready; setsid sleep 100 & sleep 101; true", 60, engines=view, on_output=note)
    assert not survivors(mark)
    assert [result.reason for result in stop.value.results] == ["interrupted"] * ENGINES  # type: ignore[attr-defined]


@pytest.mark.usefixtures("interruptible")
def test_what_has_not_begun_is_not_begun_after_an_interrupt(view: Any, mark: str, tmp_path: Path) -> None:
    over = tmp_path / "over"
    waits = f"until [ -e {over} ]; do sleep 0.02; done"
    busy = view.client[1].apply_async(subprocess.run, ["bash", "-c", waits], timeout=60)
    begun = [tmp_path / name for name in "023"]

    def press() -> None:
        assert wait_until(lambda: all(path.exists() for path in begun), 30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt) as stop:
        run(f"touch {tmp_path}/$N; sleep 60", 60, engines=view, env={"N": list("0123")})
    over.touch()
    busy.get(20)
    view.client[1].apply_sync(over.unlink)  # when it is done, so is all that was asked of the engine before it
    results = stop.value.results  # type: ignore[attr-defined]
    assert [result.reason for result in results] == ["interrupted"] * ENGINES
    assert results[1].error == "not started, engine 1 was busy"
    assert sorted(tmp_path.iterdir()) == begun


CLIENT = """
import sys
import ipyparallel as ipp
from ipython_pgtimeout import run
{before}
client = ipp.Client(connection_info={url_file!r})
print("begins", flush=True)
run({script!r}, 100, engines=client[:], echo=True, kill_after=0.3)
"""


def _client(cluster: Any, script: str, before: str = "") -> subprocess.Popen[str]:
    """A client in a process of its own, once all engines are ready."""
    code = CLIENT.format(url_file=client_file(cluster), script=script, before=before)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = 0
    while ready < ENGINES:
        line = process.stdout.readline()
        assert line, "the client has ended"
        ready += "ready" in line
    return process


def test_nothing_survives_the_death_of_the_client(cluster: Any, view: Any, mark: str) -> None:
    with _client(cluster, f"MARK={mark} setsid sleep 100 & echo ready; MARK={mark} sleep 101; true") as client:
        assert len(survivors(mark)) >= 2 * ENGINES
        client.kill()
    assert not wait_until_gone(mark, LEASE_S + 10)
    assert len(view.apply_sync(os.getpid)) == ENGINES, "the engines go on"


def test_without_a_lease_the_command_would_outlive_its_client(cluster: Any, view: Any, mark: str) -> None:
    """The negative control."""
    view.apply_sync(_set_lease, 1e9)
    try:
        with _client(cluster, f"echo ready; MARK={mark} sleep 40; true") as client:
            client.kill()
        assert not wait_until(lambda: not survivors(mark), LEASE_S + 5)
    finally:
        view.apply_sync(_set_lease, LEASE_S)
    assert not wait_until_gone(mark, LEASE_S + 10)


def _set_lease(seconds: float) -> None:
    import ipython_pgtimeout.parallel.engine

    ipython_pgtimeout.parallel.engine.LEASE_S = seconds


# -- those that cost an engine or a controller: a cluster of their own -------------------------------------------


def test_an_engine_that_is_killed_is_a_row_and_leaves_nothing(tmp_path: Path, mark: str) -> None:
    with running_cluster(tmp_path, 2) as cluster, cluster.connect_client_sync() as client:
        client.wait_for_engines(2, timeout=START_S)
        victim = client[0].apply_sync(os.getpid)
        ready: list[str] = []

        def note(_stream: str, text: str) -> None:
            ready.extend(line for line in text.splitlines() if "ready" in line)
            if len(ready) == 2 and psutil.pid_exists(victim):
                os.kill(victim, signal.SIGKILL)

        script = f"echo ready; MARK={mark} setsid sleep 6 & MARK={mark} sleep 7; true"
        results = run(script, 30, engines=client[:], on_output=note)
        assert [result.reason for result in results] == ["engine-died", "exited"]
        assert results[0].summary().startswith("engine 0 has died")
        assert not wait_until_gone(mark, 5)


def test_nothing_survives_the_death_of_the_controller(tmp_path: Path, mark: str) -> None:
    with running_cluster(tmp_path, 2) as cluster, cluster.connect_client_sync() as client:
        client.wait_for_engines(2, timeout=START_S)
        ready: list[str] = []

        def note(_stream: str, text: str) -> None:
            ready.extend(line for line in text.splitlines() if "ready" in line)
            if len(ready) == 2:
                for process in _controller(cluster):
                    with contextlib.suppress(psutil.Error):
                        process.kill()

        script = f"echo ready; MARK={mark} setsid sleep 100 & MARK={mark} sleep 101; true"
        results = run(script, 100, engines=client[:], on_output=note)
        assert [result.reason for result in results] == ["engine-died"] * 2
        assert "the controller does not answer" in results[0].error
        assert not wait_until_gone(mark, LEASE_S + 10)


def _controller(cluster: Any) -> list[psutil.Process]:
    pid = cluster.controller.pid
    process = psutil.Process(pid)
    return [*process.children(recursive=True), process]


def test_nothing_survives_the_end_of_the_cluster(tmp_path: Path, mark: str) -> None:
    with running_cluster(tmp_path, 2) as cluster:
        with cluster.connect_client_sync() as client:
            client.wait_for_engines(2, timeout=START_S)
            client[:].apply_sync(_start, f"MARK={mark} setsid sleep 100 & MARK={mark} sleep 101; true")
            assert wait_until(lambda: len(survivors(mark)) >= 4, 20)
        cluster.stop_cluster_sync()
        assert not wait_until_gone(mark, 10)


def _start(script: str) -> None:
    from ipython_pgtimeout import start

    start(script, 100)
