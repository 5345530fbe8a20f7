"""Uploads and takedowns, timed, in a real browser."""

from uuid import uuid4

import pytest

pytestmark = pytest.mark.stack


def test_an_upload_becomes_retrievable_is_found_and_disappears(open_page):
    page = open_page("creator")
    title = f"zeppelin {uuid4().hex[:6]}"
    page.fill("[name=title]", title)
    page.click("#upload-form button")
    row = page.locator("#uploads tr", has_text=title)
    row.locator("td").nth(0).filter(has_text="ms").wait_for()

    row.get_by_role("button", name="Search for").click()
    page.locator(".card", has_text=title).first.wait_for()

    page.click("text=Creator")
    row.locator("td").nth(1).filter(has_text="ms").wait_for()
    row.get_by_role("button", name="Take down").click()
    row.locator("td").nth(2).filter(has_text="ms").wait_for()


def test_what_breaks_a_bound_is_said_in_words(open_page):
    page = open_page("creator")
    page.fill("[name=title]", "x")
    page.fill("[name=language]", "x")

    page.click("#upload-form button")

    page.wait_for_selector("#creator-status:not(:empty)")
    assert page.inner_text("#creator-status")
