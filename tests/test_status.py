"""The live status and %pgtree, as a front end gets them."""

from __future__ import annotations

import math
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython.display
import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from ipython_pgtimeout.caller.output import Pace, Stream
from ipython_pgtimeout.magics import screen as screen_module
from ipython_pgtimeout.magics.frontend import FrontEnd
from ipython_pgtimeout.magics.screen import Page
from ipython_pgtimeout.magics.status import LiveStatus
from ipython_pgtimeout.shared.protocol import Status

from .kernels import LOAD, Kernel
from .watching import wait_until

DATE = r"\d{4}-\d\d-\d\d"
CLOCK = rf"(?:{DATE} )?\d\d:\d\d:\d\d"
"""With the date, if the test runs across midnight."""
FACTS = rf"{CLOCK} to {CLOCK} · CPU [\d.]+ s( · memory up to [\d.]+ MB)? · output [\d.]+ k?B"
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


def test_when_a_command_is_over_before_its_output_has_been_shown_the_status_says_so(kernel: Kernel) -> None:
    shown = texts(kernel.run("%%timeout_shell --max-output 20MB 30\nsleep 1.4; seq 700000").displayed)
    assert shown[0].startswith("running · "), shown
    assert shown[-2] == "over, the output is still coming · output 4.8 MB", shown
    assert shown[-1].startswith("exit code 0 ("), shown


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


# -- the place of the status, and of the output ------------------------------------------------------------------

BAR = "for n in {1..16}; do printf '\\rstep %d' $n; sleep 0.1; done; echo"
WHOLE_BAR = "".join(f"\rstep {n}" for n in range(1, 17)) + "\n"


def saved_outputs(directory: Path, *cells: str) -> list[list[Any]]:
    """The outputs of each cell in the notebook that nbclient saves."""
    make: Any = nbformat.v4
    notebook = make.new_notebook(cells=[make.new_code_cell(cell) for cell in (LOAD, *cells)])
    resources = {"metadata": {"path": str(directory)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources, allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells[1:]]


def test_a_saved_notebook_has_the_status_first_and_then_the_output_in_one_piece(tmp_path: Path) -> None:
    cells = (f"%%timeout_shell 30\n{BAR}", f"# a comment\nr = %run_timed 30 ({BAR}) >&2", f"%run_timed 30 {BAR}")
    for outputs, is_shown_below in zip(saved_outputs(tmp_path, *cells), (False, False, True), strict=True):
        status, *streams = outputs[: -1 if is_shown_below else None]
        assert re.fullmatch(FACTS if is_shown_below else r"exit code 0 \(\d+\.\d s\)", status.data["text/plain"])
        assert len({stream.name for stream in streams}) == 1
        assert "".join(stream.text for stream in streams) == WHOLE_BAR
        assert outputs[-1].output_type == ("execute_result" if is_shown_below else "stream")


def test_output_of_others_is_not_cleared_and_then_the_status_stays_where_it_was_shown(kernel: Kernel) -> None:
    """The negative control for the test above: here is what the status does to a bar if nothing may be cleared."""
    reply = kernel.run(f"for n in range(2):\n    print('mine', n)\n    %run_timed 30 {BAR}")
    assert reply.clears == 0
    assert reply.stdout == "".join(f"mine {n}\n{WHOLE_BAR}" for n in range(2))
    assert texts(reply.displayed)[-1].startswith("exit code 0")


def test_a_command_in_a_thread_does_not_clear_the_cell_that_runs_now(kernel: Kernel) -> None:
    """Its cell is over, and the kernel takes it for a part of the one that runs."""
    run = "get_ipython().run_line_magic('run_timed', '30 echo; sleep 1.3')"
    kernel.run(f"import threading; t = threading.Timer(0.3, lambda: {run}); t.start()")
    assert kernel.run("%%timeout_shell 30\necho mine; sleep 2.5").clears == 1
    kernel.run("t.join()")


def test_a_long_head_stays_where_it_is(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 30\nhead -c 150000 /dev/zero | tr '\\0' x; sleep 1.4; echo end")
    assert reply.clears == 0
    assert reply.stdout == "x" * 150_000 + "end\n"
    assert reply.displayed


@pytest.mark.parametrize("has_room", [True, False])
def test_a_head_is_shown_again_only_if_the_pace_has_room(has_room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(IPython.display, "clear_output", lambda wait: sent.append("clear"))
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **_: sent.append(bundle["text/plain"]))
    monkeypatch.setattr(screen_module, "print", lambda text, **_: sent.append(text), raising=False)
    pace = Pace(max_bytes=1_000)
    if not has_room:
        pace.note(990)
    page = Page(set(), pace, is_whole_cell=True)
    page.show("stdout", "a")
    page.show("stdout", "b")
    page.show("stderr", "c")
    page.put_status("status", "")
    assert sent == (["a", "b", "c", "clear", "status", "ab", "c"] if has_room else ["a", "b", "c", "status"])


@pytest.mark.parametrize(
    ("code", "is_whole_cell", "shows_result"),
    [
        ("%%timeout_shell 30\nmake", True, False),
        ("\n  %%timeout_shell 30\nmake", True, False),
        ("%run_timed 30 make", True, True),
        ("run_timed 30 make\n", True, True),
        ("# build\n\n  # all\nr = %run_timed 30 make", True, False),
        ("%run_timed 30 make \\\n all", True, True),
        ("%%time\n%run_timed 30 make", False, False),
        ("print(1)\n%run_timed 30 make", False, False),
        ("%run_timed 30 make\nprint(1)", False, False),
        ("print(1); r = %run_timed 30 make", False, False),
        ("%run_timed_not_ours 30", False, False),
        ("for n in range(3): get_ipython().run_line_magic('run_timed', '30 make')", False, False),
        ("%%capture\n%%timeout_shell 30\nmake", False, False),
        ("\n" * 50_000 + "x", False, False),
    ],
)
def test_a_cell_that_is_one_command_and_nothing_else_is_known(
    code: str, is_whole_cell: bool, shows_result: bool
) -> None:
    front_end = FrontEnd(SimpleNamespace(kernel=None, get_parent=lambda: {"content": {"code": code}}))
    assert (front_end.is_whole_cell, front_end.shows_result) == (is_whole_cell, shows_result)


# -- what is told where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "%%timeout_shell 30\necho; sleep 1.3; exit 3",
        "%%timeout_shell 1.3\necho; sleep 9",
        "%%timeout_shell --no-raise 30\necho; sleep 1.3; exit 3",
        "%run_timed --no-raise 30 echo; sleep 1.3; exit 3",
        "%run_timed --no-raise 30 exit 3",
        "r = %run_timed --no-raise 30 exit 3",
        "%run_timed 30 echo; sleep 1.3",
    ],
)
@pytest.mark.parametrize("front_end", ["notebook", "console"])
def test_the_sentence_is_said_once(kernel: Kernel, cell: str, front_end: str) -> None:
    kernel.client.allow_stdin = front_end == "console"
    try:
        reply = kernel.execute(cell)
    finally:
        kernel.client.allow_stdin = False
    shown = reply.text + (texts(reply.displayed)[-1] if reply.displayed else "")
    assert len(re.findall(r"exit code|timed out", shown)) == 1, shown


REQUESTS = {
    "JupyterLab 4.6": ("ecd36077-0897", "807b4593-d4d2", {"allow_stdin": True, "store_history": True}),
    "nbclient 0.11": ("62f370d2-7649_15525_2", "62f370d2-7649", {"allow_stdin": False, "store_history": True}),
    "jupyter console 6.6": ("1afb976a-f7a8_15807_1", "1afb976a-f7a8", {"allow_stdin": True, "store_history": True}),
    "ipyparallel 9.2": ("eeb2a57a-f1a6_15856_1", "eeb2a57a-f1a6", {}),
    "nbval 0.11": ("711cfd07-1cfa_15525_1", "711cfd07-1cfa", {"allow_stdin": False, "store_history": False}),
}
"""Message id, session and content of an execute_request, as each was seen to send it."""


@pytest.mark.parametrize("name", REQUESTS)
def test_front_ends_that_replace_displays_are_known(name: str) -> None:
    message_id, session, content = REQUESTS[name]
    request = {"header": {"msg_id": message_id, "session": session}, "content": {**content, "code": ""}}
    kind = FrontEnd(SimpleNamespace(kernel=None, get_parent=lambda: request)).kind
    assert kind == ("page" if name.startswith(("JupyterLab", "nbclient")) else "text")


def test_a_front_end_that_does_not_replace_displays_gets_a_verdict_as_text(kernel: Kernel) -> None:
    cell = "%%timeout_shell --no-raise 1.6\nprintf half; sleep 9"
    kernel.client.allow_stdin = True
    try:
        reply = kernel.run(cell)
    finally:
        kernel.client.allow_stdin = False
    assert (reply.displayed, reply.clears) == ([], 0)
    assert reply.stdout == "half"
    assert reply.stderr.startswith("\n[pgtimeout] timed out after 1.6 s: SIGTERM to ")
    as_notebook = kernel.run(cell)
    assert as_notebook.displayed
    assert as_notebook.stderr == ""


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
