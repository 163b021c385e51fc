"""The command: measure, and print one table. If asked to, write JSON, and put the table into README.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import command_line, endings, engines, jobs, launch, limits, many, output, standing
from .figures import Figure
from .report import LATEST, as_markdown, publish, report, write

_ALL = launch, output, endings, jobs, standing, limits, many, engines, command_line
MODULES = {module.__name__.rpartition(".")[2]: module for module in _ALL}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our figures against our peers'.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}; all if not given")
    parser.add_argument("--quick", action="store_true", help="only a tenth of the rounds, to see whether it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--publish", action="store_true", help=f"write {LATEST.name} and the table in README.md, here")
    chosen = parser.parse_args()
    if unknown := set(chosen.modules) - set(MODULES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; write for example launch output")
    figures: list[Figure] = []
    for name in chosen.modules or MODULES:
        started = time.monotonic()
        figures += MODULES[name].measure(0.1 if chosen.quick else 1.0)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    measured = report(figures)
    print(as_markdown(measured), end="")
    if chosen.json:
        write(chosen.json, measured)
    if chosen.publish:
        publish(measured)


if __name__ == "__main__":
    main()
