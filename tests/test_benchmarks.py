"""The benchmarks report what was measured, missed goals included. Their README shows the last run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.figures import OURS, Figure, Goal, number, percentile, table
from benchmarks.kernels import in_turn

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("more_is_better", "ours", "goal", "met"),
    [
        (False, [1.0, 2.0, 9.0], Goal(2), True),
        (False, [1.0, 2.1, 9.0], Goal(2), False),
        (False, [1.0, 2.0, 9.0], Goal(5, at="worst"), False),
        (False, [1.0, 2.0, 9.0], Goal(0.5, "peer"), True),
        (False, [1.0, 2.1, 9.0], Goal(0.5, "peer"), False),
        (True, [1.0, 2.0, 9.0], Goal(0.5, "peer"), True),
        (True, [1.0, 1.9, 9.0], Goal(0.5, "peer"), False),
    ],
)
def test_a_goal_is_reported_as_met_or_missed(more_is_better: bool, ours: list[float], goal: Goal, met: bool) -> None:
    figure = Figure("launch", "ms", {OURS: ours, "peer": [4.0, 4.0, 4.0]}, (goal,), more_is_better)
    assert figure.is_met(goal) == met
    assert ("**missed**" in table([figure])) != met
    assert figure.as_json()["goals"][0]["met"] == met


def test_percentiles_are_samples_and_numbers_are_rounded() -> None:
    samples = [float(n) for n in range(100)]
    assert [percentile(samples, percent) for percent in (0, 10, 50, 99, 100)] == [0.0, 9.0, 49.0, 98.0, 99.0]
    assert [number(value) for value in (0.0123, 1.234, 12.34, 1234.5)] == ["0.012", "1.23", "12.3", "1,234"]


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def take_sample(name: str) -> float:
        order.append(name)
        return len(order)

    samples = in_turn({"a": lambda: take_sample("a"), "b": lambda: take_sample("b")}, 10)
    rounds = ["".join(order[start : start + 2]) for start in range(2, 22, 2)]
    assert set(rounds) == {"ab", "ba"}, "each must run once per round, and not always in the same order"
    assert len(samples["a"]) == len(samples["b"]) == 10


def test_the_readme_of_the_benchmarks_shows_the_latest_run() -> None:
    latest = json.loads(report.LATEST.read_text())
    assert report.published() == report.as_markdown(latest)
    names = {figure["name"] for figure in latest["figures"]}
    assert all(name in report.published() for name in names)


@pytest.mark.timeout(150)
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    """Run one of its modules, with few rounds."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(tmp_path / "figures.json"), "jobs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=140)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["table"] in done.stdout
    starts = written["figures"][0]
    assert "until it returns" in starts["name"]
    assert all(summary["median"] > 0 for summary in starts["samples"].values())
