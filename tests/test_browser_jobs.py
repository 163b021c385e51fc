"""Jobs in JupyterLab and Notebook 7: shown in their cell while others run, with buttons."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .browser import Lab, Notebook, open_lab
from .watching import marked, wait_until, wait_until_gone

pytestmark = pytest.mark.timeout(240)  # to open a page takes 30 s on a busy machine
LOG = r"for i in {1..60}; do echo -e \"\e[32mfile\e[0m $i.c\"; sleep 0.05; done".replace('\\"', '"')


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from open_lab()


def text(notebook: Notebook, cell: int) -> str:
    """What the cell's outputs show."""
    return "\n".join(notebook.output(cell).all_inner_texts()).replace("\xa0", " ")


def press(notebook: Notebook, cell: int, button: str) -> None:
    notebook.cell(cell).get_by_role("button", name=button).click()


@pytest.mark.parametrize("app", ["lab", "notebooks"], ids=["JupyterLab", "Notebook 7"])
def test_a_job_is_shown_in_its_cell_while_another_runs(lab: Lab, app: str) -> None:
    seen = lab.notebooks / f"seen-{app}"
    wait = f"until [ -e {seen.name} ]; do sleep 0.1; done"
    cells = (
        f"%%timeout_shell --job build 30m\n{LOG}; {wait}; for i in {{1..20}}; do printf '\\rlinking %d' $i; done",
        f"import pathlib, time\nwhile not pathlib.Path({seen.name!r}).exists(): time.sleep(0.2); print('other')",
    )
    with lab.notebook(*cells, app=app) as notebook:
        notebook.run_to_end(1)
        notebook.run(2)
        assert wait_until(lambda: "file 60.c" in text(notebook, 1), 30)
        assert notebook.prompt(2) == "[*]:", "the other cell is over: this test shows nothing"
        assert "build · running" in text(notebook, 1)
        seen.touch()
        assert wait_until(lambda: "build · exit code 0" in text(notebook, 1), 20)
        notebook.wait_over(2)
        assert "other" in text(notebook, 2)
        assert "file" not in text(notebook, 2)
        assert "other" not in text(notebook, 1)
        # The progress bar is one line. Of the log the last lines are shown, and the others on a click.
        assert re.search(r"^linking 20$", text(notebook, 1), re.MULTILINE)
        assert "linking 19" not in text(notebook, 1)
        first = notebook.cell(1).get_by_text("file 1.c", exact=False).first
        assert not first.is_visible()
        notebook.cell(1).locator("summary").click()
        assert "file 1.c" in notebook.cell(1).locator("details pre").inner_text()
        assert notebook.cell(1).locator("details pre").is_visible()


def test_buttons_act_at_once_while_no_cell_runs_and_after_the_running_one_otherwise(lab: Lab, mark: str) -> None:
    pytest.importorskip("ipywidgets")
    script = f"export MARK={mark}\ntrap '' INT; echo ready; sleep 60 & wait; sleep 60"
    cells = (
        f"%%timeout_shell --job stubborn -k 1 30m\n{script}",
        f"%%timeout_shell --job gentle 10m\nMARK={mark} sleep 60; true",
        "import pathlib, time\nwhile not pathlib.Path('pressed').exists(): time.sleep(0.1)",
    )
    with lab.notebook(*cells) as notebook:
        notebook.run_to_end(1)
        assert wait_until(lambda: "ready" in text(notebook, 1), 20)
        before = re.search(r"until ([\d-]+ )?\d\d:\d\d:\d\d", text(notebook, 1))  # with the date, if midnight is near
        assert before
        press(notebook, 1, "+5 min")
        assert wait_until(lambda: "until " in text(notebook, 1) and before[0] not in text(notebook, 1), 10)
        press(notebook, 1, "Kill")
        assert wait_until(lambda: "stubborn · terminated: SIGKILL to" in text(notebook, 1), 20)
        assert not wait_until_gone(mark, 1)
        assert notebook.cell(1).get_by_role("button", name="Kill").count() == 0
        notebook.run_to_end(2)
        assert wait_until(lambda: marked(mark), 10)
        notebook.run(3)
        press(notebook, 2, "Stop")
        assert "running" in text(notebook, 2)
        (lab.notebooks / "pressed").touch()
        notebook.wait_over(3)
        assert wait_until(lambda: "gentle · interrupted: SIGINT to" in text(notebook, 2), 20)
        assert not wait_until_gone(mark, 1)


def test_a_page_that_is_reloaded_shows_the_times_and_the_job_goes_on(lab: Lab, mark: str) -> None:
    script = f"export MARK={mark}\nuntil [ -e go ]; do sleep 0.1; done; echo built"
    cells = (f"%%timeout_shell --job build 30m\n{script}", "build", "%timed_jobs\n", "open('go', 'w').close()")
    with lab.notebook(*cells) as notebook:
        notebook.run_to_end(1)
        notebook.save_and_reload()
        assert re.search(r"build · running · since [\d:]+, until [-\d: ]+", text(notebook, 1))
        assert marked(mark)
        notebook.run_to_end(2)
        notebook.run_to_end(3)
        assert "build" in text(notebook, 3)
        notebook.run_to_end(4)
        assert wait_until(lambda: "build · exit code 0" in text(notebook, 2), 20)
        assert "built" in text(notebook, 2)
