"""`kill -9` to guard, launcher and caller at each step of a command's life: nothing is left, what is said is true, and
the next command runs.

The steps are the calls into C that the main thread of one process makes, counted by a hook in the processes themselves
(``programs/crash/crash_hook.py``), so no sleep guesses when it is time. CRASH_STRIDE=1 tries every step; by default one
of many. A table at the end of the session tells what came of them.
"""

from __future__ import annotations

import collections
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from .isolation import run_isolated
from .tallies import CRASHES, Crash
from .tampering import tampering_cell
from .watching import PROGRAMS

STRIDE = int(os.environ.get("CRASH_STRIDE", "87"))
PROGRAM = PROGRAMS / "crash"
STEPS = ["caller", "launcher", "guard", "child before execve", "execve"]
"""The numbers in ``crash_hook``."""
VICTIMS = STEPS[:3]
BATCH_S = 30 + 900 / STRIDE

FIRST, DEATH, TERMINAL = "exit of the first command", "death of the guard", "exit of a terminal's"
"""A command for which the helpers are started first; one that kills its guard; one with a terminal, for which Python
runs in the child of the guard."""
REASONS = {FIRST: "exited", TERMINAL: "exited", "deadline": "timeout", "interrupt": "interrupted"}

DRIVE = """
sys.path.append({program!r})
from crash_driver import drive
told(**drive({settings!r}, {stride}, {offset}))
"""
LAUNCHER = """
import sys
sys.path.append({program!r})
import crash_hook
import ipython_pgtimeout.helper.launcher
{tampering}
crash_hook.watch({board!r}, crash_hook.LAUNCHER)
"""


def kill_at_steps(
    steps: str, ending: str, victim: str, directory: Path, tampering: str = "", patience_s: float = 5.0
) -> tuple[int, list[dict[str, Any]]]:
    """How many steps there are, and the outcomes of those that were tried."""
    board, shell = directory / "board", directory / "shell"
    board.touch()
    shutil.copy(shutil.which("sh") or "", shell)
    program = os.fspath(PROGRAM)
    settings = {
        "counted": STEPS.index(steps),
        "victim": STEPS.index(victim),
        "ending": ending,
        "patience_s": 0.2 if _both_helpers_die(ending, victim) else patience_s,
        "most_s": 0.8 * BATCH_S,
        "board": os.fspath(board),
        "shell": os.fspath(shell),
        "tampering": tampering_cell(LAUNCHER.format(program=program, board=os.fspath(board), tampering=tampering)),
    }
    offset = STEPS.index(victim) * STRIDE // len(VICTIMS)
    told = run_isolated(DRIVE.format(program=program, settings=settings, stride=STRIDE, offset=offset), BATCH_S)
    assert told["undisturbed"]["next"] == "", told["undisturbed"]
    outcomes: list[dict[str, Any]] = told["outcomes"]
    return told["undisturbed"]["count"], outcomes


def _both_helpers_die(ending: str, victim: str) -> bool:
    """Then nobody is there who could end the command. The result says so."""
    return ending == DEATH and victim == "launcher"


def _expected(steps: str, ending: str, victim: str) -> set[str]:
    """What may come of it: a result with this reason, GuardDied, or the death of the caller itself."""
    if ending == DEATH:
        return {"GuardDied", "killed"}
    outcomes = {REASONS[ending]}
    if victim == "caller":
        outcomes.add("killed")
    if victim == "guard" or ending == FIRST:  # without a launcher there may be no guard yet
        outcomes.add("GuardDied")
    return outcomes


@pytest.mark.timeout(BATCH_S + 30)
@pytest.mark.parametrize(
    ("steps", "ending", "victim"),
    [
        *itertools.product(["guard", "caller"], [FIRST, "deadline", "interrupt"], VICTIMS),
        *itertools.product(["launcher"], [FIRST, DEATH], ["caller", "launcher"]),
        *itertools.product(["child before execve"], [TERMINAL], VICTIMS),
        *itertools.product(["execve"], ["deadline"], VICTIMS),
    ],
)
def test_kill_9_leaves_nothing(steps: str, ending: str, victim: str, tmp_path: Path) -> None:
    points, outcomes = kill_at_steps(steps, ending, victim, tmp_path)
    hit = [outcome for outcome in outcomes if outcome["has_killed"]]
    kinds = collections.Counter(outcome["kind"] for outcome in hit)
    CRASHES.append(
        Crash(
            steps,
            ending,
            victim,
            points,
            len(hit),
            sum(bool(outcome["left"]) for outcome in hit),
            sum(bool(outcome["false"]) for outcome in hit),
            ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()),
        )
    )
    assert hit, outcomes
    for outcome in outcomes:
        assert outcome["false"] == [], outcome
        assert outcome["next"] == "", outcome
        assert outcome["kind"] in _expected(steps, ending, victim), outcome
        if outcome["left"]:
            assert _both_helpers_die(ending, victim), outcome
            assert outcome["said"].endswith("may still run"), outcome


def test_without_subreapers_something_is_left_and_called_gone(tmp_path: Path) -> None:
    """The negative control: what a killed guard leaves does not fall to the launcher."""
    without = "import ipython_pgtimeout.helper.prctl as p; p.become_subreaper = lambda: True"
    _, outcomes = kill_at_steps("execve", "deadline", "guard", tmp_path, without, patience_s=0.2)
    (outcome,) = outcomes
    assert outcome["kind"] == "GuardDied", outcome
    assert outcome["left"], outcome
    assert outcome["false"], outcome
