"""A command's output streams on this side: read as they come, kept within their bounds, logged, and shown."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from io import FileIO
from typing import Any

from .keeper import Keeper
from .output import Batcher, Stream
from .plumbing import NARROW_PIPE_BYTES, PIPE_BYTES, Log, widen


class Streams:
    """The near ends of stdout and stderr. ``heard_at`` is when something was written last (CLOCK_MONOTONIC)."""

    def __init__(
        self,
        files: list[tuple[FileIO, Stream]],
        limits_bytes: Mapping[Stream, float],
        log: Log | None,
        batcher: Batcher,
        shows_all: bool,
    ) -> None:
        """``shows_all`` is whether what comes beyond the limits is shown, too."""
        self.heard_at = time.monotonic()
        self._files = {file.fileno(): (file, stream) for file, stream in files}
        self._keepers = {stream: Keeper(limit_bytes, shows_all) for stream, limit_bytes in limits_bytes.items()}
        self._log = log
        self._shows_all = shows_all
        self._batcher = batcher

    @property
    def fds(self) -> list[int]:
        """The descriptors that have not reached end of file."""
        return list(self._files)

    def read(self, fd: int) -> int:
        """Read once. Returns how many bytes came: 0 at the end of the stream, or if there are none just now."""
        file, stream = self._files[fd]
        keeper = self._keepers[stream]
        buffer = keeper.buffer()
        size = _read_into(file, buffer)
        if size:
            if size == NARROW_PIPE_BYTES:
                widen(file)
            self.heard_at = time.monotonic()
            if self._log is not None and not self._log.write(buffer[:size]):
                self.notify(f"--log {self._log.path} is incomplete from here on: {self._log.error}")
            was_in_tail = keeper.in_tail
            self._batcher.add(stream, keeper.keep(size))
            if keeper.in_tail and not was_in_tail and not self._shows_all:
                self.notify(f"{stream} goes on; its end is shown when the command has ended (--max-output)")
        else:
            keeper.keep(0)
            if size is not None:
                del self._files[fd]
        return size or 0

    def drain(self) -> None:
        """Read what is in the pipes now, and then no more. Processes that were left running may keep the pipes open and
        go on writing, so don't read to end of file, and no more than a pipe can hold."""
        for fd in self.fds:
            os.set_blocking(fd, False)
            left = PIPE_BYTES
            while left > 0 and (size := self.read(fd)):
                left -= size
                self._batcher.show_if_due()
        self._files.clear()
        for stream, keeper in self._keepers.items():
            self._batcher.add(stream, keeper.finish())
        self._batcher.add_no_more()

    def notify(self, notice: str) -> None:
        """Add a notice about the command at its place in the output."""
        self._batcher.add("notice", notice + "\n")

    def text_so_far(self, stream: Stream) -> str:
        """What is kept of the stream."""
        return self._keepers[stream].text_so_far

    @property
    def total_bytes(self) -> int:
        return sum(keeper.total for keeper in self._keepers.values())

    @property
    def is_within_a_line(self) -> bool:
        """Whether the last text of stdout is a line without its end, as a prompt is."""
        return not self._keepers["stdout"].text.endswith(("\n", "\r")) and self._keepers["stdout"].total > 0

    def outcome(self) -> dict[str, Any]:
        """The fields of a `Result` about the output."""
        stdout, stderr = self._keepers["stdout"], self._keepers["stderr"]
        return {
            "stdout": stdout.text,
            "stderr": stderr.text,
            "stdout_bytes": stdout.total,
            "stderr_bytes": stderr.total,
            "truncated": bool(stdout.left_out or stderr.left_out),
            "log_error": "" if self._log is None else self._log.error,
        }


def _read_into(file: FileIO, buffer: memoryview) -> int | None:
    """How many bytes came: 0 at the end of file, None if there are none just now."""
    try:
        return file.readinto(buffer)
    except OSError as error:
        if error.errno == errno.EIO:  # the end of file of a terminal: no process has it open any more
            return 0
        raise
