"""The status in JupyterLab and Notebook 7: above the output, which stays in one piece, on the page and in the file."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Lab, Notebook, open_lab
from .watching import wait_until

pytestmark = pytest.mark.timeout(240)  # to open a page takes 30 s on a busy machine
BAR = "for n in {1..25}; do printf '\\rstep %d of 25' $n; sleep 0.2; done; echo"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from open_lab()


@pytest.fixture(params=["lab", "notebooks"], ids=["JupyterLab", "Notebook 7"])
def app(request: pytest.FixtureRequest) -> str:
    if request.param == "notebooks" and importlib.util.find_spec("notebook") is None:
        if os.environ.get("CI"):
            pytest.fail("no notebook")
        pytest.skip("no notebook")
    return str(request.param)


def shown(notebook: Notebook, cell: int) -> list[str]:
    return [text.replace("\xa0", " ").strip() for text in notebook.output(cell).all_inner_texts()]


def saved(notebook: Notebook, cell: int) -> list[Any]:
    """The outputs in the file, once the page has saved it."""
    file = notebook.lab.notebooks / notebook.name
    before = file.stat().st_mtime_ns
    notebook.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    assert wait_until(lambda: file.stat().st_mtime_ns != before, 20)
    outputs: list[Any] = json.loads(file.read_text())["cells"][cell]["outputs"]
    return outputs


def test_a_progress_bar_is_one_line_below_the_status(lab: Lab, app: str) -> None:
    wait = "until [ -e seen ]; do sleep 0.1; done"
    cells = (f"%%timeout_shell 60\nexec >&2; {BAR}; {wait}", f"%%timeout_shell --pty 60\n{BAR}; {wait}")
    with lab.notebook(*cells, app=app) as notebook:
        for cell in (1, 2):
            _assert_one_line_below_the_status(notebook, cell, lab.notebooks / "seen")


def _assert_one_line_below_the_status(notebook: Notebook, cell: int, seen: Path) -> None:
    seen.unlink(missing_ok=True)
    notebook.run(cell)
    notebook.cell(cell).locator(".pgtimeout-status").wait_for()
    assert wait_until(lambda: len(shown(notebook, cell)) == 2, 10)
    status, bar = shown(notebook, cell)
    assert status.startswith("running · since ")
    assert bar.startswith("step ")
    assert "\n" not in bar
    seen.touch()
    notebook.wait_over(cell)
    status, bar = shown(notebook, cell)
    assert status.startswith("● exit code 0")
    assert bar == "step 25 of 25"
    in_file = saved(notebook, cell)
    assert [output["output_type"] for output in in_file] == ["display_data", "stream"]
    assert "".join(in_file[1]["text"]).count("step") == 1


def test_a_command_in_a_loop_clears_nothing_and_leaves_half_a_bar(lab: Lab) -> None:
    """The negative control: this is what a status in the middle of a bar looks like."""
    with lab.notebook(f"print('mine')\n%run_timed 30 {BAR}") as notebook:
        notebook.run_to_end(1)
        first, status, bar, result = shown(notebook, 1)
        assert first.splitlines()[0] == "mine"
        assert first.splitlines()[1].startswith("step ")
        assert status == result
        assert bar == "step 25 of 25"


def test_a_failure_is_told_once_and_the_status_is_facts(lab: Lab, app: str) -> None:
    with lab.notebook("%%timeout_shell 2\necho a; sleep 9", "%%timeout_shell 9\necho quick", app=app) as notebook:
        notebook.run_to_end(1)
        texts = shown(notebook, 1)
        assert texts[1] == "a"
        assert texts[2].startswith("CommandTimeout: timed out after 2 s")
        assert "timed out" not in texts[0]
        assert texts[0].startswith("● ")
        assert "output 2 B" in texts[0]
        notebook.run_to_end(2)
        assert shown(notebook, 2) == ["quick"]
        assert len(saved(notebook, 2)) == 1
