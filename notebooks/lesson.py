"""What the notebooks of the course share: sleepers to experiment with, waiting, and the checks of the exercises."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_PREFIX = "pgtimeout-lesson-"
_NAP = f"{random.randint(300, 599)}.{random.randrange(10**6):06d}"


def _lock(directory: Path) -> int | None:
    """Lock it as long as the descriptor that is returned is open. None if another process has locked or removed it."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if directory.exists():
                return fd
        os.close(fd)
    return None


def _make_directory() -> Path:
    """A new directory. Each notebook locks its own and removes those without a lock: a Jupyter kernel that is killed
    can't remove its own."""
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if _lock(made) is None:  # another notebook has looked in the moment before it was locked
        return _make_directory()
    for directory in made.parent.glob(f"{_PREFIX}*"):
        if directory != made and (fd := _lock(directory)) is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(fd)
    return made


_directory = _make_directory()
_registered = _directory / "naps"
_registered.mkdir()
_program = _directory / "nap"
# A nap registers its pid and then becomes a sleep: so it is found wherever it goes, without a look at other processes.
_program.write_text(f"#!/bin/sh\n: > '{_registered}'/$$\nexec sleep {_NAP}\n")
_program.chmod(0o755)
os.environ["PATH"] = f"{_directory}:{os.environ['PATH']}"


def naps() -> list[psutil.Process]:
    """The processes that run the command ``nap``, wherever they are. It sleeps for some minutes. Zombies are left out:
    they have no arguments any more."""
    return [process for process, arguments in _found() if arguments == ["sleep", _NAP]]


def _found() -> list[tuple[psutil.Process, list[str]]]:
    """Naps with their arguments, those too that have not become a sleep yet."""
    found = []
    for file in _registered.iterdir():
        try:
            process = psutil.Process(int(file.name))
            arguments = process.cmdline()
        except psutil.Error:
            file.unlink(missing_ok=True)  # it has ended
        else:
            if _NAP in arguments or os.fspath(_program) in arguments:  # else the number is another process's now
                found.append((process, arguments))
    return sorted(found, key=lambda nap: nap[0].pid)


def wait_until(condition: Callable[[], object], deadline_s: float = 20) -> None:
    """Look again and again until the condition holds. AssertionError if it does not in time."""
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "it has not come true in time"
        time.sleep(0.02)


def clean_up() -> None:
    """End every nap."""

    def nothing_is_left() -> bool:
        left = _found()
        for process, _ in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return not left

    wait_until(nothing_is_left)  # kill in each look: a nap may start after the first one


class NotYet(AssertionError):
    """An exercise is not solved yet. The notebook shows the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def expect(condition: object, message: str) -> None:
    """A step of a check. Raises NotYet with the message, which says what is wrong, if the condition does not hold."""
    if not condition:
        raise NotYet(message)


def predict(answer: object, truth: object, hint: str) -> None:
    """Compare a prediction with what an experiment has shown. Raises NotYet with the hint if it was another."""
    expect(answer is not ..., "put your prediction in the place of the three dots, then run both cells again")
    expect(answer == truth, f"the experiment does not show {answer!r}; {hint}")
    print("right:", truth)


@atexit.register  # also when a cell has failed and the notebook ends early
def _leave_nothing() -> None:
    clean_up()
    shutil.rmtree(_directory, ignore_errors=True)
