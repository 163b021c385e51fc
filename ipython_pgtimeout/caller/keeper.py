"""One stream of a command, kept within a bound and decoded as it comes.

No descriptors in here: `streams` reads into the buffer that a `Keeper` offers and says how much has come.
"""

from __future__ import annotations

import codecs
import contextlib
import math

_BUFFER_BYTES = 1 << 18
_LINE_SEARCH_BYTES = 4096
_MAX_SPARE_BUFFERS = 8
_spare_buffers: list[bytearray] = []
"""Making a buffer costs more than starting a quick command: a few are used again. More than one, because other threads
read at the same time, and a signal handler can run a command in the middle of a read."""


class Keeper:
    """One stream's bytes: the first half of ``limit_bytes`` as text as it comes, then only the last half.

    Beyond the head nothing is decoded or copied: the bytes are read straight into a ring, where later
    ones overwrite earlier ones, so memory and work are bounded however much is written.
    """

    def __init__(self, limit_bytes: float, is_live: bool = False) -> None:
        """``is_live`` is whether what comes beyond the head is shown as it comes, too."""
        self.total = 0
        self.left_out = 0
        self._tail_bytes = 0 if math.isinf(limit_bytes) else int(limit_bytes) // 2
        self._head_left = limit_bytes - self._tail_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._live_decoder = codecs.getincrementaldecoder("utf-8")("replace") if is_live else None
        self._texts: list[str] = []
        self._scratch = bytearray()
        """Only from `buffer` to `keep`, so that a thousand commands that write nothing take no memory for it."""
        self._ring = bytearray()
        self._in_ring = 0

    @property
    def in_tail(self) -> bool:
        """Whether the head is full. What comes now is shown when the stream has ended, as far as it is kept."""
        return self._head_left <= 0

    def buffer(self) -> memoryview:
        """Where the next bytes are to be read into. Then `keep` them, be it none."""
        if not self.in_tail:
            self._scratch = self._scratch or _take_buffer()
            return memoryview(self._scratch)
        if not self._ring:
            self._ring = bytearray(max(self._tail_bytes + 1, _BUFFER_BYTES))
        return memoryview(self._ring)[self._in_ring % len(self._ring) :]

    def keep(self, size: int) -> str:
        """Keep ``size`` bytes that have come into the buffer. Returns the text to be shown: what they complete, if it
        is in the head.

        A character split between two reads comes with its last byte, so the text can be empty while the stream goes on.
        """
        if self._live_decoder is None:
            return self._keep(size)
        live = self._live_decoder.decode(self.buffer()[:size])
        self._keep(size)
        return live

    def _keep(self, size: int) -> str:
        self.total += size
        if self.in_tail:
            self._in_ring += size
            return ""
        scratch, self._scratch = self._scratch, bytearray()
        head = int(min(size, self._head_left))
        self._head_left -= head
        text = self._decode(memoryview(scratch)[:head]) if size else ""
        if head < size:
            rest = size - head
            self.buffer()[:rest] = memoryview(scratch)[head:size]
            self._in_ring = rest
        if len(_spare_buffers) < _MAX_SPARE_BUFFERS:
            _spare_buffers.append(scratch)
        return text

    def finish(self) -> str:
        """End the stream. Returns the text still to be shown, after a line that counts what was `left_out`."""
        last = self._finish()
        return last if self._live_decoder is None else self._live_decoder.decode(b"", final=True)

    def _finish(self) -> str:
        tail = self._tail()
        self.left_out = self._in_ring - len(tail)
        self._in_ring, self._ring = 0, bytearray()
        if not self.left_out:
            return self._decode(tail, final=True)
        rest = self._decode(b"", final=True)
        gap = self._gap(self.left_out)
        self._texts.append(gap)
        return rest + gap + self._decode(tail, final=True)

    @property
    def text(self) -> str:
        """Head and tail, with a line between them that counts what was left out. Before the end, only the head."""
        return "".join(self._texts)

    @property
    def text_so_far(self) -> str:
        """The same at any time, with the tail as it is now."""
        tail = self._tail()
        left_out = self._in_ring - len(tail)
        return self.text + (self._gap(left_out) if left_out else "") + tail.decode("utf-8", "replace")

    def _tail(self) -> bytes:
        kept = min(self._in_ring, self._tail_bytes)
        if self._in_ring == kept:
            return self._last(kept)
        # Begin with a whole line, or at least with a whole character. The byte before the tail is looked at as well: if
        # it is a newline, the tail begins with a whole line already.
        tail = self._last(kept + 1)
        newline = tail.find(b"\n", 0, _LINE_SEARCH_BYTES)
        return tail[newline + 1 :] if newline >= 0 else tail[1 + _first_character(tail[1:]) :]

    def _gap(self, left_out: int) -> str:
        gap = f"[… {left_out:,} bytes left out …]\n"
        return gap if "".join(self._texts[-2:]).endswith("\n") else "\n" + gap

    def _decode(self, data: bytes | memoryview, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        self._texts.append(text)
        return text

    def _last(self, size: int) -> bytes:
        if not size:
            return b""
        end = self._in_ring % len(self._ring)
        if end >= size:
            return bytes(self._ring[end - size : end])
        return bytes(self._ring[end - size :] + self._ring[:end])


def _take_buffer() -> bytearray:
    with contextlib.suppress(IndexError):  # another thread may take the last one
        return _spare_buffers.pop()
    return bytearray(_BUFFER_BYTES)


def _first_character(data: bytes) -> int:
    """How many UTF-8 continuation bytes ``data`` begins with: the rest of a character that was cut."""
    return next((index for index, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
