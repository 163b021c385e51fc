"""The pictures in JupyterLab: what they show, safe with hostile names, legible in both themes and at any size."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .browser import Lab, Notebook, open_lab
from .watching import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.timeout(240)  # to open a page takes 30 s on a busy machine
STATUS, TREE, BARS = ".pgtimeout-status", ".pgtree", ".pgt td i"

BUILD = """\
%%timeout_shell --result r 4
echo building
(setsid sleep 1000 &)
sleep 2 && echo built &
env --ignore-signal=TERM sleep 1000
echo never"""

LESSON = """\
%%timeout_shell --env MARK={mark} --leftovers leave --out pid 20
cat >lesson.sh <<'END'
set -m
yes | sleep 1001 &
sleep 1002 &
(sleep 0.5 & exec sleep 1003) &  # its child stays a zombie: nothing reaps it
sleep 0.3; kill -STOP %2
sh -c 'setsid sleep 1004 & wait'
END
setsid bash lesson.sh & echo $!
sleep 2"""

JOB = """\
%%timeout_shell --job build 30m
for n in {1..44}; do echo "[$n/240] compiling src/part$n.c"; sleep 0.05; done
sleep 1000; echo done"""

HOSTILE = "<img src=x onerror=evil=1><script>evil=1</script>\"'&amp;\u202e\x1b[31m"
HOSTILE_FILE = '<b id=evil>&"x'  # about as long as a process's name can be
INJECTED = ".jp-OutputArea :is(img, script, #evil)"

MATHEMATICS = r"x $a_1$ $$a_2$$ \(a_3\) \[a_4\] \begin{align}a_5\end{align} $a_6$"
TYPESET = "mjx-container, .MathJax, .katex"

SEEN = "e => { const b = e.getBoundingClientRect(); return e.contains(document.elementFromPoint(b.x + 9, b.y + 9)); }"
LEFT = "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().x; }"
CONTRASTS = """
root => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const luminance = c => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const found = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    if (!text || element.closest('style') || !element.checkVisibility()) continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(getComputedStyle(e));
    const back = chain.reduce((b, s) => over(rgba(s.backgroundColor), b), [255, 255, 255, 1]);
    const ink = rgba(getComputedStyle(element).color);
    ink[3] *= chain.reduce((o, s) => o * Number(s.opacity), 1);
    const [hi, lo] = [luminance(over(ink, back)), luminance(back)].sort((a, b) => b - a);
    found.push([text, (hi + .05) / (lo + .05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from open_lab()


def show_timeline(notebook: Notebook, cell: int) -> Locator:
    shown = notebook.run_to_end(cell)
    shown.locator("summary").click()
    shown.locator(BARS).first.wait_for()
    return shown


def overflows(area: Locator) -> bool:
    wider: bool = area.evaluate("e => e.scrollWidth > e.clientWidth")
    return wider


def test_the_timeline_is_folded_and_shows_bars_and_marks(lab: Lab) -> None:
    with lab.notebook(BUILD, "r", "print(len(r.processes), r.signals[0].at_s / r.duration)") as notebook:
        notebook.run_to_end(1)
        shown = notebook.run_to_end(2)
        recorded, signalled_at = map(float, notebook.run_to_end(3).inner_text().split())
        told = "timed out after 4\xa0s: SIGTERM to 3 processes, SIGKILL to 1; all are gone"
        assert told in shown.inner_text()
        assert shown.locator("details[open]").count() == 0
        assert not shown.locator("table").is_visible()
        shown.locator("summary").click()
        bars = shown.locator(BARS)
        bars.first.wait_for()
        assert bars.count() == recorded
        assert recorded in (5, 6)  # the subshell that starts the session ends at once; on a busy machine it is seen
        assert shown.locator("td i.o").count() == 2
        assert sorted(box["width"] for bar in bars.all() if (box := bar.bounding_box()))[-5] > 10
        scale = shown.locator("td.t").first.bounding_box()
        (at,) = {box["x"] for mark in shown.get_by_title("SIGTERM at").all() if (box := mark.bounding_box())}
        assert scale is not None
        assert (at - scale["x"]) / scale["width"] == pytest.approx(signalled_at, abs=0.05)
        assert shown.get_by_title("SIGKILL at").count() == 1
        assert not overflows(notebook.cell(2).locator(".jp-OutputArea"))


def test_the_dot_stands_where_the_text_of_the_output_begins(lab: Lab) -> None:
    with lab.notebook("%%timeout_shell --result r 20\necho text; sleep 1.3", "r") as notebook:
        notebook.run_to_end(1)
        notebook.run_to_end(2)
        status = notebook.cell(1).locator(STATUS).get_by_text("●").evaluate(LEFT)
        text = notebook.output(1).get_by_text("text").evaluate(LEFT)
        assert status == pytest.approx(text, abs=2)
        assert notebook.output(2).locator("details").evaluate(LEFT) == pytest.approx(text, abs=2)


def test_a_bar_that_erases_its_line_is_right_in_the_page_and_in_the_file(lab: Lab) -> None:
    bar = "printf '\\r\\033[2K\\033[90m━━━━\\033[0m \\033[36m%s\\033[0m' {}; sleep 0.2"
    frames = "; ".join(bar.format(eta) for eta in ("0:00:12, 1.5 MB/s", "0:00:09", "done"))
    old = "import time\nfor eta in '0:00:12, 1.5 MB/s', 'done': print(end=f'\\r\\x1b[2K{eta}'); time.sleep(0.2)"
    with lab.notebook(f"%%timeout_shell --pty --no-progress 20\n{frames}; echo", old) as notebook:
        assert notebook.run_to_end(1).inner_text().strip() == "━━━━ done"
        assert notebook.run_to_end(2).inner_text().strip() != "done"  # negative control: a page does not erase
        notebook.save_and_reload()
        assert notebook.output(1).inner_text().strip() == "━━━━ done"


def test_the_bars_are_in_view_at_any_width(lab: Lab, tmp_path: Path) -> None:
    """The screenshots go to the folder of PGTIMEOUT_SCREENSHOTS, too."""
    with lab.notebook(BUILD, "r") as notebook:
        notebook.page.evaluate("jupyterapp.shell.collapseLeft()")
        notebook.run_to_end(1)
        shown = show_timeline(notebook, 2)
        for width in (420, 1100):
            notebook.page.set_viewport_size({"width": width, "height": 1000})
            folder = Path(os.environ.get("PGTIMEOUT_SCREENSHOTS", tmp_path))
            notebook.cell(2).screenshot(path=folder / f"timeline-{width}.png")
            assert not overflows(shown.locator(".w"))
            assert "orphan, SIGTERM, SIGKILL" in shown.inner_text()
            for scale in shown.locator(".t").all():
                box = scale.bounding_box()
                assert box is not None
                assert box["width"] > 150
                assert box["x"] + box["width"] <= width


def test_the_tree_shows_nested_boxes_and_its_links_stay_in_the_page(lab: Lab, mark: str) -> None:
    with lab.notebook(LESSON.format(mark=mark), "%pgtree {pid}") as notebook:
        notebook.run_to_end(1)
        tree = notebook.run_to_end(2).locator(TREE)
        assert tree.locator(".s").count() == 2
        assert tree.locator(".s .g").count() == 6
        assert tree.locator(".g .p").count() >= 6
        assert "stopped" in tree.locator(".t").inner_text()
        assert "zombie" in tree.locator(".z").inner_text()
        notebook.page.evaluate("window.sameLoad = true")
        notebook.page.set_viewport_size({"width": 1100, "height": 320})
        path = notebook.page.evaluate("location.pathname")
        link = tree.locator("li", has_text="sh -c setsid").last.locator("a")
        parent = tree.locator(f"id={(link.get_attribute('href') or '')[1:]}")
        link.scroll_into_view_if_needed()
        assert not parent.evaluate(SEEN)
        link.click()
        assert wait_until(lambda: parent.evaluate(SEEN), 10)
        assert parent.locator("b").inner_text() == link.inner_text()
        assert notebook.page.evaluate("window.sameLoad && location.pathname") == path
        assert len(notebook.page.context.pages) == 1


def test_hostile_names_are_shown_as_plain_text(lab: Lab, mark: str) -> None:
    copy = f"cp $(command -v sleep) '{HOSTILE_FILE}'"
    run = f"(exec -a \"$NAME\" './{HOSTILE_FILE}'"
    cells = [
        f"NAME = {HOSTILE!r}",
        f"%%timeout_shell --env NAME --result r 30\n{copy}\n{run} 4) &",
        "r",
        f"%%timeout_shell --env NAME --env MARK={mark} --leftovers leave 30\n{run} 1000) & sleep 0.5",
        "%pgtree",
    ]
    with lab.notebook(*cells) as notebook:
        notebook.run_to_end(1)
        notebook.run(2)
        notebook.cell(2).locator(STATUS).filter(has_text=f"waiting for {HOSTILE_FILE}").wait_for()
        notebook.wait_over(2)
        timeline = show_timeline(notebook, 3)
        notebook.run_to_end(4)
        tree = notebook.run_to_end(5)
        for picture in (timeline, tree):
            text = "".join(picture.all_inner_texts())
            assert "<img src=x onerror=evil=1><script>evil=1</script>\"'&amp;\\u202e\\x1b[31m" in text
            assert "\u202e" not in text
        assert notebook.page.locator(INJECTED).count() == 0
        assert notebook.page.evaluate("typeof window.evil") == "undefined"


def in_old_markup(text: str) -> str:
    """Cells with this text as it was shown before `markup.escape` broke mathematics up."""
    return f"from IPython.display import HTML; HTML({'<p>' + html.escape(text) + '</p>'!r})"


@pytest.mark.parametrize("app", ["lab", "notebooks"])
def test_shell_text_is_not_typeset_as_mathematics(lab: Lab, mark: str, app: str) -> None:
    """The last cell is the negative control: the text in old markup is typeset, and by then the others would be."""
    sleeper = f"MATHEMATICS = {MATHEMATICS!r}\nimport subprocess\n"
    sleeper += f"child = subprocess.Popen(['sh', '-c', 'sleep 1000; :', MATHEMATICS, {mark!r}])"
    script = "bash -c 'sleep 1.5; :' \"$MATHEMATICS\""
    cells = [
        sleeper,
        "%pgtree {child.pid}",
        f"%%timeout_shell --env MATHEMATICS --result r 20\n{script}",
        "r",
        in_old_markup(MATHEMATICS),
    ]
    with lab.notebook(*cells, app=app) as notebook:
        for cell in range(1, len(cells) + 1):
            notebook.run_to_end(cell)
        for is_reloaded in (False, True):
            if is_reloaded:
                notebook.save_and_reload()
            control = notebook.output(5)
            control.locator(TYPESET).nth(4).wait_for()
            for cell, rows in ((2, ".p"), (4, ".pgt td")):
                shown = notebook.output(cell)
                assert shown.locator(TYPESET).count() == 0
                assert MATHEMATICS in "".join(shown.locator(rows).all_text_contents())


def test_the_checks_find_an_injection_and_pale_text(lab: Lab) -> None:
    pale = '<p style="opacity:.5;color:#777">pale</p>'
    cell = f"from IPython.display import HTML; HTML({pale + HOSTILE + HOSTILE_FILE!r})"
    with lab.notebook(cell, own_page=True) as notebook:
        shown = notebook.run_to_end(1)
        notebook.page.wait_for_function("window.evil === 1")
        assert notebook.page.locator(INJECTED).count() >= 2
        (ratio,) = (ratio for text, ratio in shown.evaluate(CONTRASTS) if text == "pale")
        assert ratio == pytest.approx(1.9, abs=0.2)  # #777 on white has 4.5; half opacity makes it 1.9


def test_five_hundred_processes_stay_readable(lab: Lab, mark: str) -> None:
    many = "for n in {1..500}; do sleep 1005 & done"
    cells = [
        f"%%timeout_shell --no-raise --result r 6\n{many}; wait",
        "r",
        f"%%timeout_shell --env MARK={mark} --leftovers leave 30\n{many}",
        "%pgtree",
    ]
    with lab.notebook(*cells) as notebook:
        notebook.run_to_end(1)
        started = time.monotonic()
        shown = show_timeline(notebook, 2)
        assert shown.locator(BARS).count() == 500
        notebook.run_to_end(3)
        tree = notebook.run_to_end(4).locator(TREE)
        assert tree.locator(".p").count() >= 503
        assert time.monotonic() - started < 40  # alone it takes 5 s; other tests run beside it
        for cell, inner in ((2, ".pgt .w"), (4, ".pgtree .w")):
            area = notebook.cell(cell).locator(".jp-OutputArea")
            assert not overflows(area)
            assert not overflows(area.locator(inner))
            box = area.bounding_box()
            assert box is not None
            assert box["height"] < 1000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_is_legible_and_screenshots_are_made(lab: Lab, mark: str, theme: str, tmp_path: Path) -> None:
    """The screenshots are those of the README. PGTIMEOUT_SCREENSHOTS can name the folder to write them to."""
    folder = Path(os.environ.get("PGTIMEOUT_SCREENSHOTS", tmp_path))
    contrasts: list[tuple[str, float]] = []
    cells = (BUILD, "r", LESSON.format(mark=mark), "%pgtree {pid}", JOB, "%timed_jobs")
    with lab.notebook(*cells, dark=theme == "dark", width=1200) as notebook:

        def check_and_capture(cell: int, name: str, picture: str) -> None:
            notebook.page.mouse.move(0, 0)
            contrasts.extend(notebook.cell(cell).locator(picture).evaluate(CONTRASTS))
            path = folder / f"{name}-{theme}.png"
            notebook.cell(cell).screenshot(path=path)
            assert 4_000 < path.stat().st_size < 200_000

        notebook.run(1)
        progress = notebook.cell(1).locator(f"{STATUS} progress")
        assert wait_until(lambda: progress.evaluate("e => e.value") >= 2, 20)
        check_and_capture(1, "running", STATUS)
        notebook.wait_over(1)
        check_and_capture(1, "timed-out", STATUS)
        show_timeline(notebook, 2)
        check_and_capture(2, "timeline", ".pgt")
        notebook.run_to_end(3)
        notebook.run_to_end(4)
        check_and_capture(4, "tree", TREE)
        notebook.run_to_end(5)
        notebook.cell(5).get_by_text("2 processes").wait_for()
        notebook.run_to_end(6)
        notebook.cell(5).locator("summary").wait_for(timeout=15_000)
        check_and_capture(5, "job", STATUS)
        contrasts += notebook.cell(5).locator(".pgt-fold").evaluate(CONTRASTS)
        contrasts += notebook.cell(6).locator(".pgt-table").evaluate(CONTRASTS)
        assert len(contrasts) > 80
        assert {text: ratio for text, ratio in contrasts if ratio < (3 if text == "●" else 4.5)} == {}
