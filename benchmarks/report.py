"""What was measured, where and when: as JSON, as text, and in README.md beside this file."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .figures import Figure, table

LATEST = Path(__file__).parent / "latest.json"
README = Path(__file__).parent / "README.md"
_PACKAGES = ("ipython-pgtimeout", "ipython", "ipykernel", "bounded_subprocess")
_BEGIN, _END = "<!-- benchmarks: written by python -m benchmarks --publish -->\n", "<!-- end of benchmarks -->\n"


def report(figures: Sequence[Figure]) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "figures": [figure.as_json() for figure in figures],
        "table": table(figures),
    }


def as_markdown(measured: dict[str, Any]) -> str:
    """The report as Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    return f"{measured['date']}, {measured['machine']}; {versions}\n\n{measured['table']}\n"


def write(path: Path, measured: dict[str, Any]) -> None:
    path.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


def published() -> str:
    """The report that README.md shows."""
    return README.read_text().partition(_BEGIN)[2].partition(_END)[0]


def publish(measured: dict[str, Any]) -> None:
    write(LATEST, measured)
    before, begin, rest = README.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    README.write_text("".join((before, begin, as_markdown(measured), end, after)))
