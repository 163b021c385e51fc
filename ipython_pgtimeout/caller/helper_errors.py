"""What launcher and guards have written on stderr: the traceback of a Python error that ended one of them.

They write to a file without a name, which they inherit. It is read only when one of them has died.
"""

from __future__ import annotations

import contextlib
import os


class HelperErrors:
    """Their common stderr."""

    def __init__(self) -> None:
        self._fd = -1
        self._read_bytes = 0

    def open(self) -> int:
        """The descriptor for a new launcher to write to. It stays this object's own."""
        if self._fd < 0:
            self._fd = _anonymous_file()
            self._read_bytes = 0
        return self._fd

    def take(self) -> str:
        """What was written since the last call; "" if nothing was."""
        if self._fd < 0:
            return ""
        written = os.pread(self._fd, 1 << 20, self._read_bytes)
        self._read_bytes += len(written)
        return written.decode("utf-8", "replace").strip()

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pgtimeout-errors")
    import tempfile  # only here: importing it takes longer than a command's launch

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
