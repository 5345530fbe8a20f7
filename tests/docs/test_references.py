"""What the pages name exists: files, modules, settings, words of the code, links."""

import re
from functools import cache
from pathlib import Path

import pytest

from contract.process.settings import OF_COMPOSE, PREFIX
from nextwatch import settings_reference

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").glob("*.md")]
)
FOLDERS = (
    *("contract", "models", "streams", "trainer", "index_sync", "nextwatch"),
    *("benchmarks", "docs", "examples", "tests"),
)
HISTORY = ("CHANGELOG.md", "upgrading.md")
"""Pages that name what a former version had."""

CURRENT = [page for page in PAGES if page.name not in HISTORY and page.parent.name != "results"]

GONE = {PREFIX + "STREAMS_APP_ID"}
"""Settings that these pages say are no longer read."""

OTHER_VARIABLES = {
    PREFIX + name
    for name in (
        *("TEST_REQUIRE", "TEST_DATA", "TEST_BOOTSTRAP", "TEST_QDRANT_URL", "TEST_MODELS"),
        *("TEST_CONTAINERS", "TEST_KAFKA_IMAGE", "TEST_QDRANT_IMAGE", "TEST_CHROMIUM"),
    )
} | OF_COMPOSE
"""Variables of the test suite and of docker-compose.yml, which no process reads."""

OF_DOCKER = {"enable_ipv6"}
"""Words of other programs' settings."""


def _text(page: Path) -> str:
    return page.read_text()


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    """A path in backticks that begins with one of our folders leads somewhere."""
    paths = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*)`", _text(page))

    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_run_exists(page):
    """`python -m benchmarks.tdm` on a page can be typed."""
    modules = re.findall(rf"-m ((?:{'|'.join(FOLDERS)})[\w.]*)", _text(page))
    missing = [
        module
        for module in modules
        if not (ROOT / (module.rstrip(".").replace(".", "/") + ".py")).exists()
        and not (ROOT / module.rstrip(".").replace(".", "/") / "__main__.py").exists()
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_is_read(page):
    """A process stops at an unknown variable, so no page may tell a reader to set one."""
    known = {
        group.model_config.get("env_prefix", "") + field.upper()
        for group in settings_reference.GROUPS
        for field in group.model_fields
    }
    allowed = known | OTHER_VARIABLES | (GONE if page.name in HISTORY else set())
    named = set(re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_*])", _text(page)))

    assert sorted(named - allowed) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_a_heading(page):
    """GitHub makes the anchor of a heading by lower case, without punctuation, blanks as dashes."""
    missing = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", _text(page)):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.exists() or (anchor and anchor not in _anchors(linked)):
            missing.append(target)

    assert missing == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_every_snake_case_word_is_in_the_code(page):
    """Log events, metrics, reasons and fields: who searches the code for one finds it."""
    words = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", _text(page))) - OF_DOCKER
    code = _code()

    assert sorted(word for word in words if not re.search(rf"(?<!\w){word}(?!\w)", code)) == []


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_every_dotted_name_is_in_the_code(page):
    """The last part of `Partitions.committable` and the like is defined where they say."""
    modules = "|".join(FOLDERS[:7])
    names = set(re.findall(rf"`((?:[A-Z]\w+|{modules})(?:\.\w+)+)`", _text(page)))
    code = _code()
    missing = [
        name
        for name in names
        if not re.search(
            rf"^\s*(?:async )?(?:def |class )?{name.rpartition('.')[2]}\b", code, re.MULTILINE
        )
        and not any(ROOT.glob(name.replace(".", "/") + "*"))
    ]

    assert sorted(missing) == []


@cache
def _code() -> str:
    """Return the source of what is installed and of the benchmarks."""
    paths = [path for folder in FOLDERS[:7] for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(path.read_text() for path in paths)
