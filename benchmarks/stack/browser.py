"""Drive the Chromium of this machine by Playwright, which brings no browser here."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REMEDY = "install it (Debian: apt-get install chromium), or name one by NEXTWATCH_TEST_CHROMIUM"


def chromium_path() -> str | None:
    """Return where Chromium is: NEXTWATCH_TEST_CHROMIUM, else the one on the PATH; None if none."""
    named = os.environ.get("NEXTWATCH_TEST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


def missing() -> str:
    """Return why no browser can be driven; an empty string when one can."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if chromium_path() else f"there is no Chromium: {REMEDY}"


@contextmanager
def browser() -> Iterator["Browser"]:
    """Yield a headless browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    # Chromium's sandbox does not start for root, and what is opened is our own pages.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=options)
        try:
            yield chromium
        finally:
            chromium.close()
