"""One stack, one audience and one Chromium for all tests here.

Run by `make test-browser`. Without a Chromium they are skipped with the reason.
"""

import pytest

from benchmarks.console.rig import running_rig
from benchmarks.stack.browser import browser as running_browser
from benchmarks.stack.browser import missing
from benchmarks.stack.player import player_of

VIEW = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def rig():
    if reason := missing():
        pytest.skip(reason)
    pytest.importorskip("torch", reason="the trainer needs torch, which is not installed")
    with running_rig(rate=10) as rig:
        yield rig


@pytest.fixture(scope="session")
def browser(rig):
    with running_browser() as browser:
        yield browser


@pytest.fixture
def open_page(rig, browser):
    """Return what opens a page of the console; the test fails for any error on it."""
    contexts, errors = [], []

    def opened(name="viewer", **options):
        context = browser.new_context(viewport=VIEW, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.on("request", lambda request: _note_foreign(request, rig.url, errors))
        page.on("console", lambda said: errors.append(said.text) if _is_bad(said) else None)
        page.goto(f"{rig.url}#{name}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def player(rig):
    with player_of(rig.stack) as player:
        yield player


def _is_bad(said):
    return said.type == "error" and "Content Security Policy" in said.text


def _note_foreign(request, url, errors):
    if not request.url.startswith((url, "data:", "blob:")):
        errors.append(f"a request to {request.url}")
