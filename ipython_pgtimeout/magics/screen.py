"""Where a command's output and its status go: a notebook's page, a terminal, or only text.

On a page the status stands above the output, from about a second after the start. By then output may have been shown,
and a display stays where it was first shown. So the cell's output is cleared and shown again below the status, in one
piece: a ``\\r`` can't reach back over a display. This is done only if the cell is the command and nothing else.
"""

from __future__ import annotations

import collections
import itertools
import json
import shutil
import sys
from typing import Any, ClassVar

from ..caller.output import Pace, Stream
from ..wording import format_notice
from .erasing import Eraser

_MOST_SHOWN_AGAIN = 100_000
"""In characters. More than that stays where it is, above the status: to show it again would hold the output up."""
_ERASE_LINE = "\r\x1b[K"
_ASCII = str.maketrans({"·": "-", "…": "..."})


class Screen:
    """Text alone, for a front end that can't replace what it has shown: there is no status."""

    has_status = False
    keeps_status = False
    """Whether a status may be left behind, when the kernel is restarted or the page is closed."""
    _beside_notices: ClassVar[tuple[Stream, ...]] = ("stdout", "stderr")
    """The streams that share their last line with a notice, unless it begins a new one."""
    _unfinished: Stream | None = None
    """The stream that has written last, if not to the end of a line."""

    def __init__(self, hidden: set[Stream]) -> None:
        """The output of the ``hidden`` streams is not shown."""
        self._hidden = hidden

    def show(self, stream: Stream, text: str) -> None:
        """Show output, or a notice about the command."""
        if stream == "notice":
            start = "\n" if self._unfinished in self._beside_notices else ""
            self._print("stderr", start + format_notice(text))
        elif stream not in self._hidden:
            self._print(stream, text)

    def _print(self, stream: Stream, text: str) -> None:
        print(text, end="", file=getattr(sys, stream), flush=True)
        self._unfinished = None if text.endswith("\n") else stream

    def put_status(self, text: str, html: str) -> None:
        """Show the status, or replace it."""
        raise NotImplementedError

    def end_status(self, text: str, html: str) -> bool:
        """The command is over: replace the status, if there is one, by this. Returns whether this is now shown."""
        return False


class Page(Screen):
    """A notebook's output area. A command that is over before the first status leaves nothing but its output."""

    has_status = keeps_status = True
    _beside_notices = ("stderr",)

    def __init__(self, hidden: set[Stream], pace: Pace | None, is_whole_cell: bool) -> None:
        super().__init__(hidden)
        self._pace = pace
        self._handle: Any = None
        self._head: list[tuple[Stream, str]] | None = [] if is_whole_cell else None
        """What has been shown before the status; None if it must stay where it is."""
        self._head_size = 0
        self._erasers = collections.defaultdict[Stream, Eraser](Eraser)

    def _print(self, stream: Stream, text: str) -> None:
        text = self._erasers[stream].feed(text)
        if not text:
            return
        super()._print(stream, text)
        if self._head is not None:
            self._head.append((stream, text))
            self._head_size += len(text)
            if self._head_size > _MOST_SHOWN_AGAIN:
                self._head = None

    def put_status(self, text: str, html: str) -> None:
        bundle = {"text/plain": text, "text/html": html}
        if self._handle is not None:
            self._handle.update(bundle, raw=True)
            return
        from IPython.display import clear_output, display

        again = self._take_head()
        if again:
            clear_output(wait=True)  # type: ignore[no-untyped-call]
        self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        for stream, texts in itertools.groupby(again, key=lambda shown: shown[0]):
            super()._print(stream, "".join(text for _, text in texts))

    def _take_head(self) -> list[tuple[Stream, str]]:
        """What is to be shown again; nothing if there is no room for it on the way to the browser."""
        head, self._head = self._head, None
        if head and self._pace is not None:
            size = len(json.dumps(head))
            if self._pace.wait_s(size):
                return []
            self._pace.note(size)
        return head or []

    def end_status(self, text: str, html: str) -> bool:
        if self._handle is not None:
            self.put_status(text, html)
        return self._handle is not None


class Terminal(Screen):
    """The status is the last line of the terminal: erased before output is written, and gone at the end. It is never
    drawn behind an unfinished line. Its characters are ASCII, so that each takes one column."""

    has_status = True

    def __init__(self, hidden: set[Stream], is_whole_cell: bool) -> None:
        super().__init__(hidden)
        self._knows_line = is_whole_cell  # otherwise the code before the command may have written half a line
        self._status = ""
        self._is_drawn = False

    def _print(self, stream: Stream, text: str) -> None:
        self._erase()
        super()._print(stream, text)
        self._knows_line = True
        self._draw()

    def put_status(self, text: str, html: str) -> None:
        self._status = text.translate(_ASCII).encode("ascii", "replace").decode()
        self._erase()
        self._draw()

    def end_status(self, text: str, html: str) -> bool:
        self._status = ""
        self._erase()
        return False

    def _draw(self) -> None:
        if self._status and self._knows_line and self._unfinished is None:
            line = self._status[: shutil.get_terminal_size().columns - 1]
            print(line, end="", file=sys.stdout, flush=True)
            self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            print(_ERASE_LINE, end="", file=sys.stdout, flush=True)
            self._is_drawn = False
