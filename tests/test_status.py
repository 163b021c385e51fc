"""The live status and %pgtree, as a front end gets them."""

from __future__ import annotations

import math
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from ipython_pgtimeout.caller.output import Stream
from ipython_pgtimeout.magics.screen import Page
from ipython_pgtimeout.magics.status import LiveStatus
from ipython_pgtimeout.shared.protocol import Status

from .kernels import LOAD, Kernel
from .watching import wait_until

CLOCK, DATE = r"\d\d:\d\d:\d\d", r"\d{4}-\d\d-\d\d"
FACTS = rf"{CLOCK} to {CLOCK} · CPU [\d.]+ s( · largest process [\d.]+ MB)? · output [\d.]+ k?B"
STATUS = Status(None, "", math.inf, ["sleep"], 1, 0.1, 5_000_000)


class Recorder(Page):
    """A page that keeps the texts of its status."""

    def __init__(self, hidden: set[Stream]) -> None:
        super().__init__(hidden, None, True)
        self.shown: list[str] = []

    def put_status(self, text: str, html: str) -> None:
        self.shown.append(text)


def texts(displayed: list[dict[str, str]]) -> list[str]:
    return [data["text/plain"] for data in displayed]


def test_a_slow_command_has_one_status_that_is_updated_until_it_is_the_summary(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 30\necho 12345; sleep 2.3")
    *running, last = texts(reply.displayed)
    assert len(running) >= 2
    for text in running:
        assert re.fullmatch(
            rf"running · since {CLOCK}, until {CLOCK} \S+ · \d process(es)? · "
            r"CPU [\d.]+ s · memory [\d.]+ MB · output 6 B",
            text,
        )
    assert re.fullmatch(r"exit code 0 \(2\.\d s\)", last)
    assert len(set(reply.display_ids)) == 1
    assert reply.display_ids[0]
    assert reply.updates == len(reply.displayed) - 1
    assert "<progress" in reply.displayed[0]["text/html"]


@pytest.mark.parametrize("cell", ["%%timeout_shell 30\nsleep 0.5", "%%timeout_shell --no-progress 30\nsleep 1.8"])
def test_a_quick_command_or_no_progress_shows_no_status(kernel: Kernel, cell: str) -> None:
    assert kernel.run(cell).displayed == []


def test_the_default_is_configured_and_an_option_overrides_it(kernel: Kernel) -> None:
    kernel.run("%config PgTimeout.progress = False")
    try:
        assert kernel.run("%%timeout_shell 30\nsleep 1.5").displayed == []
        assert kernel.run("%%timeout_shell --progress 30\nsleep 1.5").displayed
    finally:
        kernel.run("%config PgTimeout.progress = True")


def test_the_status_shows_the_phases(kernel: Kernel) -> None:
    script = "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & sleep 0.1"
    reply = kernel.run(f"%%timeout_shell --no-raise --kill-after 1500ms 2\n{script}")
    shown = "\n".join(texts(reply.displayed))
    assert re.search(rf"^waiting for bash.* · since {CLOCK}, until {CLOCK} ", shown, re.MULTILINE)
    assert re.search(rf"^SIGTERM sent, grace until {CLOCK} · since {CLOCK} \S+ · ", shown, re.MULTILINE)
    last = r"timed out after 2 s: SIGTERM to \d process(es)?, SIGKILL to \d; all are gone \(3\.\d s\)"
    assert re.fullmatch(last, shown.splitlines()[-1])


def test_the_clock_times_of_the_status_are_those_of_start_and_deadline() -> None:
    """A status that is left behind stays true: nothing in it counts from now."""
    screen = Recorder(set())
    live = LiveStatus(90_000, screen)
    started_at = time.time()
    live.update(STATUS, 0)
    found = re.search(rf"since ({CLOCK}), until ({DATE} {CLOCK}) ", screen.shown[-1])
    assert found
    for at, text in (
        (started_at, f"{time.strftime('%Y-%m-%d', time.localtime(started_at))} {found[1]}"),
        (started_at + 90_000, found[2]),
    ):
        assert abs(time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S")) - at) <= 2
    LiveStatus(math.inf, screen).update(STATUS, 0)
    assert "until" not in screen.shown[-1]


def test_an_interrupt_is_told_once_by_the_exception(kernel: Kernel) -> None:
    reply = kernel.submit("%%timeout_shell 30\nsleep 60")
    kernel.pump_until(lambda: reply.displayed, 20, reply, "to have a status")
    kernel.interrupt()
    kernel.wait(reply)
    assert "interrupted: SIGINT to 1 process; all are gone" in reply.traceback
    assert re.fullmatch(FACTS, texts(reply.displayed)[-1])


def test_a_headless_run_keeps_only_the_final_status(tmp_path: Path) -> None:
    make: Any = nbformat.v4
    notebook = make.new_notebook(cells=[make.new_code_cell(cell) for cell in (LOAD, "%%timeout_shell 30\nsleep 2.2")])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources).execute()
    (output,) = notebook.cells[1].outputs
    assert re.fullmatch(r"exit code 0 \(2\.\d s\)", output.data["text/plain"])


def _in_group(tree: str, leader: int) -> str:
    """The processes of a session leader's own group. They stand in the order of their pids, which may have wrapped."""
    found = re.search(rf"^session {leader}\n(?: .*\n)*?  process group {leader}\n((?:    .*\n)+)", tree, re.MULTILINE)
    assert found, tree
    return found[1]


def test_the_tree_shows_sessions_groups_leaders_and_states(kernel: Kernel) -> None:
    assert wait_until(kernel.guards, 10)
    kernel.run(
        "import subprocess, os, signal\n"
        "own = subprocess.Popen(['sleep', '301'], start_new_session=True)\n"
        "stopped = subprocess.Popen(['sleep', '302']); os.kill(stopped.pid, signal.SIGSTOP)\n"
        "zombie = subprocess.Popen(['true']); os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)\n"
        "pids = own.pid, stopped.pid, zombie.pid"
    )
    own, stopped, zombie = map(int, kernel.value("pids").strip("()").split(","))
    try:
        assert wait_until(lambda: psutil.Process(own).status() == psutil.STATUS_SLEEPING, 10)
        assert wait_until(lambda: f"{stopped:>7}    stopped" in kernel.value("%pgtree"), 10)
        tree = kernel.value("%pgtree")
        assert f"    {kernel.pid:>7} SL running" in _in_group(tree, kernel.pid)
        assert f"    {stopped:>7}    stopped" in _in_group(tree, kernel.pid)
        assert f"session {own}\n  process group {own}\n    {own:>7} SL sleeping  parent {kernel.pid}" in tree
        assert re.search(rf"{zombie:>7}    zombie    parent {kernel.pid}\s+\[true\]", tree)
        assert "[pgtimeout]" in tree
        assert "[pgtimeout-guard]" in tree
    finally:
        kernel.run("for p in (own, stopped, zombie): p.kill(); p.wait()")


def test_the_tree_can_start_at_another_process_or_show_all(kernel: Kernel) -> None:
    with subprocess.Popen(["bash", "-c", "sleep 303 & wait"], start_new_session=True) as shell:
        try:
            assert wait_until(lambda: "sleep 303" in kernel.value(f"%pgtree {shell.pid}"), 10)
            assert len(kernel.value(f"%pgtree {shell.pid}").splitlines()) == 5
            everything = kernel.value("%pgtree --all")
            assert f"{shell.pid:>7} SL" in everything
            assert f"{kernel.pid:>7} SL" in everything
        finally:
            subprocess.run(["pkill", "-9", "-s", str(shell.pid)], check=False)


@pytest.mark.parametrize("words", ["x", "1 2", "0.5", "-1", "999999999", "--al", "99999999999999999999999"])
def test_a_bad_argument_of_pgtree_is_reported_in_one_line(kernel: Kernel, words: str) -> None:
    reply = kernel.execute(f"%pgtree {words}")
    assert reply.status == "error"
    (line,) = reply.text.splitlines()
    assert line.startswith("UsageError: %pgtree: ")
    assert line.endswith("write %pgtree, %pgtree 1234 or %pgtree --all")
