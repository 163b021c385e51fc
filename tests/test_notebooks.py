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
SOLUTIONS = sorted(DIRECTORY.glob("solutions/*.ipynb"))
MOST_WORDS = 1500
"""What a student reads in some ten minutes; the other ten are for looking and for the exercises."""
HEADINGS = ("Goals", "The story", "The picture", "Exercises", "Read on")
_MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:root|work|home|Users|tmp|var/folders|opt)/\w|site-packages|\.ipython/|\.local/"
)
_VARIES = re.compile(r"\(\d+\.\d+ s\)|\bsession \d+|(?<!_exit)\(\d{2,}\)|\b0x[0-9a-f]{6,}|\bin \d+\.\d+ s")
_RESULT = re.compile(r"^%%timeout_shell .*--(?:result|job) (\w+)")


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


def _graded(notebook: Notebook) -> list[Any]:
    """The cells of the exercises, by the metadata that nbgrader reads."""
    return [cell for cell in notebook.cells if "nbgrader" in cell.metadata]


def exercises(notebook: Notebook) -> Iterator[str]:
    """Each is a text, a cell to write in, and a check that says in one line what is wrong."""
    cells = notebook.cells
    texts = [index for index, cell in enumerate(cells) if re.match(r"\*\*\d+\. \w+", cell.source)]
    numbers = [int(re.findall(r"\d+", cells[index].source)[0]) for index in texts]
    if not 3 <= len(numbers) <= 6 or numbers != list(range(1, len(numbers) + 1)):
        yield f"the exercises are numbered {numbers}"
    for index in texts:
        answer, check = [cell for cell in cells[index:] if "nbgrader" in cell.metadata][:2]
        if "exercise" not in _tags(answer) or "check" not in _tags(check):
            yield f"no answer and check after {cells[index].source[:40]!r}"
        elif not any(output.get("ename") == "NotYet" and len(output.evalue) > 15 for output in check.outputs):
            yield f"{check.id} does not say what is wrong with an answer that has not been written"
    if len(_graded(notebook)) != 2 * len(texts):
        yield "an answer or a check has no text"


def grading(notebook: Notebook) -> Iterator[str]:
    """nbgrader finds what to replace and what to grade by its metadata."""
    ids = [cell.metadata.nbgrader.grade_id for cell in _graded(notebook)]
    if len(set(ids)) != len(ids):
        yield f"an id is there twice: {ids}"
    for cell in _graded(notebook):
        data = cell.metadata.nbgrader
        is_check = "check" in _tags(cell)
        if (data.solution, data.grade, data.locked, "points" in data) != (not is_check, is_check, is_check, is_check):
            yield f"{cell.id} is not described as what it is"
        if cell.id != data.grade_id:
            yield f"{cell.id} is called {data.grade_id}"


def length(notebook: Notebook) -> Iterator[str]:
    if (words := len(_prose(notebook).split())) > MOST_WORDS:
        yield f"{words} words"


def wording(notebook: Notebook) -> Iterator[str]:
    """Jupyter's kernel and that of the operating system are two things."""
    prose = re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)|^#.*$", "", _prose(notebook), flags=re.MULTILINE)
    prose = re.sub(r"\s+", " ", prose)
    for found in re.finditer(r"(\S+ )?\bkernels?\b", prose):
        if not re.match(r"\W*(Jupyter|Linux|Linux's|Jupyter's) ", found[1] or ""):
            yield f"which kernel: {prose[max(0, found.start() - 30) : found.end() + 20]!r}"


def privacy(notebook: Notebook) -> Iterator[str]:
    for cell in _code(notebook):
        if re.search(r"process_iter\((?![^)]*num_threads)|\bps (-e|ax|aux)|pgrep -f|pkill -f", cell.source):
            yield f"{cell.id} reads the command line of every process of the machine"


def outputs(notebook: Notebook) -> Iterator[str]:
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not run from top to bottom: {counts}"
    kinds = {kind for cell in _code(notebook) for output in cell.outputs for kind in output.get("data", {})}
    drawn = "](docs/" in _prose(notebook) or "```" in _section(notebook, "The picture")
    if "text/html" not in kinds and not drawn and not any(".timeline()" in cell.source for cell in _code(notebook)):
        yield "no picture is saved"
    for cell in _code(notebook):
        for output in cell.outputs:
            shown = re.sub(
                r"<style.*?</style>|<[^>]*>", "", output.get("data", {}).get("text/html", "."), flags=re.DOTALL
            )
            if not shown.strip():
                yield f"{cell.id} shows nothing without its style"
    for cell in _code(notebook):
        if "print(" in cell.source and not cell.outputs and not cell.source.lstrip().startswith(("def ", "import ")):
            yield f"{cell.id} prints, and no output is saved"


def errors(notebook: Notebook) -> Iterator[str]:
    for cell in _code(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed != ("raises-exception" in _tags(cell)):
            yield f"{cell.id} {'has failed' if failed else 'is tagged raises-exception and has not failed'}"


def claims(notebook: Notebook) -> Iterator[str]:
    """Each cell with output also has an assertion. For a script, one of the next two cells asserts its result. What the
    machine may not permit is not asserted. In the exercises it is the checks that assert."""
    headings = [index for index, cell in enumerate(notebook.cells) if "## Exercises\n" in cell.source]
    lesson = notebook.cells[: headings[0]] if headings else notebook.cells
    cells = [cell for cell in lesson if cell.cell_type == "code"] + _code(notebook)[-1:]
    for index, cell in enumerate(cells):
        if not cell.outputs or "raises-exception" in _tags(cell) or _asserts(cell) or "skipped: " in cell.source:
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
    grading,
    length,
    wording,
    privacy,
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


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_exercise_has_a_solution_that_passes_the_same_check(path: Path) -> None:
    solved = _read(DIRECTORY / "solutions" / path.name)
    assert list(errors(solved)) == []
    assert list(grading(solved)) == []
    assert list(stability(solved)) == []
    assert [cell.id for cell in _graded(solved)] == [cell.id for cell in _graded(_read(path))]
    for cell, asked in zip(_graded(solved), _graded(_read(path)), strict=True):
        if "check" in _tags(cell):
            assert cell.source == asked.source
            assert "right: " in "".join(_texts(cell)), cell.id
        else:
            assert re.search(r"^ *### BEGIN SOLUTION\n.*\n *### END SOLUTION$", cell.source, re.DOTALL | re.MULTILINE)
            assert cell.source not in asked.source


def test_the_course_is_complete() -> None:
    assert [path.name[:2] for path in PATHS] == [f"{number:02}" for number in range(10)]
    assert [path.name for path in SOLUTIONS] == [path.name for path in PATHS]


def test_the_landing_page_describes_each_notebook() -> None:
    rows = re.findall(
        r"^\| \[\d+ [^]]*\]\(([^)]*)\) \|.* (\d+) \|$", (DIRECTORY / "README.md").read_text(), re.MULTILINE
    )
    assert rows == [(path.name, str(len(_graded(_read(path))) // 2)) for path in PATHS]


# -- the negative control: each check can fail ---------------------------------------------------------------------


def _remove_heading(notebook: Notebook) -> None:
    notebook.cells[0].source = notebook.cells[0].source.replace("## Goals", "Goals")


def _first_check(notebook: Notebook) -> Any:
    return next(cell for cell in notebook.cells if "check" in _tags(cell))


def _solve_an_exercise(notebook: Notebook) -> None:
    _first_check(notebook).outputs = []


def _repeat_an_id(notebook: Notebook) -> None:
    cells = _graded(notebook)
    cells[2].metadata.nbgrader.grade_id = cells[0].metadata.nbgrader.grade_id


def _unlock_a_check(notebook: Notebook) -> None:
    _first_check(notebook).metadata.nbgrader.locked = False


def _say_too_much(notebook: Notebook) -> None:
    notebook.cells[0].source += " word" * MOST_WORDS


def _name_any_kernel(notebook: Notebook) -> None:
    notebook.cells[0].source += "\nThe child tells the\nkernel."


def _look_at_every_process(notebook: Notebook) -> None:
    _code(notebook)[-1].source += "\nlist(psutil.process_iter())"


def _show_only_style(notebook: Notebook) -> None:
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<style>p {}</style><p></p>"}}
    _code(notebook)[0].outputs.append(nbformat.from_dict(output))  # type: ignore[no-untyped-call]


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
    _code(notebook)[-1].source = "print('nothing is left')"


def _add_broken_link(notebook: Notebook) -> None:
    notebook.cells[0].source += "[next](06-and-so-on.ipynb)"


SPOILED = [
    (_remove_heading, sections),
    (_solve_an_exercise, exercises),
    (_repeat_an_id, grading),
    (_unlock_a_check, grading),
    (_say_too_much, length),
    (_name_any_kernel, wording),
    (_look_at_every_process, privacy),
    (_show_only_style, outputs),
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
