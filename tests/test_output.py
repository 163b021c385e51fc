"""Properties of the buffers between pipe and cell. For any bytes in any chunks, the text shown is the text written,
every loss is reported, and the counts add up."""

from __future__ import annotations

import itertools
import math
import re
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jupyter_client.session import json_packer

from ipython_pgtimeout.caller import output
from ipython_pgtimeout.caller.keeper import Keeper
from ipython_pgtimeout.caller.output import BATCH_INTERVAL_S, Batcher, Pace, Stream

from .watching import wait_until

GAP = re.compile(r"\[… ([\d,]+) bytes left out …\]\n")

# Whole characters, parts of characters, and invalid bytes, in any mixture.
PIECES = st.sampled_from([b"a", b"\n", b"\r", b"\0", "é".encode(), "€".encode(), "😀".encode(), b"\xff", b"\xe2\x82"])
BYTES = st.one_of(st.lists(PIECES, max_size=60).map(b"".join), st.binary(max_size=200))
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=20)


def feed(keeper: Keeper, data: bytes, sizes: list[int]) -> str:
    """The text shown of ``data`` when it comes in chunks of ``sizes``, which are used again and again."""
    shown = []
    position = turn = 0
    while position < len(data):
        chunk = data[position : position + sizes[turn % len(sizes)]]
        buffer = keeper.buffer()
        chunk = chunk[: len(buffer)]
        buffer[: len(chunk)] = chunk
        shown.append(keeper.keep(len(chunk)))
        position += len(chunk)
        turn += 1
    shown.append(keeper.finish())
    return "".join(shown)


@given(data=BYTES, sizes=SIZES)
@example(data="€".encode(), sizes=[1])
@example(data=b"\xe2\x82", sizes=[1])
def test_any_chunking_gives_the_same_text(data: bytes, sizes: list[int]) -> None:
    keeper = Keeper(math.inf)
    shown = feed(keeper, data, sizes)
    assert shown == keeper.text == data.decode("utf-8", "replace")
    assert (keeper.total, keeper.left_out) == (len(data), 0)


@given(data=BYTES, sizes=SIZES, limit=st.integers(0, 250))
@example(data=b"abcdefg", sizes=[1], limit=5)
@example(data=b"x" * 100, sizes=[100], limit=0)
def test_head_and_tail_are_the_ends_and_the_count_is_exact(data: bytes, sizes: list[int], limit: int) -> None:
    keeper = Keeper(limit)
    shown = feed(keeper, data, sizes)
    assert shown == keeper.text
    assert keeper.total == len(data)
    assert keeper.text == _text_in_one_chunk(data, limit)
    if len(data) <= limit:
        assert keeper.left_out == 0
        assert keeper.text == data.decode("utf-8", "replace")
        return
    head_bytes = limit - limit // 2
    tail = data[head_bytes + keeper.left_out :]
    assert len(tail) <= limit // 2
    gap = f"[… {keeper.left_out:,} bytes left out …]\n"
    head_text = data[:head_bytes].decode("utf-8", "replace")
    separator = "" if head_text.endswith("\n") else "\n"
    assert keeper.text == head_text + separator + gap + tail.decode("utf-8", "replace")


def _text_in_one_chunk(data: bytes, limit: int) -> str:
    keeper = Keeper(limit)
    feed(keeper, data, [max(1, len(data))])
    return keeper.text


@given(lines=st.integers(2000, 4000), limit=st.integers(1000, 9000), sizes=st.lists(st.integers(100, 5000), min_size=1))
def test_the_tail_begins_with_a_whole_line(lines: int, limit: int, sizes: list[int]) -> None:
    data = b"".join(b"%06d\n" % number for number in range(lines))
    keeper = Keeper(limit)
    feed(keeper, data, sizes)
    match = GAP.search(keeper.text)
    assert match is not None
    assert int(match[1].replace(",", "")) == keeper.left_out
    tail = keeper.text[match.end() :].splitlines()
    assert [int(line) for line in tail] == list(range(lines))[-len(tail) :]
    assert len(tail) == limit // 2 // 7


@given(data=st.text(alphabet="é€😀", min_size=50, max_size=200), limit=st.integers(10, 60))
def test_the_tail_begins_with_a_whole_character(data: str, limit: int) -> None:
    keeper = Keeper(limit)
    feed(keeper, data.encode(), [7])
    tail = GAP.split(keeper.text)[-1]
    assert "\ufffd" not in tail
    assert data.endswith(tail)


def test_beyond_the_head_nothing_is_decoded_and_memory_is_bounded() -> None:
    keeper = Keeper(1000)
    feed_some(keeper, 1_000_000)
    ring = keeper.buffer().obj
    for _ in range(100):
        assert feed_some(keeper, 1_000_000) == ""
    assert keeper.buffer().obj is ring
    keeper.finish()
    assert keeper.total == 101_000_000
    assert len(keeper.text) < 1100


def feed_some(keeper: Keeper, size: int) -> str:
    shown = []
    while size:
        fits = min(size, len(keeper.buffer()))
        shown.append(keeper.keep(fits))
        size -= fits
    return "".join(shown)


STREAMS: st.SearchStrategy[Stream] = st.sampled_from(("stdout", "stderr"))


@given(writes=st.lists(st.tuples(STREAMS, st.text("ab", max_size=3)), max_size=40))
def test_a_batch_loses_nothing_and_keeps_each_streams_order(writes: list[tuple[Stream, str]]) -> None:
    shown: list[tuple[Stream, str]] = []
    batcher = Batcher(lambda stream, text: shown.append((stream, text)), None)
    for stream, text in writes:
        batcher.add(stream, text)
    batcher.show_if_due()
    for name in ("stdout", "stderr"):
        assert "".join(t for s, t in shown if s == name) == "".join(t for s, t in writes if s == name)
    assert len(shown) <= 9
    runs = [stream for stream, text in writes if text]
    changes = sum(a != b for a, b in itertools.pairwise(runs))
    if changes < 8:
        assert "".join(t for _, t in shown) == "".join(t for _, t in writes)


@given(writes=st.lists(st.tuples(STREAMS, st.text("ab\n", max_size=50)), max_size=40))
def test_with_a_pace_messages_are_short_and_nothing_is_lost(writes: list[tuple[Stream, str]]) -> None:
    shown: list[tuple[Stream, str]] = []
    with mock.patch.multiple(output, _PIECE_BYTES=20, _MESSAGE_BYTES=0):
        batcher = Batcher(lambda stream, text: shown.append((stream, text)), Pace(math.inf))
        for stream, text in writes:
            batcher.add(stream, text)
        batcher.add_no_more()
        while not batcher.is_empty:
            batcher.show_if_due()
    for name in ("stdout", "stderr"):
        assert "".join(t for s, t in shown if s == name) == "".join(t for s, t in writes if s == name)
    assert all(len(text) <= 20 for _, text in shown)


def test_what_the_pace_does_not_allow_is_dropped_in_the_end_and_counted() -> None:
    shown: list[str] = []
    pace = Pace(max_bytes=250_000)
    batcher = Batcher(lambda _stream, text: shown.append(text), pace)
    batcher.add("stdout", "x" * 1_000_000)
    batcher.show_no_more()
    assert batcher.is_empty
    *texts, notice = shown
    assert 100_000 < len("".join(texts)) < 250_000
    assert notice == f"the last {(1_000_000 - len(''.join(texts))) // 1000} kB of the output are not shown"


@pytest.mark.parametrize("text", ["plain", "lines\n" * 9, "€😀", "\x1b[0m\0"])
def test_a_text_is_measured_as_it_travels(text: str) -> None:
    assert output._size_in_a_message(text) == len(json_packer(text))


@pytest.mark.alone
def test_the_first_text_is_due_at_once_and_the_next_a_moment_later() -> None:
    batcher = Batcher(lambda _stream, _text: None, None)
    assert batcher.due_in() is None
    batcher.add("stdout", "a")
    assert batcher.due_in() == 0.0
    batcher.show_if_due()
    assert batcher.due_in() is None
    batcher.add("stdout", "b")
    due_s = batcher.due_in()
    assert due_s is not None
    assert 0.0 < due_s <= BATCH_INTERVAL_S


@pytest.mark.alone
def test_the_pace_waits_for_room_and_no_longer() -> None:
    pace = Pace(max_bytes=100, window_s=0.3)
    assert pace.wait_s(100) == 0.0
    pace.note(60)
    assert pace.wait_s(40) == 0.0
    assert 0.2 < pace.wait_s(41) <= 0.3
    pace.note(40)
    assert 0.2 < pace.wait_s(1_000_000) <= 0.3  # more than ever fits: it is sent when the window is empty
    assert wait_until(lambda: pace.wait_s(100) == 0.0, 5)
