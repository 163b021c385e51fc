"""Running ``pgtimeout`` from the sources under test, in the way its installed script does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ipython_pgtimeout

PACKAGE = Path(ipython_pgtimeout.__file__).parent
SCRIPT = PACKAGE / "command_line" / "pgtimeout.sh"
PGTIMEOUT = [sys.executable, "-I", "-S", os.fspath(PACKAGE / "__main__.py")]


def installed(directory: Path, name: str = "pgtimeout") -> Path:
    """The script as pip installs it: beside the Python, whose packages are in a directory next to it."""
    bin_directory = directory / "bin"
    packages = directory / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    bin_directory.mkdir()
    packages.mkdir(parents=True)
    (packages / PACKAGE.name).symlink_to(PACKAGE)
    (bin_directory / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (bin_directory / "python3").chmod(0o755)
    shutil.copy(SCRIPT, bin_directory / name)
    (bin_directory / name).chmod(0o755)
    return bin_directory / name


def call(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``pgtimeout`` with these arguments, to its end."""
    given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 40, **options}
    return subprocess.run([*PGTIMEOUT, *map(str, words)], **given)


def begin(*words: str | Path, ready: int = 1, **options: Any) -> subprocess.Popen[str]:
    """Start it, and wait until its command has said ``ready`` so many times."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, **options}
    process: subprocess.Popen[str] = subprocess.Popen([*PGTIMEOUT, *map(str, words)], **given)
    assert process.stdout is not None
    while ready:
        line = process.stdout.readline()
        assert line, "the command has ended before it was ready"
        ready -= "ready" in line
    return process


def default_signals() -> None:
    """In the child, before its execve(2): no signal is ignored, however the tests were started."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
