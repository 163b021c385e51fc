"""Jobs in a notebook's kernel: the cell is over at once, and shows the job while other cells run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .kernels import LOAD, Kernel
from .watching import wait_until, wait_until_gone


class Cell:
    """A cell that has started a job. What comes for it after it is over is recorded too."""

    def __init__(self, kernel: Kernel, code: str) -> None:
        self._kernel = kernel
        self.reply = kernel.submit(code)
        kernel.pump_until(lambda: self.reply.over, 20, self.reply, "to be over")
        assert self.reply.status == "ok", self.reply

    def latest(self) -> list[str]:
        """The text that each of its displays shows now, in the order in which they were first shown."""
        shown = dict(zip(self.reply.display_ids, self.reply.displayed, strict=True))
        return [data["text/plain"] for data in shown.values()]

    def wait_for(self, text: str) -> None:
        def is_shown() -> bool:
            return any(text in shown for shown in self.latest())

        self._kernel.pump_until(is_shown, 20, self.reply, repr(text))

    def html(self) -> str:
        shown = dict(zip(self.reply.display_ids, self.reply.displayed, strict=True))
        return "".join(data.get("text/html", "") for data in shown.values())


@pytest.fixture
def jobs_end(kernel: Kernel) -> Iterator[Kernel]:
    """The shared kernel; what a test leaves running is killed."""
    yield kernel
    kernel.run("for _job in get_ipython().run_line_magic('timed_jobs', '').values(): _job.kill()")


def test_a_cell_with_a_job_is_over_at_once_and_goes_on_showing_it(jobs_end: Kernel, tmp_path: Path) -> None:
    """The cell is over before the job may end, which ends before the other cell may."""
    kernel = jobs_end
    go, over = tmp_path / "go", tmp_path / "over"
    script = f"echo first; until [ -e {go} ]; do sleep 0.1; done; echo last; exit 3"
    cell = Cell(kernel, f"%%timeout_shell --job build 30m\n{script}")
    assert cell.latest()[0].startswith("build · running · since ")
    other = kernel.submit(
        "import os, time\nfor i in range(30): print('other', i, flush=True); time.sleep(0.02)\n"
        f"while not os.path.exists({str(over)!r}): time.sleep(0.02)"
    )
    cell.wait_for("first")
    cell.wait_for(" process")
    go.touch()
    cell.wait_for("exit code 3 (")
    assert not other.over, "the job's cell is not updated while another runs"
    over.touch()
    assert cell.latest()[1:] == ["", "first\nlast"]
    kernel.wait(other)
    assert other.stdout == "".join(f"other {i}\n" for i in range(30))
    assert not other.displayed
    assert not cell.reply.stdout + cell.reply.stderr + cell.reply.result
    assert kernel.value("build.wait(), build.result.stdout") == "(3, 'first\\nlast\\n')"


def test_a_cell_that_captures_does_not_capture_the_job_of_another(jobs_end: Kernel) -> None:
    kernel = jobs_end
    cell = Cell(kernel, "%%timeout_shell --job told 1m\necho one; sleep 0.6; echo two")
    kernel.run("%%capture captured\nimport time; time.sleep(1.2); print('mine')")
    cell.wait_for("exit code 0")
    assert kernel.value("captured.stdout, captured.outputs") == "('mine\\n', [])"


def test_the_texts_of_jobs_and_of_a_cell_never_mix(jobs_end: Kernel) -> None:
    kernel = jobs_end
    script = "for i in {1..40}; do echo NAME $i; sleep 0.02; done"
    names = ("aa", "bb", "cc")
    cells = {name: Cell(kernel, f"%%timeout_shell --job {name} 1m\n{script.replace('NAME', name)}") for name in names}
    loud = kernel.run("import time\nfor i in range(60): print('cell', i); time.sleep(0.02)")
    for name, cell in cells.items():
        cell.wait_for("exit code 0")
        verdict, fold, last = cell.latest()
        assert verdict.startswith(f"{name} · exit code 0 (")
        assert fold == "20 earlier lines"
        assert last.splitlines() == [f"{name} {i}" for i in range(21, 41)]
        assert f"<pre>{name} 1\n{name} 2\n" in cell.html()
        assert kernel.value(f"{name}.stdout") == repr("".join(f"{name} {i}\n" for i in range(1, 41)))
    assert loud.stdout == "".join(f"cell {i}\n" for i in range(60))


def test_an_interrupt_of_another_cell_does_not_touch_a_job(jobs_end: Kernel, mark: str) -> None:
    kernel = jobs_end
    cell = Cell(kernel, f"job = %run_timed --bg 1m MARK={mark} sleep 60; true")
    kernel.run("job.pid")
    other = kernel.submit("%%timeout_shell 30\necho ready; sleep 30")
    kernel.wait_for_text(other, "ready")
    kernel.interrupt()
    assert kernel.wait(other).ename == "KeyboardInterrupt"
    assert kernel.value("job.poll()") == ""
    kernel.run("job.interrupt(); job.wait()")
    assert kernel.value("[sent.signal for sent in job.result.signals]") == "['SIGINT']"
    cell.wait_for("interrupted: SIGINT to ")
    assert not wait_until_gone(mark, 1)


def test_a_server_is_waited_for_used_and_ended(jobs_end: Kernel, mark: str) -> None:
    kernel = jobs_end
    server = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)"
    script = f'python3 -u -c "{server}; print(s.server_port); s.serve_forever()" {mark}'
    Cell(kernel, f"%%timeout_shell --job server 1m\nsleep 0.2; {script}")
    kernel.run("port = server.wait_for(r'(?m)^(\\d+)$', '20s')[1]")
    kernel.run("import urllib.request; assert urllib.request.urlopen(f'http://127.0.0.1:{port}').status == 200")
    kernel.run("server.terminate(); server.wait()")
    assert kernel.value("server.result.reason") == "'terminated'"
    assert not wait_until_gone(mark, 1)


def test_the_last_lines_honour_returns_and_drop_what_moves_the_cursor(jobs_end: Kernel) -> None:
    script = r"printf '1%%\r50%%\r\e[2K'; printf '100%%\n\e[32mgreen\e[0m\e[1A'; printf 'x%.0s' {1..3000}"
    cell = Cell(jobs_end, f"%%timeout_shell --job bar 1m\n{script}")
    cell.wait_for("exit code 0")
    first, second = cell.latest()[2].splitlines()
    assert first == "100%"
    assert second.startswith("\x1b[32mgreen\x1b[0mxxx")
    assert second.endswith("…")


def test_output_beyond_the_limit_is_still_shown_live(jobs_end: Kernel) -> None:
    cell = Cell(jobs_end, "%%timeout_shell --max-output 10kB --job flood 1m\nseq 100000; echo the end; sleep 3")
    cell.wait_for("100000\nthe end")
    assert "running" in cell.latest()[0]


def test_the_earlier_lines_are_escaped(jobs_end: Kernel) -> None:
    cell = Cell(jobs_end, "%%timeout_shell --job hostile 1m\necho '<script>alert(1)</script> $x$'; seq 30")
    cell.wait_for("exit code 0")
    assert "<script>" not in cell.html()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <span>$</span>x<span>$</span>" in cell.html()


def test_the_table_names_what_runs_and_what_has_ended(jobs_end: Kernel) -> None:
    kernel = jobs_end
    Cell(kernel, "%%timeout_shell --job long 10m\necho begun; sleep 60; true")
    Cell(kernel, "%%timeout_shell --job short 10m\necho '<b>'; exit 7")
    kernel.run("short.wait(); long.wait_for('begun')")

    def rows() -> dict[str, str]:
        lines = kernel.value("%timed_jobs").splitlines()
        return {line.split()[0]: line for line in lines}

    # What is known of the processes is as old as the last look.
    assert wait_until(lambda: " 2 " in rows()["long"], 10), rows()
    assert next(iter(rows())) == "name"
    for word in ("running", " min ", " MB", "echo begun; sleep 60; true", "begun"):
        assert word in rows()["long"]
    assert "exit code 7" in rows()["short"]
    shown = kernel.run("from IPython.display import display; display(get_ipython().run_line_magic('timed_jobs', ''))")
    assert '<td class="pgt-rest">&lt;b&gt;</td>' in shown.displayed[0]["text/html"]
    kernel.run("get_ipython().run_line_magic('timed_jobs', '')['long'].kill(); long.wait()")
    assert "terminated" in rows()["long"]


def test_a_job_as_the_value_of_a_cell_is_shown_there(jobs_end: Kernel) -> None:
    kernel = jobs_end
    kernel.run("from ipython_pgtimeout import start\njob = start('echo here; sleep 0.5', 60)")
    cell = Cell(kernel, "job")
    cell.wait_for("exit code 0")
    assert cell.latest()[2] == "here"


def test_a_job_may_be_extended_and_the_status_says_so(jobs_end: Kernel) -> None:
    kernel = jobs_end
    cell = Cell(kernel, "%%timeout_shell --job patient 2\nsleep 60")
    before = cell.latest()[0]
    kernel.run("patient.extend('5m')")
    kernel.pump_until(lambda: "process" in cell.latest()[0], 20, cell.reply, "a status")
    assert before.partition("until ")[2] != cell.latest()[0].partition("until ")[2].partition(" · ")[0]
    kernel.run("import time; time.sleep(2.2); assert patient.poll() is None")


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("%%timeout_shell --bg --out x 3\ntrue", "--out can't go with --bg; read job.stdout"),
        ("%%timeout_shell --job b --result x 3\ntrue", "--result can't go with --bg; read b.result"),
        ("%%timeout_shell --job 1x 3\ntrue", "--job "),
        ("%%timeout_shell --bg 3 --shell nosuch\ntrue", "--shell: there is no program 'nosuch'"),
        ("%timed_jobs 5", "%timed_jobs takes nothing"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(kernel: Kernel, cell: str, problem: str) -> None:
    kernel.run("before = get_ipython().run_line_magic('timed_jobs', '').keys()")
    reply = kernel.execute(cell)
    assert reply.status == "error"
    assert problem in reply.text
    # Those that have ended before may be in the table no more.
    assert kernel.value("get_ipython().run_line_magic('timed_jobs', '').keys() - before") == "set()"


def test_where_displays_are_not_replaced_the_end_is_told_once_after_a_later_cell(fresh_kernel: Kernel) -> None:
    fresh_kernel.client.allow_stdin = True  # as jupyter console
    begun = fresh_kernel.run("job = %run_timed --bg 1m sleep 0.3; echo quiet; exit 2")
    assert "[pgtimeout] job1 runs in the background" in begun.stderr
    assert not begun.displayed
    assert "[pgtimeout] job1: exit code 2" in fresh_kernel.run("job.wait()").stderr
    assert fresh_kernel.run("1").stderr == ""


def test_unloading_ends_all_jobs(fresh_kernel: Kernel, mark: str) -> None:
    fresh_kernel.run(f"%%timeout_shell --bg -k 0.2 1m\nexport MARK={mark}\ntrap '' TERM; sleep 60 & sleep 60")
    fresh_kernel.run(f"from ipython_pgtimeout import start; job = start('setsid sleep 60 & : {mark}; sleep 60', 60)")
    fresh_kernel.run("job.pid")
    fresh_kernel.run("%unload_ext ipython_pgtimeout")
    assert not wait_until_gone(mark, 0)


def test_a_saved_notebook_has_the_job_in_its_cell(tmp_path: Path) -> None:
    """nbclient, as in pipelines: displays that change after their cell are saved where they are, without buttons."""
    go = tmp_path / "go"
    script = f"echo built; until [ -e {go} ]; do sleep 0.05; done"
    cells = [LOAD, f"%%timeout_shell --job build 30m\n{script}", f"open('{go}', 'w').close(); build.wait()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=60).execute()
    outputs = [output["data"] for output in notebook.cells[1].outputs]
    assert [output["text/plain"] for output in outputs][1:] == ["", "built"]
    assert outputs[0]["text/plain"].startswith("build · exit code 0 (")
