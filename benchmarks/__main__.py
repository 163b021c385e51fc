"""The one command: measure, print one table, write JSON, and put the table into the README if asked to."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import endings, launch, many, output, standing
from .figures import Figure, table

MODULES = {module.__name__.rpartition(".")[2]: module for module in (launch, output, endings, standing, many)}
PACKAGES = ("ipython-pgtimeout", "ipython", "ipykernel", "bounded_subprocess")
LATEST = Path(__file__).parent / "latest.json"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: written by python -m benchmarks --publish -->", "<!-- end of benchmarks -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our figures against our peers'.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}; all if not given")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: whether it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--publish", action="store_true", help=f"write {LATEST.name} and the README's table")
    chosen = parser.parse_args()
    if unknown := set(chosen.modules) - set(MODULES):
        parser.error(f"there is no {', '.join(unknown)}; write for example launch output")
    figures: list[Figure] = []
    for name in chosen.modules or MODULES:
        started = time.monotonic()
        figures += MODULES[name].measure(0.1 if chosen.quick else 1.0)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    report = {**_circumstances(), "figures": [figure.as_json() for figure in figures], "table": table(figures)}
    print(_told(report))
    if chosen.json:
        _write(chosen.json, report)
    if chosen.publish:
        _write(LATEST, report)
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{_told(report)}\n{END}{rest.partition(END)[2]}")


def _circumstances() -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _told(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"{report['date']}, {report['machine']}; {versions}\n\n{report['table']}"


def _write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
