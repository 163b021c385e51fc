"""Tools that run or convert notebooks: how a command ended is in what they save or show, and cells stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytest.importorskip("jupytext")
pytest.importorskip("papermill")
pytest.importorskip("voila")

import jupytext
from jupytext.config import load_jupytext_config

from .kernels import LOAD
from .pipelines import END_S, HOW_TO, Pipeline, pipeline_in

pytestmark = pytest.mark.timeout(240)
SENTENCE = r"CommandTimeout: timed out after 1 s: SIGTERM to \d process(es)?; all are gone"


@pytest.fixture
def pipeline(tmp_path: Path, mark: str) -> Iterator[Pipeline]:
    """A notebook in which a cell has its own deadline."""
    with pipeline_in(tmp_path, mark) as own:
        own.write(LOAD, "%%timeout_shell 1\nsleep 60", "print('next')")
        yield own


@pytest.fixture
def everywhere(tmp_path: Path, mark: str) -> Iterator[Pipeline]:
    """A notebook that knows nothing of us, and a profile that gives each of its commands a deadline."""
    with pipeline_in(tmp_path, mark) as own:
        own.configure()
        own.write("!sleep 60", "%%bash\nsleep 60", "print('next')")
        yield own


# -- saved, and shown ---------------------------------------------------------------------------------------------


def _next_has_run(pipeline: Pipeline, name: str = "out.ipynb") -> bool:
    return bool(pipeline.outputs(name)[-1])


def test_papermill_saves_the_sentence(pipeline: Pipeline) -> None:
    assert pipeline.finish("papermill") == 1
    (error,) = pipeline.errors()
    assert re.match(SENTENCE, error)
    assert not _next_has_run(pipeline)


@pytest.mark.parametrize(
    ("tool", "option", "name", "code"),
    [
        ("jupyter execute", "--inplace", "in.ipynb", 1),
        ("nbconvert", "--inplace", "in.ipynb", 1),
        ("jupytext", "--quiet", "out.ipynb", 1),
        ("nbconvert", "--allow-errors", "out.ipynb", 0),
    ],
)
def test_others_save_it_only_if_errors_are_allowed(
    tool: str, option: str, name: str, code: int, pipeline: Pipeline
) -> None:
    before = (pipeline.directory / "in.ipynb").read_bytes()
    assert pipeline.finish(tool, option) == code, pipeline.log()
    if code:
        assert (pipeline.directory / "in.ipynb").read_bytes() == before
        assert not (pipeline.directory / "out.ipynb").exists()
        assert re.search("timed out after 1 s: SIGTERM to 1 process; all are gone", pipeline.log())  # it is printed
    else:
        (error,) = pipeline.errors(name)
        assert re.match(SENTENCE, error)
        assert _next_has_run(pipeline, name)


def test_every_command_of_a_notebook_that_knows_nothing_of_us(everywhere: Pipeline) -> None:
    assert everywhere.finish("jupyter execute", "--allow-errors", "--inplace") == 0
    first, second = everywhere.errors("in.ipynb")
    assert re.match(SENTENCE, first)
    assert re.match(SENTENCE, second)
    assert _next_has_run(everywhere, "in.ipynb")


@pytest.mark.parametrize("shown", [True, False], ids=["tracebacks", "default"])
def test_voila_shows_it_with_tracebacks_and_logs_it_always(shown: bool, pipeline: Pipeline) -> None:
    process = pipeline.begin("voila", f"--show_tracebacks={shown}")
    page = pipeline.page()
    process.terminate()
    assert process.wait(END_S) == 0
    assert ("timed out after 1 s: SIGTERM to 1 process; all are gone" in page) == shown
    assert ("There was an error when executing cell [2]" in page) != shown
    assert "timed out after 1 s: SIGTERM to 1 process; all are gone" in pipeline.log()


# -- converted ----------------------------------------------------------------------------------------------------


EMPTY = "%%timeout_shell 30 --strict"
CELLS = [
    LOAD,
    "%%timeout_shell 30 --strict\nmake -j8\n# ls, and not:\n# make clean\nls |\n  head",
    "# a comment\n%%timeout_shell --job build 30m\nmake",
    EMPTY,
    "%run_timed 5 ls | head",
    "r = %run_timed 5 ls | head",
    "%timeout_shell 10m",
    "%timeout_shell --memory 4GB 10m\n!make\n%pgtree --all",
    "%%timeout_shell 5\ncat <<'END'\n%%bash\n# %%time\n%ls\n#!/bin/sh\nEND\necho \"it's\" \\\n  '\"'",
]
MARKERS = ["# %%", "#%% x", "# In[1]:", "# <codecell>"]


def _and_back(form: str, *cells: str, config: Any = None) -> list[str]:
    """The cells after they have been in a file of this format."""
    v4: Any = nbformat.v4
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    text = jupytext.writes(notebook, form, config=config)
    return [cell.source for cell in jupytext.reads(text, form, config=config).cells]


@pytest.mark.parametrize("form", ["py:percent", "py:light", "md", "md:myst"])
def test_cells_come_back_from_jupytext_as_they_were(form: str) -> None:
    assert _and_back(form, *CELLS) == CELLS


@pytest.mark.parametrize("line", MARKERS)
def test_a_cell_marker_in_a_script_needs_a_setting_in_the_percent_format(line: str, tmp_path: Path) -> None:
    """jupytext cuts the cell there, as with every cell magic that it does not know."""
    cells = [*CELLS, f"%%timeout_shell 5\nmake\n{line}\ntrue", "print()"]
    assert _and_back("py:percent", *cells) != cells
    assert _and_back("md", *cells) == cells
    (setting,) = re.findall(r'custom_cell_magics = "\w+"', HOW_TO.read_text(encoding="utf-8"))
    (tmp_path / "jupytext.toml").write_text(setting)
    config = load_jupytext_config(str(tmp_path / "in.py"))
    cells.remove(EMPTY)
    assert _and_back("py:percent", *cells, config=config) == cells
    assert _and_back("md", *cells, config=config) != cells  # a trap: the how-to warns of it


@pytest.mark.parametrize("magic", ["%run_timed 5 ls", "%sx ls"])
def test_an_indented_assignment_of_a_magic_is_lost_in_python_files(magic: str) -> None:
    """It comes back as a comment, and it does so for IPython's magics too."""
    cell = f"for n in range(3):\n    r = {magic}"
    assert _and_back("md", cell) == [cell]
    assert _and_back("py:percent", cell) == [cell.replace("r =", "# r =")]
    cell = f"for n in range(3):\n    {magic}"
    assert _and_back("py:percent", cell) == [cell]
