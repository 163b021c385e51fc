"""The process-tree quiz: a seed makes a small shell script, and the script makes a tree of real processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from lesson import wait_until

from ipython_pgtimeout.pictures.tree import Tree

LINES = (
    "nap | nap &",
    "(nap & nap &)",
    "sh -c 'nap & nap & wait' &",
    "setsid nap &",
    "setsid sh -c 'nap & nap & wait' &",
    "setsid bash -c 'set -m; nap & nap & wait' &",
)

KEEPER = """
import ctypes, os, subprocess, sys  # the shell's parent: orphans become its children, and stay in the picture
assert ctypes.CDLL(None).prctl(36, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0  # PR_SET_CHILD_SUBREAPER
print(subprocess.Popen(["bash", "-c", sys.argv[1]], start_new_session=True, stdout=2).pid, flush=True)
while os.wait(): pass  # ends by ChildProcessError when all have ended
"""


class Truth(NamedTuple):
    """What the experiments have shown."""

    groups: int
    sessions: int
    ended_by_group: int
    ended_by_session: int


class Quiz:
    """A script of six lines. The same seed makes the same script."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        lines = chance.sample(["nap &", *chance.sample(LINES, 3)], 4)  # `wait` needs one like the first
        lines.insert(chance.randrange(len(lines)), "set -m")
        self.script = "\n".join([*lines, "wait"])

    def tree(self) -> Tree:
        """The shell and all processes that the script has made, as %pgtree draws them."""
        with self._grown() as (keeper, _):
            return _below(keeper)

    def truth(self) -> Truth:
        """Count the groups and sessions, then end the naps of two more trees in two ways. It takes about a second."""
        processes = self.tree().processes
        groups, sessions = {process.pgid for process in processes}, {process.sid for process in processes}
        return Truth(len(groups), len(sessions), self._ended(all_groups=False), self._ended(all_groups=True))

    def _ended(self, all_groups: bool) -> int:
        """How many naps are ended by SIGKILL to the shell's group, or to every group of the shell's session."""
        with self._grown() as (keeper, shell):
            session = {process.pgid for process in _below(keeper).processes if process.sid == shell}
            for pgid in session if all_groups else {shell}:
                with contextlib.suppress(ProcessLookupError):  # the group is gone
                    while True:
                        os.killpg(pgid, signal.SIGKILL)
                        time.sleep(0.01)
            return self.script.count("nap") - _naps(_below(keeper))

    @contextlib.contextmanager
    def _grown(self) -> Iterator[tuple[int, int]]:
        """The pids of the keeper and of the shell while the whole tree is there. It ends with the block."""
        naps, shells = self.script.count("nap"), self.script.count("wait")  # each shell that stays has a `wait`
        program = [sys.executable, "-c", KEEPER, self.script]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as keeper:
            try:
                shell = int(keeper.stdout.readline() if keeper.stdout else 0)
                wait_until(lambda: _naps(tree := _below(keeper.pid)) == naps == len(tree.processes) - shells)
                yield keeper.pid, shell
            finally:
                while keeper.poll() is None:
                    for process in _below(keeper.pid).processes:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process.pid, signal.SIGKILL)
                    time.sleep(0.01)


def _below(pid: int) -> Tree:
    """The living descendants."""
    return Tree([process for process in Tree.of(pid).processes if process.pid != pid and not process.has_ended])


def _naps(tree: Tree) -> int:
    return sum(process.command.startswith("sleep ") for process in tree.processes)
