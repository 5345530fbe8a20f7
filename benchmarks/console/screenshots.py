"""Take the screenshots of the docs, on an embedded stack with an audience.

Example: python -m benchmarks.console.screenshots
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.console.rig import running_rig
from benchmarks.stack.browser import browser, missing
from benchmarks.stack.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
_VIEW = {"width": 1200, "height": 760}
_WITHIN_MS = 120_000
_NUM_GENERATIONS = 4
_GENERATIONS_WITHIN_S = 150.0
_SETTLE_MS = 1_500


def main() -> None:
    """Open each page, do something there, and write its picture."""
    if reason := missing():
        sys.exit(reason)
    FOLDER.mkdir(exist_ok=True)
    with running_rig(rate=50, publish_every_s=15) as rig, browser() as chromium:
        page = chromium.new_page(viewport=_VIEW)  # type: ignore[arg-type]  # a TypedDict
        page.set_default_timeout(_WITHIN_MS)
        page.goto(rig.url)
        _watch(page)
        page.get_by_role("link", name="Creator").click()
        _upload(page)
        eventually(
            lambda: rig.observer.tally.generation >= _NUM_GENERATIONS,
            within_s=_GENERATIONS_WITHIN_S,
        )
        page.get_by_role("link", name="Operator").click()
        page.locator("#models tr").nth(_NUM_GENERATIONS - 2).wait_for()
        _keep(page, "operator")


def _watch(page: "Page") -> None:
    page.click("#new-user")
    page.wait_for_selector(".card")
    for number in range(5):
        page.locator(".card .main").nth(number % 3).click()
        page.wait_for_timeout(_SETTLE_MS)
    _keep(page, "viewer")


def _upload(page: "Page") -> None:
    for title, tags in (("Sourdough for beginners", "bread, oven"), ("A week by canoe", "boats")):
        page.fill("[name=title]", title)
        page.fill("[name=tags]", tags)
        page.click("#upload-form button")
        page.locator("#uploads tr", has_text=title).wait_for()
    row = page.locator("#uploads tr", has_text="canoe")
    row.get_by_role("button", name="Take down").click()
    page.wait_for_timeout(4 * _SETTLE_MS)
    _keep(page, "creator")


def _keep(page: "Page", name: str) -> None:
    page.wait_for_timeout(_SETTLE_MS)
    page.screenshot(path=FOLDER / f"console-{name}.png")


if __name__ == "__main__":
    main()
