"""How Sphinx makes the site: ``python -m sphinx -W docs build/site``. It needs no network; CI takes warnings as errors.

The course is copied from where it is, and the options come from their declaration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pygments.lexer import bygroups, using
from pygments.lexers import BashLexer, find_lexer_class_by_name
from pygments.token import Operator, Text
from sphinx.application import Sphinx

from ipython_pgtimeout import __version__
from ipython_pgtimeout.command_line import reference
from ipython_pgtimeout.options import Option
from ipython_pgtimeout.spec import OPTIONS

LANGUAGE = "ipython3"
IPYTHON = find_lexer_class_by_name(LANGUAGE)  # where it is depends on the version of IPython
HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
COURSE = HERE / "course"
REPOSITORY = "https://github.com/ipython-pgtimeout/ipython-pgtimeout/blob/main"
OUTSIDE = {
    "](solutions/": f"]({REPOSITORY}/notebooks/solutions/",
    "](solutions)": f"]({REPOSITORY}/notebooks/solutions)",
    "](terminal.py)": f"]({REPOSITORY}/notebooks/terminal.py)",
    "](../README.md)": f"]({REPOSITORY}/README.md)",
}
"""Links of the course to what is not part of the site."""


class Cells(IPYTHON):
    """Cells of IPython. Those of our magic are shell scripts."""

    tokens: ClassVar = {
        **IPYTHON.tokens,
        "root": [
            (r"(?s)(\s*)(%%timeout_shell)([^\n]*\n)(.*)", bygroups(Text, Operator, Text, using(BashLexer))),
            *IPYTHON.tokens["root"],
        ],
    }


def copy_course() -> None:
    """Sphinx reads only what is below this folder."""
    shutil.rmtree(COURSE, ignore_errors=True)
    COURSE.mkdir()
    for page in (*NOTEBOOKS.glob("*.ipynb"), NOTEBOOKS / "README.md"):
        text = page.read_text(encoding="utf-8")
        for link, target in OUTSIDE.items():
            text = text.replace(link, target)
        (COURSE / page.name).write_text(as_shown(text) if page.suffix == ".ipynb" else text, encoding="utf-8")
    (COURSE / "docs").mkdir()
    for drawing in NOTEBOOKS.glob("docs/*.svg"):
        shutil.copy(drawing, COURSE / "docs")


def as_shown(text: str) -> str:
    """A notebook with its outputs as JupyterLab shows them: no empty ones, and pieces of a stream in one."""
    notebook = json.loads(text)
    notebook["metadata"]["language_info"]["pygments_lexer"] = LANGUAGE
    for cell in notebook["cells"]:
        shown: list[Any] = []
        for output in cell.get("outputs", []):
            if "data" in output and not any(output["data"].values()):
                continue
            if shown and "name" in output and output["name"] == shown[-1].get("name"):
                shown[-1]["text"] = ["".join((*shown[-1]["text"], *output["text"]))]
            else:
                shown.append(output)
        if "outputs" in cell:
            cell["outputs"] = shown
    return json.dumps(notebook)


def table(options: Iterable[Option]) -> str:
    """As Markdown: each option with its meaning and its default."""
    rows = [("option", "meaning", "default"), ("---", "---", "---")]
    for option in options:
        *others, last = option.flags
        flags = ", ".join(f"`{flag}`" for flag in (*others, f"{last} {option.metavar or ''}".strip()))
        default = f"`{option.default}`" if isinstance(option.default, str) else "on" if option.default is True else ""
        rows.append((flags, option.help, default))
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def setup(app: Sphinx) -> None:
    app.add_lexer(LANGUAGE, Cells)
    copy_course()


project = "ipython_pgtimeout"
copyright = "the authors of ipython_pgtimeout"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"{project} {version}"
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["site.css"]
default_role = "py:obj"  # a link if it is documented, and code if not
smartquotes = False  # -- begins an option
highlight_language = "text"  # what names no language is a drawing more often than code
autodoc_member_order = "bysource"
autodoc_type_aliases = {name: name for name in ("_PathLike", "OnOutput")}  # the page says what they are
python_maximum_signature_line_length = 88
nb_execution_mode = "off"  # the notebooks are saved with their outputs, and the tests compare these
nb_render_error_lexer = "myst-ansi"  # many an error is a sentence
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3
myst_substitutions = {
    "options": table(OPTIONS),
    "command_line": f"```{{code-block}} text\n:class: usage\n\n{reference.usage('pgtimeout')}\n```",
}
