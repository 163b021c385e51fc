"""A caller that runs one command for each point, and tells what came of it. It is killed itself, if it is the victim.

Arguments: the settings as JSON, the first point. One line of JSON for each point.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from crash_hook import (  # type: ignore[import-not-found]  # beside this file
    CALLER,
    EXECVE,
    GUARD,
    LAUNCHER,
    Board,
    lives,
    watch,
)

from ipython_pgtimeout import GuardDied, run
from ipython_pgtimeout.caller.connection import connection

LEAVES_SOMETHING = "(trap '' TERM; exec setsid sleep 60) & sleep 61 &\n"
"""A process in a session of its own that ignores SIGTERM, and a background job, which ignores SIGINT."""
NEWBORN = "pgtimeout ("
"""How `processes` describes a guard that has no name of its own yet."""
FIRST = "exit of the first command"
"""The helpers are started for it."""
ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    FIRST: ("exit", {"timeout": 20, "leftovers": "kill"}),
    "deadline": ("sleep 62", {"timeout": 0.1}),
    "interrupt": (f"kill -INT {os.getpid()}; sleep 62", {"timeout": 20}),
    "exit of a terminal's": ("exit", {"timeout": 20, "leftovers": "kill", "pty": True}),
    "death of the guard": ("kill -9 $PPID; sleep 62", {"timeout": 20}),
}
GRACE_S = 0.03


def left(board: Board) -> list[str]:
    """What there is in this namespace, without the driver, this process, and the helpers."""
    found: dict[int, str] = {}

    def is_sure() -> bool:
        """False while there is only what may be a guard that was forked a moment ago and has not entered itself yet."""
        nonlocal found
        found = _look(board)
        return not found or not all(name.startswith(NEWBORN) for name in found.values())

    wait_until(is_sure, 1.0)
    return [f"{pid} {name}" for pid, name in found.items()]


def _look(board: Board) -> dict[int, str]:
    found = list(processes())
    known = {1, os.getpid(), os.getppid()} | board.helpers()  # only now: a guard may have entered itself meanwhile
    # A child of this process is a launcher that has not entered itself yet.
    return {pid: name for pid, name, parent in found if pid not in known and parent != os.getpid()}


def processes() -> Iterator[tuple[int, str, int]]:
    """Pid, description and parent of each process of this namespace that has not ended."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
            name, fields = stat.read().partition("(")[2].rpartition(") ")[::2]
            state, parent = fields.split()[:2]
            if state not in "ZX":
                yield int(pid), f"{name} ({state}, child of {parent})", int(parent)


def wait_until(condition: Callable[[], object], deadline_s: float) -> bool:
    until = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def settle(board: Board) -> str:
    """Run a command, and another one if need be, until both helpers wait for the next. Returns what was wrong."""
    for _ in range(3):
        try:
            if (result := run("echo on", 20)).stdout != "on\n":
                return str(result)
        except GuardDied as error:
            return str(error)
        if wait_until(lambda: board.is_waiting(LAUNCHER) and board.is_waiting(GUARD), 1.0):
            return ""
    return "the helpers are not ready"


def _await_death(board: Board, victim: int) -> None:
    """Until then, the next command could still take a guard, or ask a launcher, that is dying."""
    if victim == GUARD and lives(board.pid(LAUNCHER)):
        wait_until(lambda: not os.path.exists(f"/proc/{board.killed}"), 1.0)  # the launcher has reaped it,
        wait_until(lambda: board.is_waiting(LAUNCHER), 1.0)  # and has done the rest
    else:
        wait_until(lambda: not lives(board.killed), 1.0)


def _hold_execve_up(board: Board, program: str) -> None:
    """Suspend the next process that executes ``program``, for as long as the victim takes to die, by a lease: fcntl(2),
    F_SETLEASE. A guard that started it by vfork(2) is suspended, too."""
    held = os.open(program, os.O_RDONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def let_go() -> None:
        signal.sigwait({signal.SIGIO})
        board.step(EXECVE)
        if board.killed:
            wait_until(lambda: not lives(board.killed), 2.0)
        os.close(held)

    threading.Thread(target=let_go, daemon=True).start()


def _run(script: str, options: dict[str, Any]) -> tuple[str, str, bool]:
    """The kind of the outcome, what was said, and whether that means that nothing is left."""
    try:
        result = run(script, kill_after=GRACE_S, **options)
    except KeyboardInterrupt as stop:
        result = stop.result  # type: ignore[attr-defined]
    except GuardDied as error:
        return "GuardDied", str(error), str(error).endswith("all are gone")
    return result.reason, result.summary(), not result.survivors


def meet(board: Board, settings: dict[str, Any], point: int) -> dict[str, Any]:
    """Run a command that is hit at that point."""
    script, options = ENDINGS[settings["ending"]]
    if settings["counted"] == EXECVE:
        options = {**options, "shell": settings["shell"]}
        _hold_execve_up(board, settings["shell"])
    if settings["ending"] == FIRST:
        connection.close()
        board.forget_helpers()
    board.arm(settings["counted"], point, settings["victim"])
    kind, said, says_all_are_gone = _run(LEAVES_SOMETHING + script, options)
    at_once = left(board)
    # A guard that has reported is still on its way to wait for the next command.
    wait_until(lambda: board.is_waiting(GUARD) or board.killed, 1.0)
    board.disarm()
    if board.killed:
        _await_death(board, settings["victim"])
    wait_until(lambda: not left(board), settings["patience_s"])
    return {
        "point": point,
        "count": board.count,
        "has_killed": bool(board.killed),
        "kind": kind,
        "said": said,
        "false": at_once if says_all_are_gone else [],
        "left": left(board),
    }


def main(settings: dict[str, Any], points: list[int]) -> None:
    exec(settings["tampering"])
    board = Board(settings["board"])
    board.disarm()
    watch(settings["board"], CALLER)
    settle(board)
    for point in points:
        outcome = meet(board, settings, point)
        for each in outcome["left"]:
            os.kill(int(each.split()[0]), signal.SIGKILL)
        outcome["next"] = settle(board)
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
