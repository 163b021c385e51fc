"""Requirements on every notebook of the course, checked in the files. ``pytest --nbval`` checks that the notebooks run
and show their saved outputs.
"""

from __future__ import annotations

import ast
import copy
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

Notebook = Any
DIRECTORY = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(DIRECTORY.glob("*.ipynb"))
HEADINGS = ("Goals", "The story", "The picture", "Exercises", "Read on")
_MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:root|work|home|Users|tmp|var/folders|opt)/\w|site-packages|\.ipython/|\.local/"
)
_VARIES = re.compile(r"\(\d+\.\d+ s\)|\bsession \d+|\(\d{2,}\)|\b0x[0-9a-f]{6,}|\bin \d+\.\d+ s")
_RESULT = re.compile(r"^%%timeout_shell .*--result (\w+)")


def _read(path: Path) -> Notebook:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def _code(notebook: Notebook) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _prose(notebook: Notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _section(notebook: Notebook, heading: str) -> str:
    """The text below the second-level heading that begins with ``heading``, up to the next one."""
    found = re.search(rf"^## {heading}.*?\n(.*?)(?=^## |\Z)", _prose(notebook), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _tags(cell: Any) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags


def _texts(cell: Any) -> Iterator[str]:
    """All texts that a cell shows."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield "\n".join(output.get("traceback", []))
        yield from (str(shown) for kind, shown in output.get("data", {}).items() if not kind.startswith("image/"))


def _asserts(cell: Any) -> list[str]:
    """The assertions of a cell, without those in functions, classes and except clauses, which may not be run."""
    tree = ast.parse(TransformerManager().transform_cell(cell.source))  # type: ignore[no-untyped-call]
    to_visit: list[ast.AST] = [*tree.body]
    found = []
    while to_visit:
        node = to_visit.pop()
        if isinstance(node, ast.Assert):
            found.append(ast.unparse(node.test))
        elif not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)):
            to_visit += ast.iter_child_nodes(node)
    return found


# -- the checks: each yields what is wrong -----------------------------------------------------------------------


def sections(notebook: Notebook) -> Iterator[str]:
    headings = re.findall(r"^## (.*)", _prose(notebook), re.MULTILINE)
    found = [name for heading in headings for name in HEADINGS if heading.startswith(name)]
    if found != list(HEADINGS):
        yield f"the headings {HEADINGS} are expected in this order, and are {found}"
    if len(re.findall(r"^- ", _section(notebook, "Goals"), re.MULTILINE)) < 3:
        yield "fewer than three goals"
    if len(_section(notebook, "Read on").split("https://")) < 5:
        yield "fewer than four things to read on"


def exercises(notebook: Notebook) -> Iterator[str]:
    section = _section(notebook, "Exercises")
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\.\*\*", section, re.MULTILINE)]
    if len(numbers) < 3 or numbers != list(range(1, len(numbers) + 1)):
        yield f"the exercises are numbered {numbers}"
    for exercise in re.split(r"^\*\*\d+\.\*\*", section, flags=re.MULTILINE)[1:]:
        if not re.search(r"<details><summary>Answer</summary>\n\n.{20,}\n</details>", exercise, re.DOTALL):
            yield f"no answer to{exercise[:60]!r}"
    if not any("solution" in _tags(cell) for cell in _code(notebook)):
        yield "no cell runs a solution"


def outputs(notebook: Notebook) -> Iterator[str]:
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not run from top to bottom: {counts}"
    kinds = {kind for cell in _code(notebook) for output in cell.outputs for kind in output.get("data", {})}
    if not kinds & {"text/html", "image/png"}:
        yield "no picture is saved"
    for cell in _code(notebook):
        if "print(" in cell.source and not cell.outputs and not cell.source.lstrip().startswith(("def ", "import ")):
            yield f"{cell.id} prints, and no output is saved"


def errors(notebook: Notebook) -> Iterator[str]:
    for cell in _code(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed != ("raises-exception" in _tags(cell)):
            yield f"{cell.id} {'has failed' if failed else 'is tagged raises-exception and has not failed'}"


def claims(notebook: Notebook) -> Iterator[str]:
    """Each cell with output also has an assertion. For a script, one of the next two cells asserts its result."""
    cells = _code(notebook)
    for index, cell in enumerate(cells):
        if not cell.outputs or "raises-exception" in _tags(cell) or _asserts(cell):
            continue
        named = _RESULT.match(cell.source)
        checks = itertools.chain.from_iterable(_asserts(later) for later in cells[index + 1 : index + 3])
        if named is None or not any(re.search(rf"\b{named[1]}\b", check) for check in checks):
            yield f"{cell.id} shows something and asserts nothing"


def stability(notebook: Notebook) -> Iterator[str]:
    for cell in _code(notebook):
        if "nbval-ignore-output" not in _tags(cell):
            for text in _texts(cell):
                if varying := _VARIES.search(text):
                    yield f"{cell.id} shows {varying[0]!r}, which is different each time, and is compared"


def cleanliness(notebook: Notebook) -> Iterator[str]:
    if notebook.metadata.kernelspec.name != "python3":
        yield f"the kernel is {notebook.metadata.kernelspec.name}"
    for cell in notebook.cells:
        texts = _texts(cell) if cell.cell_type == "code" else ()
        for text in (cell.source, *texts, json.dumps(cell.metadata)):
            if path := _MACHINE_PATH.search(text):
                yield f"{cell.id} shows {path[0]!r}, a path of one machine"
    if "def clean_up" in "".join(cell.source for cell in _code(notebook)):
        last = _code(notebook)[-1]
        if "clean_up()" not in last.source or "naps() == []" not in _asserts(last):
            yield "it does not end with a check for leftover processes"


def links(notebook: Notebook) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", _prose(notebook)):
        if not target.startswith("https://") and not (DIRECTORY / target).exists():
            yield f"there is no {target}"


CHECKS: tuple[Callable[[Notebook], Iterator[str]], ...] = (
    sections,
    exercises,
    outputs,
    errors,
    claims,
    stability,
    cleanliness,
    links,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_meets_the_requirements(path: Path, check: Callable[[Notebook], Iterator[str]]) -> None:
    assert list(check(_read(path))) == []


def test_the_course_is_complete() -> None:
    assert [path.name[:2] for path in PATHS] == ["00", "01", "02", "03", "04", "05"]


# -- the negative control: each check can fail ---------------------------------------------------------------------


def _remove_heading(notebook: Notebook) -> None:
    notebook.cells[0].source = notebook.cells[0].source.replace("## Goals", "Goals")


def _remove_answers(notebook: Notebook) -> None:
    for cell in notebook.cells:
        cell.source = cell.source.replace("</details>", "")


def _remove_execution_count(notebook: Notebook) -> None:
    _code(notebook)[-1].execution_count = None


def _add_error(notebook: Notebook) -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    _code(notebook)[0].outputs.append(nbformat.from_dict(error))  # type: ignore[no-untyped-call]


def _add_output(cell: Any, text: str) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": text}
    cell.outputs.append(nbformat.from_dict(output))  # type: ignore[no-untyped-call]


def _assert_in_uncalled_function(notebook: Notebook) -> None:
    cell = _code(notebook)[-1]
    cell.source = "def later():\n    assert True\nprint('nothing is left')"
    _add_output(cell, "nothing is left\n")


def _assert_in_except_clause(notebook: Notebook) -> None:
    cell = _code(notebook)[-1]
    cell.source = "try:\n    print('fails')\nexcept ValueError:\n    assert True"
    _add_output(cell, "fails\n")


def _leave_result_unchecked(notebook: Notebook) -> None:
    cell = _code(notebook)[-1]
    cell.source = "%%timeout_shell --result r 5\necho nothing is left"
    _add_output(cell, "nothing is left\n")


def _compare_times(notebook: Notebook) -> None:
    _code(notebook)[-1].metadata.pop("tags", None)
    _add_output(_code(notebook)[-1], "all are gone (2.0 s)\n")


def _show_home_directory(notebook: Notebook) -> None:
    _add_output(_code(notebook)[-1], "1234 /home/someone/bin/python\n")


def _name_another_kernel(notebook: Notebook) -> None:
    notebook.metadata.kernelspec.name = "my-venv"


def _omit_clean_up(notebook: Notebook) -> None:
    _code(notebook)[-1].source = "def clean_up(): ..."


def _add_broken_link(notebook: Notebook) -> None:
    notebook.cells[0].source += "[next](06-and-so-on.ipynb)"


SPOILED = [
    (_remove_heading, sections),
    (_remove_answers, exercises),
    (_remove_execution_count, outputs),
    (_add_error, errors),
    (_assert_in_uncalled_function, claims),
    (_assert_in_except_clause, claims),
    (_leave_result_unchecked, claims),
    (_compare_times, stability),
    (_show_home_directory, cleanliness),
    (_name_another_kernel, cleanliness),
    (_omit_clean_up, cleanliness),
    (_add_broken_link, links),
]


@pytest.mark.parametrize(("spoil", "check"), SPOILED, ids=lambda function: function.__name__.strip("_"))
def test_each_check_finds_a_spoiled_notebook(
    spoil: Callable[[Notebook], None], check: Callable[[Notebook], Iterator[str]]
) -> None:
    notebook = copy.deepcopy(_read(PATHS[0]))
    spoil(notebook)
    assert list(check(notebook))
