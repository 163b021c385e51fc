r"""Progress bars that erase their line: what a page shows of them, which knows ``\r`` and does not erase."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipython_pgtimeout.magics.erasing import Eraser

from .kernels import Kernel

SEQUENCE = re.compile(r"\x1b\[[\d;?]*[@-~]")


def on_a_page(text: str) -> str:
    r"""As JupyterLab 4 keeps a stream: every character overwrites one, those of colours too; ``\n`` goes to the end."""
    kept, at = "", 0
    for character in text:
        if character == "\r":
            at = kept.rfind("\n") + 1
        elif character == "\n":
            kept += "\n"
            at = len(kept)
        else:
            kept = kept[:at] + character + kept[at + 1 :]
            at += 1
    return without_trailing_spaces(SEQUENCE.sub("", kept))


def on_a_terminal(text: str) -> str:
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[[\d;?]*[@-~]|.", text, re.DOTALL):
        line = lines[-1]
        if part == "\r":
            at = 0
        elif part == "\n":
            lines.append("")
            at = 0
        elif part == "\x1b[2K":
            lines[-1] = " " * len(line)
        elif part in ("\x1b[K", "\x1b[0K"):
            lines[-1] = line[:at]
        elif not part.startswith("\x1b"):
            lines[-1] = line[:at].ljust(at) + part + line[at + 1 :]
            at += 1
    return without_trailing_spaces("\n".join(lines))


def without_trailing_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n"))


def fed(text: str, *cuts: int) -> str:
    eraser = Eraser()
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return "".join(eraser.feed(text[start:end]) for start, end in itertools.pairwise(places))


WORDS = st.text(alphabet="abc", max_size=6)
PARTS = st.one_of(WORDS, st.sampled_from(["\r", "\n", "\r\n", "\x1b[K", "\x1b[0K", "\r\x1b[2K", "\x1b[2K\r"]))
COLOURED = st.tuples(st.sampled_from(["", "\x1b[31m", "\x1b[38;5;237m"]), WORDS).map(lambda c: f"{c[0]}{c[1]}\x1b[0m")
FRAMES = st.one_of(COLOURED.map(lambda frame: f"\r\x1b[2K{frame}"), COLOURED.map(lambda frame: f"{frame}\x1b[K\r\n"))
CUTS = st.lists(st.integers(0, 200), max_size=5)


@given(parts=st.lists(PARTS, max_size=12), cuts=CUTS)
def test_a_page_shows_what_a_terminal_shows(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    assert on_a_page(fed(text, *cuts)) == on_a_terminal(text)


@given(frames=st.lists(FRAMES, max_size=8), cuts=CUTS)
def test_a_page_and_a_terminal_show_coloured_frames_alike(frames: list[str], cuts: list[int]) -> None:
    """A terminal gets the same text in `jupyter console`."""
    text = "".join(frames)
    assert on_a_page(fed(text, *cuts)) == on_a_terminal(text)
    assert on_a_terminal(fed(text, *cuts)) == on_a_terminal(text)


def test_without_an_eraser_the_rest_of_a_longer_line_sticks_out() -> None:
    text = "eta 0:00:10, 15 MB\r\x1b[2Keta 0:09"
    assert on_a_page(text) == "eta 0:09 15 MB"
    assert on_a_page(fed(text)) == on_a_terminal(text) == "eta 0:09"


@given(text=st.text(), cuts=CUTS)
def test_text_that_erases_nothing_is_unchanged(text: str, cuts: list[int]) -> None:
    text = text.replace("\x1b", "")
    assert fed(text, *cuts) == text


RICH = r"printf '\r\033[2Kw \033[90m━━━━\033[0m \033[36m0:00:10\033[0m'; sleep 0.2; printf '\r\033[2Kw ━━━━ 0:09'; "


@pytest.mark.parametrize("end", ["printf '\\r\\n'", ":"])
def test_a_bar_in_a_kernel_is_right_and_its_result_has_every_byte(kernel: Kernel, end: str) -> None:
    reply = kernel.run(f"%%timeout_shell --pty --result r 20\n{RICH}{end}")
    assert on_a_page(reply.stdout).strip() == "w ━━━━ 0:09"
    assert "2K" not in reply.stdout
    assert kernel.value(r"r.stdout.count('\x1b[2K')") == "2"
