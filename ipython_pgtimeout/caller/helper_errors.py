"""What launcher and guards have written on stderr: the traceback of a Python error that ended one of them.

They write to a file without a name, which they inherit. It is read only when one of them has died.
"""

from __future__ import annotations

import os

from ..shared.descriptors import Kept


class HelperErrors:
    """Their common stderr."""

    def __init__(self) -> None:
        self._file = Kept()
        self._read_bytes = 0

    def open(self) -> int:
        """The descriptor for a new launcher to write to. It stays this object's own."""
        if not self._file.is_ours():
            self._file = Kept(_anonymous_file())
            self._read_bytes = 0
        return self._file.fd

    def take(self) -> str:
        """What was written since the last call; "" if nothing was."""
        if not self._file.is_ours():
            return ""
        written = os.pread(self._file.fd, 1 << 20, self._read_bytes)
        self._read_bytes += len(written)
        return written.decode("utf-8", "replace").strip()

    def close(self) -> None:
        self._file.close()


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pgtimeout-errors")
    import tempfile  # only here: importing it takes longer than a command's launch

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
