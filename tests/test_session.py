"""What the session does around the tests: it sums up their tables, and finds processes that they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

COUNTS = """
from tests.tallies import SURVIVORS, Combination
def test_it():
    SURVIVORS.append(Combination({program!r}, "deadline", {started}, 0))
"""
LEAVES = """
import subprocess
import tests.conftest
tests.conftest.PATIENCE_S = 0.2
def test_it():
    subprocess.Popen(["sleep", "1009"], start_new_session=True)
"""


def _run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A session of its own for the files in ``directory``, with two plugins: our conftest.py, and pytest-xdist."""
    plugins = ["-p", "tests.conftest", "-p", "xdist"]
    command = [sys.executable, "-m", "pytest", *plugins, "--rootdir", str(directory), *options, str(directory)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the other plugins would take seconds to load
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "2", "--dist", "loadfile"]], ids=["in_one", "in_workers"])
def test_the_tables_of_all_tests_are_summed(tmp_path: Path, options: list[str]) -> None:
    for number, program in enumerate(("a", "b", "b")):
        (tmp_path / f"test_{number}.py").write_text(COUNTS.format(program=program, started=number + 1))
    done = _run_pytest(tmp_path, *options)
    assert "3 combinations of 2 programs and 1 endings: 6 processes seen, 0 survivors" in done.stdout, done
    assert "left behind" not in done.stdout
    assert done.returncode == 0


def test_a_process_left_behind_by_a_worker_fails_the_session(tmp_path: Path) -> None:
    (tmp_path / "test_leaves.py").write_text(LEAVES)
    done = _run_pytest(tmp_path, "-n", "1")
    assert "1 passed" in done.stdout, done
    assert "left behind by the tests" in done.stdout
    assert "sleep 1009" in done.stdout
    assert done.returncode == 1
