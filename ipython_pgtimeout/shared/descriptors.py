"""Whether a number still is the descriptor that it was.

Descriptors that are kept from one command to the next can be closed by other code of the caller, by mistake or with
os.closerange(3, 1000), and their numbers then belong to files of that code. These must not be closed, nor written to.
"""

from __future__ import annotations

import os


def identity(fd: int) -> tuple[int, int] | None:
    """Of the file, pipe or socket behind ``fd``; None if ``fd`` is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Kept:
    """A descriptor that is kept, -1 for none."""

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self._identity = identity(fd)

    def is_ours(self) -> bool:
        return self._identity is not None and identity(self.fd) == self._identity

    def close(self) -> None:
        if self.is_ours():
            os.close(self.fd)
        self.fd, self._identity = -1, None
