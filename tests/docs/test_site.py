"""The docs site builds without a warning, and needs nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed: the extra docs")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""What a browser fetches by itself when it shows a page."""


class Page(HTMLParser):
    """What one page of HTML loads, where it leads to, and what can be led to in it."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.links, self.ids = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in LOADS and (address := given.get(LOADS[tag])):
            self.loaded.append(address)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.ids.add(given.get("id"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that the site was built into, strictly: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    argv = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path; that of a missing page has paths of a server, and is none."""
    found = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) > len(list((ROOT / "docs").glob("*.md")))
    return found


def test_no_page_loads_anything_from_elsewhere(pages):
    """It is read on machines without internet, and tells nobody who reads it."""
    fetched = {address for page in pages.values() for address in page.loaded}

    assert {address for address in fetched if urlsplit(address).netloc} == set()


def test_no_page_has_what_the_theme_would_fetch_a_program_for(site, pages):
    """A mermaid diagram is drawn by a program from a server of others; ours are pictures."""
    assert [path for path in pages if 'class="mermaid"' in path.read_text()] == []
    assert list((ROOT / "docs").rglob("*.md"))
    assert [
        page for page in (ROOT / "docs").rglob("*.md") if "```mermaid" in page.read_text()
    ] == []


def test_every_link_and_file_of_a_page_is_in_the_site(pages):
    """Links within the site, with their anchors, and the pictures and scripts of each page."""
    missing = []
    for path, page in pages.items():
        for address in (*page.links, *page.loaded):
            url = urlsplit(address)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchor = unquote(url.fragment)
            if not target.exists() or (
                anchor and target.suffix == ".html" and anchor not in pages[target].ids
            ):
                missing.append((path.name, address))

    assert missing == []


def test_no_list_of_a_page_is_shown_as_one_paragraph(pages):
    """GitHub begins a list in the middle of a paragraph; MkDocs wants a blank line before it."""
    merged = []
    for path in pages:
        text = re.sub(r"<pre.*?</pre>", "", path.read_text(), flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>|<li>(.*?)</li>", text, re.DOTALL):
            merged += re.findall(r"\n\s*(?:[-*]|\d+\.) .{0,40}", "".join(paragraph))

    assert merged == []
