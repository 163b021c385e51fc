"""The engine without IPython: `run`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .caller.blocking import run_to_end
from .result import Result, make_interrupt
from .spec import make_spec

_PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def run(
    command: str,
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: _PathLike = "bash",
    strict: bool = False,
    cwd: _PathLike | None = None,
    env: Mapping[str, _PathLike] | Mapping[bytes, _PathLike] | None = None,
    stdin: str | bytes | bytearray | memoryview | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    max_output: float | str = "1MB",
    log: _PathLike | None = None,
    check: bool = False,
) -> Result:
    """Run a shell script in its own session and return when nothing of it is left.

    ``timeout`` and ``kill_after`` are seconds or durations such as ``"2m"``. ``env`` is added to the
    environment. The output is captured, of each stream ``max_output`` bytes: ``"inf"`` for all.
    Processes that outlive the shell are waited for until the deadline; ``leftovers="leave"`` or ``"kill"`` does
    not wait. ``%%timeout_shell?`` explains the other options.

    Raises InputError (a ValueError) for what can't be run, with nothing started; KeyboardInterrupt, with
    the result as ``.result``, when interrupted on the main thread; GuardDied if the supervising process
    was killed; with ``check``, CommandTimeout and CommandFailed.
    """
    given = locals()
    raises = given.pop("check")
    result = run_to_end(make_spec(given), lambda _stream, _text: None)
    if result.interrupted:
        raise make_interrupt(result)
    if raises:
        result.check_returncode()
    return result
