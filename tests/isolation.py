"""A PID namespace with a hard end, for what attacks: nothing in it can harm or outlive the rest of the machine."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .watching import PROGRAMS

_PRELUDE = """
import json, os, signal, sys, threading, time
from ipython_pgtimeout import run, GuardDied
ours = {os.getpid(), os.getppid(), 1}
def told(**values):
    print("told " + json.dumps(values), flush=True)
def left():
    "The processes of this namespace that are none of ours, and have not ended."
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                name, state = stat.read().partition("(")[2].rpartition(") ")[::2]
        except OSError:
            continue
        if int(pid) not in ours and not name.startswith("pgtimeout") and state[0] not in "ZX":
            found.append(f"{name} ({pid})")
    return found
"""


@functools.cache
def _unshare() -> list[str]:
    """The command that makes a namespace, as root or as an ordinary user; skips where neither may."""
    for options in (["-pf"], ["-Urpf"]):
        command = ["unshare", *options, "--mount-proc", "--kill-child"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("no PID namespace can be made here")


def run_isolated(code: str, timeout_s: float = 40.0) -> dict[str, Any]:
    """Run Python code there, with `run` imported, and return what it has ``told`` by keywords. Whatever is left is
    killed after ``timeout_s`` seconds."""
    command = [*_unshare(), "timeout", "-s", "KILL", str(timeout_s), sys.executable, "-c", _PRELUDE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 10)
    lines = [line.removeprefix("told ") for line in done.stdout.splitlines() if line.startswith("told ")]
    assert lines, f"nothing was told: {done}"
    values: dict[str, Any] = json.loads(lines[-1])
    return values


def fault_program(name: str, directory: Path) -> str:
    """The command line of a program in ``programs/faults``; a C program is compiled into ``directory``."""
    path = PROGRAMS / "faults" / name
    if path.suffix != ".c":
        return f"{f'{sys.executable} -S -E' if path.suffix == '.py' else 'bash'} {path}"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = directory / path.stem
    subprocess.run([compiler, "-O2", "-o", program, path], check=True)
    return os.fspath(program)
