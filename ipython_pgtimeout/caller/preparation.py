"""What a command is started with: program and arguments, the environment, the directory. All checked first."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from io import FileIO

from ..shared.errors import describe_error
from ..spec import Spec
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


def program_and_arguments(
    spec: Spec, environment: Mapping[bytes, bytes], cleanup: contextlib.ExitStack
) -> tuple[bytes, list[bytes]]:
    """The path of what is executed, and its arguments, of which the first is its name."""
    if isinstance(spec.command, str):
        path = _path_of_shell(spec.shell, environment)
        return path, _shell_with(spec.command, spec.shell, spec.strict, cleanup)
    if spec.strict:
        raise InputError(" needs a shell; write the command as a str, for example 'make test'", field="strict")
    if not spec.command:
        raise InputError(" is empty; write a program and its arguments, for example ['ls', '-l']", field="command")
    if any("\0" in argument for argument in spec.command):
        raise InputError(": an argument can't hold a NUL byte; take it out", field="command")
    try:
        argv = [os.fsencode(argument) for argument in spec.command]
    except UnicodeEncodeError as error:
        character = ascii(error.object[error.start])
        raise InputError(f": {character} can't be encoded; write the argument as bytes", field="command") from None
    return _path_of_program(spec.command[0], spec.cwd, environment), argv


def _shell_with(script: str, shell: str, strict: bool, cleanup: contextlib.ExitStack) -> list[bytes]:
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


def _path_of_shell(shell: str, environment: Mapping[bytes, bytes]) -> bytes:
    """The path of the shell; of sh where there is no bash."""
    found = _search(os.path.expanduser(shell), environment)
    if found is None and shell == "bash":
        found = _search("sh", environment)
    if found is None:
        raise InputError(f": there is no program {shell!r}", "bash", "sh", "/bin/zsh", field="shell")
    return os.fsencode(os.path.abspath(found))


def _path_of_program(name: str, cwd: str | None, environment: Mapping[bytes, bytes]) -> bytes:
    """As execvp(3) finds it: a name with a slash is a path, and relative to ``cwd``."""
    if "/" in name:
        found = name if os.path.exists(os.path.join(os.path.expanduser(cwd or ""), name)) else None
    else:
        found = _search(name, environment)
    if found is None:
        raise InputError(f": there is no program {name!r}; write for example ['ls', '-l']", field="command")
    return os.fsencode(found)


def _search(name: str, environment: Mapping[bytes, bytes]) -> str | None:
    path = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    found = _find(name, path)
    if found is None or not os.access(found, os.X_OK):
        _find.cache_clear()
        found = _find(name, path)
    return found


@functools.cache
def _find(name: str, path: str) -> str | None:
    """The result is cached, as shells do it, because a search is a good part of a launch."""
    import shutil  # here and not above: it takes a tenth of importing this package

    return shutil.which(name, path=path)


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
