"""Which layer of the package may import which. A layer is a folder of the package, or a module beside the folders.

The imports are read from the files, so a lazy import counts like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ipython_pgtimeout

PACKAGE = Path(ipython_pgtimeout.__file__).parent
NAME = "ipython_pgtimeout"

ALLOWED = {
    "version": set[str](),
    "shared": set[str](),
    "helper": {"shared"},
    "wording": {"shared"},
    "values": {"wording", "shared"},
    "options": {"values"},
    "spec": {"options", "values", "shared"},
    "pictures": {"wording", "shared"},
    "result": {"pictures", "wording", "shared"},
    "caller": {"result", "spec", "values", "wording", "shared"},
    "results": {"pictures", "result", "wording"},
    "parallel": {"caller", "result", "results", "spec", "values", "wording"},
    "api": {"caller", "parallel", "result", "results", "spec", "values", "wording", "shared"},
    "magics": {"caller", "options", "parallel", "pictures", "result", "results", "spec", "values", "wording", "shared"},
    "command_line": {"caller", "helper", "spec", "values", "version", "wording", "shared"},
    "__main__": {"command_line"},
    "__init__": {"api", "caller", "magics", "result", "results", "values", "version", "shared"},
}
"""The layers that each layer may import, from the lowest layer to the highest. Each file belongs to one of them."""
MAY_NEED_IPYTHON = {"magics", "wording", "parallel"}
"""An engine is a kernel. ``result`` imports it only in a function that IPython itself calls, to show an exception."""


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join([NAME, *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path for path in FILES
}


def _imports(path: Path) -> Iterator[str]:
    """The absolute names of all modules that a file imports, at any depth."""
    package = [NAME, *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # A name may be a module of that package, or something in that module.
            yield from (name if (name := f"{module}.{alias.name}") in MODULES else module for alias in node.names)


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_layer_imports_only_the_layers_below_it(path: Path) -> None:
    layer = _layer(path)
    used = {name.split(".")[1] for name in _imports(path) if name.startswith(f"{NAME}.")}
    assert used - {layer} <= ALLOWED[layer]
    if layer not in MAY_NEED_IPYTHON:
        assert not {name.split(".")[0] for name in _imports(path)} & {"IPython", "traitlets", "ipykernel"}


def test_the_layers_are_in_order() -> None:
    """No layers import each other: each layer may import only layers that come before it in the table."""
    for position, (layer, used) in enumerate(ALLOWED.items()):
        assert used <= set(list(ALLOWED)[:position]), layer


def test_no_two_files_import_each_other() -> None:
    """This holds within a layer, too: a chain of imports never leads back to its first file."""
    arrows = {name: set(_imports(path)) & MODULES.keys() - {name} for name, path in MODULES.items()}
    while leaves := [name for name, used in arrows.items() if not used & arrows.keys()]:
        for leaf in leaves:
            del arrows[leaf]
    assert arrows == {}, "these files import each other, or import files that do"


def test_files_are_short() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 300} == {}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (
            "import ipython_pgtimeout",
            ("IPython", "psutil", "tempfile", "asyncio", f"{NAME}.pictures", f"{NAME}.magics"),
        ),
        (f"from {NAME} import run; run('true', 9)", ("IPython", "psutil", "asyncio", f"{NAME}.pictures")),
        (f"import {NAME}.helper.launcher", ("IPython", "traitlets", "psutil", "asyncio")),
    ],
)
def test_unneeded_modules_are_not_loaded(code: str, unwanted: tuple[str, ...]) -> None:
    show = f"{code}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=40, check=True)
    loaded = set(done.stdout.split())
    assert NAME in loaded
    assert loaded & set(unwanted) == set()
