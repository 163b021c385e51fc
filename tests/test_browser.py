"""JupyterLab in a browser: what the page shows, what its buttons do, and which processes are left."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import psutil
import pytest

from .browser import Lab, Notebook, open_lab
from .watching import kill_marked, marked, program, wait_until, wait_until_gone

pytestmark = pytest.mark.timeout(240)  # to open a page takes 30 s on a busy machine
GONE_S = 8.0
STDOUT, STDERR = "application/vnd.jupyter.stdout", "application/vnd.jupyter.stderr"
STATUS = ".pgtimeout-status"
HARD_TO_KILL = ("ignores.sh", "own_session.sh", "daemon.py")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from open_lab()


def wait_for_text(notebook: Notebook, cell: int, text: str, times: int = 1) -> None:
    shown = notebook.output(cell).filter(has_text=text)
    shown.first.wait_for()
    assert wait_until(lambda: "".join(shown.all_inner_texts()).count(text) >= times, 30)


def hard_to_kill(mark: str, options: str = "60") -> str:
    """A cell with a child that ignores signals, one in a session of its own, and a daemon. Each prints ready."""
    lines = "\n".join(f"{program(name, mark)} &" for name in HARD_TO_KILL)
    return f"%%timeout_shell --env MARK={mark} {options}\n{lines}\nwait; sleep 1000"


def start_hard_to_kill(notebook: Notebook, mark: str) -> None:
    notebook.run(1)
    wait_for_text(notebook, 1, "ready", times=len(HARD_TO_KILL))
    assert len(marked(mark)) >= 2 * len(HARD_TO_KILL) - 1
    assert notebook.prompt(1) == "[*]:"


def test_output_streams_and_one_status_is_updated_until_it_is_the_summary(lab: Lab) -> None:
    enough = lab.notebooks / "enough"  # has been seen of the status
    steps = f"for n in 1 2 3 4 5 6; do echo step $n; sleep 0.5; done; until [ -e {enough.name} ]; do sleep 0.1; done"
    with lab.notebook(f"%%timeout_shell 60\n{steps}; echo step 7") as notebook:
        pressed_s = time.monotonic()
        output = notebook.run(1)
        wait_for_text(notebook, 1, "step 1")
        assert "step 7" not in "".join(output.all_inner_texts())
        status = notebook.cell(1).locator(STATUS)
        status.wait_for()
        bar = "e => e.querySelector('progress')?.value"
        elapsed_s = []

        def is_summary() -> bool:
            assert status.count() == 1
            elapsed_s.append(status.evaluate(bar))
            assert elapsed_s[-1] is None or elapsed_s[-1] < time.monotonic() - pressed_s
            if len(set(elapsed_s)) >= 3:
                enough.touch()
            return elapsed_s[-1] is None

        clock = r"([\d-]+ )?\d\d:\d\d:\d\d"  # with the date, if midnight is near
        text = status.inner_text().replace("\xa0", " ").strip()
        assert re.match(rf"running · since {clock}, until {clock} \S+ · \d process", text)
        assert wait_until(is_summary, 30)
        del elapsed_s[-1]
        assert elapsed_s[0] > 0.9
        assert elapsed_s == sorted(elapsed_s)
        assert len(set(elapsed_s)) >= 3
        notebook.wait_over(1)
        took = re.fullmatch(r"● exit code 0 \((\d+\.\d)\xa0s\)", status.inner_text().strip())
        assert took
        assert 3.0 <= float(took[1]) <= time.monotonic() - pressed_s + 0.05  # it is rounded
        assert "step 7" in "".join(output.all_inner_texts())


def test_the_stop_button_ends_everything_and_the_cell_reports_it(lab: Lab, mark: str) -> None:
    with lab.notebook(hard_to_kill(mark), "%%timeout_shell 9\necho still here") as notebook:
        start_hard_to_kill(notebook, mark)
        notebook.press("interrupt")
        assert wait_until_gone(mark, GONE_S) == []
        notebook.wait_over(1)
        shown = "\n".join(notebook.output(1).all_inner_texts())
        (line,) = (line for line in shown.splitlines() if line.startswith("KeyboardInterrupt"))
        assert re.match(r"KeyboardInterrupt: interrupted: SIGINT to \d+ process.*; all are gone", line)
        assert "Traceback" not in shown
        assert "still here" in notebook.run_to_end(2).inner_text()


def test_a_restart_of_a_busy_kernel_leaves_no_process(lab: Lab, mark: str) -> None:
    with lab.notebook(hard_to_kill(mark), "%%timeout_shell 9\necho still here") as notebook:
        start_hard_to_kill(notebook, mark)
        notebook.press("restart")
        notebook.confirm()
        assert wait_until_gone(mark, GONE_S) == []
        notebook.wait_idle()
        notebook.run_to_end(0)
        assert "still here" in notebook.run_to_end(2).inner_text()


@pytest.mark.parametrize("how", ["shut down", "killed"])
def test_the_end_of_a_busy_kernel_leaves_no_process(lab: Lab, mark: str, how: str) -> None:
    with lab.notebook(hard_to_kill(mark), own_page=True) as notebook:  # its page may ask what to do without a kernel
        start_hard_to_kill(notebook, mark)
        if how == "shut down":
            (session,) = lab.request("api/sessions")
            lab.request(f"api/sessions/{session['id']}", "DELETE")
        else:
            (kernel,) = (process for process in lab.processes() if "ipykernel_launcher" in process.cmdline())
            kernel.kill()
        assert wait_until_gone(mark, GONE_S) == []


def test_a_deadline_shows_one_line_and_no_traceback(lab: Lab) -> None:
    cell = "%%timeout_shell 1\nsetsid sleep 1000 &\ntrap '' TERM\nsleep 1000; echo never"
    with lab.notebook(cell) as notebook:
        output = notebook.run_to_end(1)
        error = notebook.cell(1).locator(f'[data-mime-type="{STDERR}"]')
        words = (
            r"CommandTimeout: timed out after 1 s: SIGTERM to 3 processes, SIGKILL to \d; all are gone \([3-9]\.\d s\)"
        )
        assert re.fullmatch(words, error.inner_text().strip())
        assert "ipython_pgtimeout/" not in "".join(output.all_inner_texts())


def test_head_tail_and_count_of_30_megabytes_are_complete(lab: Lab) -> None:
    cell = "%%timeout_shell 60\necho the first; yes 0123456789 | head -c 30000000; echo; echo the last"
    with lab.notebook(cell) as notebook:
        notebook.run_to_end(1, 90)
        shown = "".join(notebook.cell(1).locator(f"[data-mime-type='{STDOUT}']").all_text_contents())
        head, left_out, tail = re.split(r"\[… ([\d,]+) bytes left out …\]\n", shown)
        assert head.startswith("the first\n0123456789\n0123456789\n")
        assert tail.endswith("\n0123456789\n01234567\nthe last\n")
        written = len("the first\n") + 30_000_000 + len("\nthe last\n")
        # A newline may have been added to end the line that was cut.
        assert len(head) + int(left_out.replace(",", "")) + len(tail) in (written, written + 1)
    assert "rate exceeded" not in lab.log()


def test_the_same_programs_survive_the_stop_button_under_bash(lab: Lab, mark: str) -> None:
    """The negative control: the search finds survivors where there are some."""
    cell = hard_to_kill(mark).replace(f"%%timeout_shell --env MARK={mark} 60", "%%bash")
    with lab.notebook(cell) as notebook:
        start_hard_to_kill(notebook, mark)
        notebook.press("interrupt")
        notebook.wait_over(1)
        assert any(process.status() != psutil.STATUS_ZOMBIE for process in marked(mark))
        kill_marked(mark)


def test_closing_the_page_does_not_end_the_command(lab: Lab, mark: str) -> None:
    with lab.notebook(f"%%timeout_shell --env MARK={mark} 60\necho ready; sleep 1000") as notebook:
        notebook.run(1)
        wait_for_text(notebook, 1, "ready")
        notebook.page.close()
        assert marked(mark)
    assert wait_until_gone(mark, GONE_S) == []
