"""The documentation as a site: it is built without a warning, is complete, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import ipython_pgtimeout
from ipython_pgtimeout.spec import OPTIONS

for requirement in ("sphinx", "myst_nb", "furo"):
    pytest.importorskip(requirement)

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_FROM_A_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^\s)]*")


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        text = path.read_text(encoding="utf-8")
        self.in_styles: list[str] = _FROM_A_STYLE.findall(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name == "href" and value and tag == "a":
                self.links.append(value)
            elif name in ("src", "srcset", "href", "data", "poster") and value:
                self.loaded.append(value)


def _copy(to: Path) -> Path:
    """What the site is made of, where it can be written to. Returns the folder of the pages."""
    shutil.copytree(ROOT / "docs", to / "docs", ignore=shutil.ignore_patterns("course"))
    shutil.copytree(ROOT / "notebooks", to / "notebooks", ignore=shutil.ignore_patterns("solutions", "*.png", ".*"))
    shutil.copy(ROOT / "CHANGELOG.md", to)
    return to / "docs"


def _build(docs: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", *options, docs, site],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    done = _build(_copy(made), made / "site")
    assert (done.returncode, done.stderr) == (0, "")
    return made / "site"


def _broken(site: Path) -> Iterator[str]:
    """Links and images that lead nowhere, and what would be loaded from the network."""
    pages = {path: _Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        yield from (f"{path.name}: {found} is loaded" for found in page.in_styles)
        for link in (*page.links, *page.loaded):
            url = urlsplit(link)
            if url.scheme == "data" or (link in page.links and (url.scheme or url.netloc)):
                continue
            target = Path(path.parent, unquote(url.path)).resolve() if url.path else path
            if url.scheme or url.netloc:
                yield f"{path.name}: {link} is loaded"
            elif not target.is_file():
                yield f"{path.name}: {link} does not exist"
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
                yield f"{path.name}: {link} has no such anchor"
    for style in site.rglob("*.css"):
        found = _FROM_A_STYLE.findall(style.read_text(encoding="utf-8"))
        yield from (f"{style.name}: {each} is loaded" for each in found)


def test_links_images_and_anchors_exist_and_nothing_comes_from_the_network(site: Path) -> None:
    assert list(_broken(site)) == []


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<a id="here" href="#here">', ""),
        ('<a href="https://example.org/">', ""),
        ('<a href="nowhere.html">', "nowhere.html does not exist"),
        ('<a href="#nowhere">', "#nowhere has no such anchor"),
        ('<img src="nowhere.png">', "nowhere.png does not exist"),
        ('<script src="https://example.org/a.js">', "https://example.org/a.js is loaded"),
        ('<link href="//example.org/a.css">', "//example.org/a.css is loaded"),
        ("<style>a {background: url(https://example.org/a.png)}</style>", "url(https://example.org/a.png is loaded"),
    ],
)
def test_control_what_is_broken_is_found(html: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html)
    assert list(_broken(tmp_path)) == ([f"page.html: {complaint}"] if complaint else [])


@pytest.mark.parametrize(("link", "is_built"), [("#a-title", True), ("nowhere.md", False), ("#nowhere", False)])
def test_control_a_broken_link_is_no_site(link: str, is_built: bool, tmp_path: Path) -> None:
    docs = _copy(tmp_path)
    (docs / "index.md").write_text(f"# A title\n\n[link]({link})\n")
    others = ",".join(path.name for path in docs.iterdir() if path.name != "index.md")
    done = _build(docs, tmp_path / "site", "-D", f"exclude_patterns={others},course")
    assert (done.returncode == 0) is is_built, done.stderr
    assert ("xref_missing" in done.stderr) is not is_built


def test_every_option_is_described(site: Path) -> None:
    text = re.sub("<[^>]*>", "", (site / "reference" / "magics.html").read_text(encoding="utf-8"))
    flags = {flag for option in OPTIONS for flag in option.flags}
    assert flags - set(re.findall(r"(?<![\w-])--?[\w-]+", text)) == set()


def test_every_name_is_described(site: Path) -> None:
    names = {name for name in ipython_pgtimeout.__all__ if not re.search("^__|_ipython_extension$", name)}
    described = _Page(site / "reference" / "python.html").anchors
    assert {name for name in names if f"ipython_pgtimeout.{name}" not in described} == set()


def test_the_course_is_there(site: Path) -> None:
    assert len(NOTEBOOKS) == 10
    contents = _Page(site / "index.html").links
    assert [path for path in NOTEBOOKS if f"course/{path.stem}.html" not in contents] == []
