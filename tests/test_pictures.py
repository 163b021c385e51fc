"""The lives of a command's processes: recorded correctly, drawn as text and HTML, safe with hostile names."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipython_pgtimeout import Life, Result, Signalled, run, wording
from ipython_pgtimeout.helper.lives import MAX_LIVES
from ipython_pgtimeout.pictures import markup, timeline
from ipython_pgtimeout.pictures.tree import Tree
from ipython_pgtimeout.shared.records import COMMAND_BYTES

from .watching import wait_until

HOSTILE = "<script>alert(1)</script>\"'&\u202egnp.exe\x1b[31m"


def lives_of(result: Result, word: str) -> list[Life]:
    return [life for life in result.processes if life.command == word]


@pytest.mark.alone
def test_each_process_is_recorded_with_group_session_and_times() -> None:
    result = run("sleep 0.91 & setsid sleep 0.92 & set -m; sleep 0.93 & wait; sleep 0.3", 20)
    (shell,) = (life for life in result.processes if life.pid == result.pid)
    (plain,), (session,), (group,) = (lives_of(result, f"sleep 0.9{n}") for n in (1, 2, 3))
    assert shell.pid == shell.pgid == shell.sid
    assert (plain.sid, plain.pgid, plain.ppid) == (shell.sid, shell.pgid, shell.pid)
    assert session.sid == session.pgid == session.pid
    assert (group.sid, group.pgid) == (shell.sid, group.pid)
    for life in result.processes:
        assert life.end is not None
        assert 0 <= life.start <= life.end <= result.duration + 0.02
        assert not life.adopted
    assert plain.end is not None
    assert 0.85 < plain.end - plain.start < 1.6
    assert shell.end is not None
    assert shell.end > plain.end - 0.1


@pytest.mark.alone
def test_an_orphan_is_marked_as_adopted_and_its_end_is_exact() -> None:
    result = run("(sleep 0.6 &); sleep 0.2", 20)
    (orphan,) = lives_of(result, "sleep 0.6")
    assert orphan.adopted
    assert orphan.end == pytest.approx(result.duration, abs=0.05)


def test_names_and_command_lines_can_be_printed_and_are_bounded(tmp_path: Path) -> None:
    """Linux cuts a name after 15 bytes, and that can be in the middle of a character."""
    program = tmp_path / "aäääääääää"
    shutil.copy(shutil.which("sleep") or "", program)
    script = f"{program} 1000 & disown; LC_ALL=C bash -c 'sleep 1001; :' $(head -c 50000 /dev/zero | tr '\\0' x) & wait"
    result = run(script, 4, kill_after=0, leftovers="leave")
    left = run(f"{program} 1000 & until [ $(cat /proc/$!/comm) != bash ]; do :; done", 20, leftovers="leave")
    try:
        assert f"left running: aäääääää ({left.survivors[0].pid})" in str(left)
        for text in (str(left), repr(left.survivors), repr(result.processes), result.timeline()):
            text.encode("utf-8", "strict")
        assert max(len(life.command) for life in result.processes) == COMMAND_BYTES + 1
    finally:
        os.kill(left.survivors[0].pid, signal.SIGKILL)


def test_an_orphan_too_quick_for_any_walk_is_recorded() -> None:
    result = run("(setsid true &); sleep 0.05", 20)
    assert [life for life in result.processes if life.adopted]


@pytest.mark.alone
def test_killed_processes_end_at_sigkill_and_the_signals_are_drawn() -> None:
    result = run("trap '' TERM; sleep 61 & sleep 62 & wait", 0.5, kill_after=0.3)
    assert len(result.processes) == 3
    assert all(life.end == pytest.approx(0.8, abs=0.2) for life in result.processes)
    drawn = result.timeline().splitlines()
    assert len([line for line in drawn if "!" in line and "K|" in line]) == 3


@pytest.mark.alone
def test_a_process_that_ends_on_sigterm_ends_before_the_rest() -> None:
    """Its parent reaps it, so only a look tells the guard of its end."""
    result = run("sleep 63 & trap '' TERM; sleep 64 & while :; do wait; done", 1, kill_after=1)
    (terminated,), (killed,) = lives_of(result, "sleep 63"), lives_of(result, "sleep 64")
    assert terminated.end == pytest.approx(1.05, abs=0.2)
    assert killed.end == pytest.approx(2.0, abs=0.2)


def test_a_zombie_that_is_adopted_late_is_recorded_once() -> None:
    result = run("sleep 65 & trap '' TERM; exec sleep 66", 1, kill_after=1)
    assert sorted(life.command for life in result.processes) == ["sleep 65", "sleep 66"]


def test_no_more_lives_than_the_limit_are_kept() -> None:
    result = run(f"for n in {{1..{MAX_LIVES + 50}}}; do sleep 4.5 & done; wait", 40)
    assert result.returncode == 0
    assert len(result.processes) == MAX_LIVES
    assert "and 500 more" in result.timeline()


class Page(html.parser.HTMLParser):
    """The elements of an HTML text, and its text outside of style elements."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += "" if self.tags and self.tags[-1] == "style" else data


KNOWN_TAGS = {
    *("div", "span", "details", "summary", "style", "table", "tbody", "tr", "th", "td", "i", "b", "p", "progress"),
    *("ul", "li", "small", "a", "code"),
}
KNOWN_ATTRIBUTES = {"role", "aria-label", "class", "style", "title", "colspan", "id", "href", "value", "max", "open"}


def assert_inert(source: str) -> Page:
    page = Page(source)
    assert set(page.tags) <= KNOWN_TAGS
    assert page.attributes <= KNOWN_ATTRIBUTES
    assert not any(ord(character) < 32 and character not in "\n\t" for character in page.text)
    assert "\u202e" not in page.text
    return page


@pytest.fixture
def hostile() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line would inject a script into a page."""
    process = subprocess.Popen(["bash", "-c", 'exec -a "$0" sleep 100', HOSTILE])
    try:
        # Wait for the arguments, not for the name: execve(2) sets the name a moment earlier.
        assert wait_until(lambda: psutil.Process(process.pid).cmdline()[:1] == [HOSTILE], 10)
        yield process
    finally:
        process.kill()
        process.wait()


def test_hostile_names_are_inert_in_the_tree(hostile: subprocess.Popen[bytes]) -> None:
    tree = Tree.of(os.getpid())
    page = assert_inert(tree._repr_mimebundle_()["text/html"])
    assert "<script>alert(1)</script>" in page.text
    assert "\\u202e" in page.text
    assert "\\x1b" in str(tree)
    assert "\x1b" not in str(tree)


def test_hostile_names_are_inert_in_the_timeline() -> None:
    script = 'exec -a "$NAME" sleep 0.4'
    result = run(f"({script}); echo '<b onload=x>'", 20, env={"NAME": HOSTILE})
    page = assert_inert(result._repr_mimebundle_()["text/html"])
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in result.timeline()


@given(text=st.text())
def test_escaped_text_has_no_markup_and_no_hidden_characters(text: str) -> None:
    quoted = markup.quote(text, 10_000)
    assert not set(quoted) & set("<>\"'\n\r\t\0\x1b\u202e\u2066\u200b")
    assert not re.search(r"&(?!amp;|lt;|gt;|quot;|#x27;)", quoted)
    assert Page(quoted).tags == []
    page = assert_inert(markup.escape(text, 10_000))
    assert set(page.tags) <= {"span"}
    assert page.text == wording.visible(text, 10_000)


@given(text=st.text(alphabet="$\\()[]{}begin a_1"))
def test_no_node_of_escaped_text_has_two_delimiters_of_mathematics(text: str) -> None:
    nodes = re.split("<[^>]*>", markup.escape(text))
    assert all(len(node) == 1 for node in nodes if set(node) & set("$\\"))


@given(text=st.text(max_size=50))
def test_printable_text_stays_unchanged(text: str) -> None:
    shown = wording.visible(text)
    if text.isprintable() and not any("\ue000" <= character <= "\uf8ff" for character in text):
        assert shown == text
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5_250_000, "5.2 MB"), (2e13, "20.0 TB")],
)
def test_sizes_have_a_suitable_unit(size: float, words: str) -> None:
    assert wording.format_bytes(size) == words


def test_without_styles_the_words_and_the_bars_of_a_timeline_remain() -> None:
    """A code host and an untrusted notebook strip styles, classes and titles; a screen reader sees none."""
    plain, orphan, left = Life(3, 1, 3, 3, "sh", 0, 1.5, 2, False), Life(4, 2, 3, 3, "a", 0, 4, 4, True), 5
    lives = plain, orphan, Life(left, 3, 3, 3, "sudo", 1, 4, None, False)
    signals = Signalled(3, "SIGTERM", [orphan.pid]), Signalled(4, "SIGKILL", [orphan.pid])
    source = timeline.draw_html("timed out", False, lives, 0, signals, (), 4.0)
    words = " ".join(assert_inert(re.sub("<(?=/?t[hrd])", " <", source)).text.replace("\xa0", " ").split())
    assert "from–to notes 0 s to 4.0 s session 3" in words
    assert "3 1 sh 0.0–≤2.0 s ========-- 4" in words
    assert "4 2 a 0.0–4.0 s orphan, SIGTERM, SIGKILL ~~~~~~~~~~~~~~~!~~~K 5" in words
    assert "5 3 sudo from 1.0 s still there ===============" in words
    assert words.endswith("an end lies in the part drawn faint (-)")
    assert '<div role="img" aria-label="0.0–4.0 s, SIGTERM at 3.00 s, SIGKILL at 4.00 s">' in source


def test_the_text_of_a_timeline_has_the_same_notes() -> None:
    result = run("trap '' TERM; (sleep 60 &); sleep 0.2; sleep 61; :", 2, kill_after=0.1)
    lines = result.timeline().splitlines()
    assert re.search(r"sleep 60 \(orphan, SIGTERM, SIGKILL\)$|sleep 60 \(orphan, SIGTERM\)$", "\n".join(lines), re.M)


def test_the_html_of_a_result_is_small_and_folded() -> None:
    result = run("sleep 0.3 & sleep 0.3", 20)
    source = result._repr_mimebundle_()["text/html"]
    page = assert_inert(source)
    assert "details" in page.tags
    assert "open" not in page.attributes
    assert re.match(r"● exit code 0 \(0\.\d\xa0s\)", page.text), "a number and its unit must not be parted"
    assert "\xa0" not in result._repr_mimebundle_()["text/plain"]
    assert len(source) < 5000
