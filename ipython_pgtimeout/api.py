"""The engine without IPython: `run`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from . import values
from .result import Result, interrupted
from .runner import Command, supervise
from .values import InputError


def run(
    command: str,
    timeout: float | str,
    *,
    signal: str | int = "TERM",
    kill_after: float | str = "2s",
    leftovers: str = "wait",
    shell: str = "bash",
    strict: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | str | None = None,
    pty: bool = False,
    idle: float | str = "inf",
    log: str | os.PathLike[str] | None = None,
    max_output: float | str = "1MB",
    check: bool = False,
) -> Result:
    """Run a shell script in its own session and return when nothing of it is left.

    ``timeout`` and ``kill_after`` are seconds or durations such as ``"2m"``. ``env`` is added to the
    environment. The output is captured, of each stream ``max_output`` bytes: ``"inf"`` for all. What the
    other options mean stands in ``%%timeout_shell?``.

    Raises InputError (a ValueError) for what can't be run, with nothing started; KeyboardInterrupt, with
    the result as ``.result``, when interrupted on the main thread; GuardDied if the supervising process
    was killed; with ``check``, CommandTimeout and CommandFailed.
    """
    if not isinstance(command, str):
        raise InputError(f"a command is a str, not {type(command).__name__}; write for example run('make test', 30)")
    job = Command(
        script=command,
        timeout_s=values.parse_timeout(timeout),
        signal=values.parse_signal(signal),
        grace_s=values.parse_grace(kill_after),
        leftovers=values.parse_leftovers(leftovers),
        shell=values.parse_shell(shell),
        strict=strict,
        cwd=None if cwd is None else os.fspath(cwd),
        environment=env or {},
        stdin=None if stdin is None else values.encode_stdin(stdin),
        pty=pty,
        idle_s=values.parse_idle(idle),
        log=None if log is None else os.fspath(log),
        max_output_bytes=values.parse_size(max_output),
    )
    result = supervise(job, lambda _stream, _text: None)
    if result.interrupted:
        raise interrupted(result)
    if check:
        result.check_returncode()
    return result
