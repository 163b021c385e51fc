"""What a command is started with: the shell and its script, the environment, the directory. All checked first."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from io import FileIO

from ..shared.errors import describe_error
from ..values import InputError

_ARGUMENT_BYTES = 100_000
"""A longer script goes through a file: Linux takes 128 KiB in one argument, execve(2)."""


def environment(added: Mapping[bytes, bytes], pty: bool) -> dict[bytes, bytes]:
    """The caller's environment as it is now, and ``added``. A command with a terminal has TERM in any case."""
    # The dictionary inside os.environb: reading it by its methods would take a fifth of the whole preparation.
    variables: dict[bytes, bytes] = {**getattr(os.environb, "_data", os.environb), **added}
    if pty:
        variables.setdefault(b"TERM", b"xterm-256color")
    return variables


def arguments(script: str, shell: str, strict: bool, cleanup: contextlib.ExitStack) -> list[bytes]:
    """The shell with its script. The script is never on stdin, where a ``read`` in it would eat its next lines."""
    if not script.strip():
        raise InputError("there is nothing to run; write a command, for example: make test")
    if "\0" in script:
        line = script[: script.index("\0")].count("\n") + 1
        raise InputError(
            f"the script has a NUL byte in line {line}, which no shell can take; write it as $'\\0' or \\0"
        )
    try:
        text = os.fsencode(script)
    except UnicodeEncodeError as error:
        character = ascii(script[error.start])
        raise InputError(f"the script: {character} can't be encoded; write it as $'\\xff'") from None
    options = [b"-eu", b"-o", b"pipefail"] if strict else []
    if len(text) <= _ARGUMENT_BYTES:
        return [os.fsencode(shell), *options, b"-c", text]
    return [os.fsencode(shell), *options, os.fsencode(_file_holding(text, cleanup))]


def program(shell: str, environment: Mapping[bytes, bytes]) -> bytes:
    """The path of the shell; of sh where there is no bash."""
    path = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    found = _find(shell, path)
    if found is None or not os.access(found, os.X_OK):
        _find.cache_clear()
        found = _find(shell, path)
    if found is None:
        raise InputError(f": there is no program {shell!r}", "bash", "sh", "/bin/zsh", field="shell")
    return os.fsencode(os.path.abspath(found))


@functools.cache
def _find(shell: str, path: str) -> str | None:
    """The result is cached, as shells do it, because a search is a good part of a launch."""
    import shutil  # here and not above: it takes a tenth of importing this package

    found = shutil.which(os.path.expanduser(shell), path=path)
    return shutil.which("sh", path=path) if found is None and shell == "bash" else found


def _file_holding(script: bytes, cleanup: contextlib.ExitStack) -> str:
    """A path to read the script from, for as long as the command runs."""
    if hasattr(os, "memfd_create"):  # has no name that a killed kernel could leave behind
        memory = cleanup.enter_context(FileIO(os.memfd_create("script"), "w"))
        memory.write(script)
        return f"/proc/{os.getpid()}/fd/{memory.fileno()}"
    import tempfile  # only here: importing it takes longer than a command's launch

    file = cleanup.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115
    file.write(script)
    file.flush()
    return file.name


def directory(cwd: str | None, cleanup: contextlib.ExitStack) -> int:
    """The directory to run in, open: it stays the right one even if it is renamed or removed meanwhile."""
    flags = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    try:
        fd = os.open("." if cwd is None else os.path.expanduser(cwd), flags)
    except (OSError, ValueError) as error:
        raise InputError(f" {cwd!r}: {describe_error(error)}", "/tmp", field="cwd") from None
    cleanup.callback(os.close, fd)
    return fd
