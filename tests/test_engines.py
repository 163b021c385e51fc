"""A command on the engines of a real ipyparallel cluster: what comes back, and the magics."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipython_pgtimeout import CommandFailed, InputError, Results, run
from ipython_pgtimeout.parallel.engine import LEASE_S

from .clusters import ENGINES, START_S, client_file
from .kernels import LOAD, Kernel
from .watching import survivors, wait_until

pytestmark = pytest.mark.timeout(120)


def _shown(view: Any, command: str, timeout: float = 60, **options: Any) -> tuple[Results, dict[str, list[str]]]:
    """The results, and the lines that each stream has shown, sorted: those of different engines come in any order."""
    texts: dict[str, str] = {"stdout": "", "stderr": ""}

    def note(stream: str, text: str) -> None:
        texts[stream] += text

    results = run(command, timeout, engines=view, on_output=note, **options)
    return results, {stream: sorted(text.splitlines()) for stream, text in texts.items()}


# -- what comes back --------------------------------------------------------------------------------------------


def test_each_engine_has_a_result_and_its_output_is_told_apart(view: Any) -> None:
    results, shown = _shown(
        view, "echo $N; echo half >&2; printf 'no newline'", env={"N": [10, 11, 12, 13], "SAME": "x"}
    )
    assert isinstance(results, Results)
    assert (len(results), results.engines, results.ok, len(results.failed)) == (4, (0, 1, 2, 3), True, 0)
    assert [result.stdout for result in results] == [f"{n}\nno newline" for n in (10, 11, 12, 13)]
    assert shown["stdout"] == sorted(line for n in range(4) for line in (f"[{n}] {10 + n}", f"[{n}] no newline"))
    assert shown["stderr"] == [f"[{n}] half" for n in range(4)]
    assert results.summary() == "4 engines: all ok"


def test_output_comes_as_it_is_written(view: Any, tmp_path: Path) -> None:
    """An engine waits for what the client writes once it has seen the engine's first line."""
    go = tmp_path / "go"
    seen: list[str] = []

    def note(_stream: str, text: str) -> None:
        seen.append(text)
        if sum("first" in each for each in seen) == ENGINES:
            go.touch()

    results = run(f"echo first; until [ -e {go} ]; do sleep 0.02; done; echo second", 30, engines=view, on_output=note)
    assert results.ok
    assert "".join(seen).count("second") == ENGINES


def test_a_progress_bar_is_shown_in_its_last_state(view: Any) -> None:
    _, shown = _shown(view, r"printf '10%%\r50%%\r100%%\n'")
    assert shown["stdout"] == [f"[{n}] 100%" for n in range(ENGINES)]


def test_the_first_failure_is_raised_with_all_results(view: Any) -> None:
    with pytest.raises(CommandFailed) as failed:
        run("echo $N; exit $N", 30, engines=view, env={"N": ["0", "3", "0", "4"]}, check=True)
    results = failed.value.results
    assert isinstance(results, Results)
    assert [result.returncode for result in results] == [0, 3, 0, 4]
    assert failed.value.result.returncode == 3
    assert str(failed.value).startswith("engine 1: exit code 3")
    assert str(failed.value).endswith("; 1 other engine not ok, see .results")
    assert results.failed.engines == (1, 3)
    assert results.summary() == "4 engines: 2 ok, 2 not"
    lines = repr(results).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["0", "✓"], ["1", "✗"], ["2", "✓"], ["3", "✗"]]
    html = results._repr_mimebundle_()["text/html"]
    assert html.count("<tr>") == 5
    assert "exit code 3" in html


def test_what_a_command_writes_is_escaped_in_the_table(view: Any) -> None:
    results = run("echo '<script>alert(1)</script>'; exit 1", 30, engines=view)
    assert "<script>" not in results._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timeout": 0}, "timeout must be more than zero"),
        ({"env": {"N": [1, 2]}}, "env N has 2 values for 4 engines; write one for each"),
        ({"engines": 3}, r"engines can't be 3; write a direct view, for example engines=rc\[:\]"),
        ({"signal": "NOSIGNAL"}, "signal"),
    ],
)
def test_bad_input_starts_nothing(view: Any, tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(f"touch {tmp_path}/started", **{"timeout": 9, "engines": view, **given})
    assert not list(tmp_path.iterdir())


def test_what_an_engine_refuses_is_its_row(view: Any) -> None:
    results = run("true", 9, engines=view, shell="no-such-shell")
    assert [result.reason for result in results] == ["failed-to-start"] * ENGINES
    assert "there is no program 'no-such-shell'" in results[0].error


def test_each_engine_has_a_log_of_its_own(view: Any, tmp_path: Path) -> None:
    run("echo $N", 9, engines=view, env={"N": list("abcd")}, log=tmp_path / "make.log")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"make.log.{n}": f"{letter}\n" for n, letter in enumerate("abcd")
    }


def test_an_engine_that_is_busy_with_others_keeps_the_command(view: Any) -> None:
    """The engine can't hear from the client meanwhile. That is no reason to end the command."""
    part = view.client[0]

    def keep_busy() -> None:
        assert wait_until(lambda: threads_started, 20)
        part.apply_async(time.sleep, LEASE_S + 3)

    threads_started: list[str] = []
    thread = threading.Thread(target=keep_busy)
    thread.start()
    results = run(
        f"echo started; sleep {LEASE_S + 5}", 60, engines=part, on_output=lambda *text: threads_started.append(text[1])
    )
    thread.join()
    assert results.ok, results.summary()


# -- the magics -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook(cluster: Any) -> Iterator[Kernel]:
    """A kernel with an active client."""
    connect = f"import ipyparallel as ipp\nrc = ipp.Client(connection_info={client_file(cluster)!r})\nrc.activate()"
    with Kernel(LOAD, connect) as kernel:
        kernel.run(f"_ = rc.wait_for_engines({ENGINES}, timeout={START_S})")
        yield kernel


def test_a_cell_runs_on_the_engines_that_are_named(notebook: Kernel) -> None:
    notebook.run("names = list('abcd'); three = [1, 2, 3]")
    told = notebook.run("%%timeout_shell 30 --engines all --env names --result r\necho $names")
    assert sorted(told.stdout.splitlines()) == ["[0] a", "[1] b", "[2] c", "[3] d"]
    assert notebook.value("r.engines, r.ok") == "((0, 1, 2, 3), True)"
    told = notebook.run("%%timeout_shell 30 --engines 0,2:4 --env three\necho $three")
    assert sorted(told.stdout.splitlines()) == ["[0] 1", "[2] 2", "[3] 3"]


def test_a_failure_is_told_with_all_results(notebook: Kernel) -> None:
    reply = notebook.execute("%%timeout_shell 1 --engines 1,2\nsleep 20")
    assert reply.ename == "CommandTimeout"
    assert re.match("engine 1: timed out after 1 s: .*; 1 other engine not ok, see .results$", reply.evalue)
    notebook.run("import sys")
    assert notebook.value("[result.reason for result in sys.last_value.results]") == "['timeout', 'timeout']"
    assert notebook.run("%%timeout_shell 9 --engines 1 --no-raise --result r\nexit 3")
    assert notebook.value("r[0].returncode, _exit_code") == "(3, 3)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--engines 9", r"--engines can't be '9', of \[0, 1, 2, 3\]; write for example all, 0, 0,2:4 or ::2"),
        ("--engines x:", "--engines can't be 'x:'"),
        ("--engines all --bg", "--engines: a job runs in this kernel"),
    ],
)
def test_what_cannot_be_named_is_one_clear_line(notebook: Kernel, words: str, said: str) -> None:
    reply = notebook.execute(f"%%timeout_shell 9 {words}\ntrue")
    assert re.search(said, reply.stderr), reply


def test_the_stop_button_ends_the_command_on_all_engines(notebook: Kernel, mark: str) -> None:
    reply = notebook.submit(
        f"%%timeout_shell 60 --engines all\necho ready; MARK={mark} setsid sleep 60 & sleep 61; true"
    )
    notebook.wait_for_text(reply, "ready", times=ENGINES)
    notebook.interrupt()
    notebook.wait(reply)
    assert not survivors(mark)
    assert reply.ename == "KeyboardInterrupt"


def test_our_magics_inside_px_leave_no_stale_status(notebook: Kernel) -> None:
    """ipyparallel drops updates of displays."""
    notebook.run("%px %load_ext ipython_pgtimeout")
    told = notebook.run("%%px --no-stream\n%%timeout_shell 30 --result r\nsleep 2; echo done")
    assert "running" not in str(told.displayed) + told.stdout, told
    assert told.stdout.count("done") == ENGINES
    reply = notebook.execute("%%px --no-stream\n%%timeout_shell 1 --result r\nsleep 20")
    assert "timed out after 1 s" in reply.evalue + reply.traceback
    assert notebook.value("[r.reason for r in rc[:]['r']]") == "['timeout', 'timeout', 'timeout', 'timeout']"


def test_without_a_client_it_says_how_to_get_one(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell 9 --engines all\ntrue")
    assert "there is no active ipyparallel client; write for example rc = ipp.Cluster(n=4)" in reply.stderr
