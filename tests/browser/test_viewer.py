"""What a viewer does and sees, in a real browser."""

import re

import pytest

pytestmark = pytest.mark.stack


def become_new(page):
    page.click("#new-user")
    page.wait_for_selector(".card")


def videos(page):
    return [card.get_attribute("data-video") for card in page.query_selector_all(".card")]


def watched(page, place=0):
    """Watch a card; return once the feed says that it followed."""
    before = page.inner_text("#viewer-status")
    page.locator(".card .main").nth(place).click()
    page.wait_for_function(
        "before => { const now = document.getElementById('viewer-status').innerText;"
        " return now !== before && now.startsWith('Feed updated'); }",
        arg=before,
    )


def test_a_new_user_gets_cards_at_once(open_page):
    page = open_page()

    become_new(page)

    assert len(videos(page)) > 1
    assert re.match(r"1\. \S", page.locator(".card h4").first.inner_text())


def test_a_watch_leaves_the_feed_and_stands_in_the_history(open_page):
    page = open_page()
    become_new(page)
    first = videos(page)[0]

    watched(page)

    assert first not in videos(page)
    page.wait_for_selector("#history li >> text=/^Watched 100 %/")


def test_the_strip_says_where_the_milliseconds_went(open_page):
    page = open_page()
    become_new(page)

    watched(page)

    rows = page.locator("#times tr").all_inner_texts()
    times = {row.split("\t")[0]: float(row.split("\t")[1].removesuffix(" ms")) for row in rows}
    total = times.pop("Click to feed")
    assert set(times) == {
        *("Kafka, to streams", "State", "Tower"),
        *("Search", "Ranking", "Kafka, back", "Page"),
    }
    assert times["Ranking"] > 0
    assert sum(times.values()) >= total - 1


def test_a_search_stands_in_the_history(open_page):
    page = open_page()
    become_new(page)

    page.fill("#search", "a <b>bold</b> wish")
    page.keyboard.press("Enter")

    page.wait_for_selector("#history li >> text=Searched “a <b>bold</b> wish”")


def test_why_explains_a_card(open_page):
    page = open_page()
    become_new(page)
    watched(page)

    page.get_by_role("button", name=re.compile("^Why")).first.click()

    page.wait_for_selector("#why-body >> text=Caused by")
    assert "Found:" in page.inner_text("#why-body")
    page.get_by_role("button", name="Close", exact=True).click()
    assert not page.locator("#why").is_visible()


def test_an_existing_user_has_a_history(open_page):
    page = open_page()
    page.wait_for_selector("#users option", state="attached")
    page.fill("#user-id", page.locator("#users option").first.get_attribute("value"))
    page.keyboard.press("Enter")

    page.wait_for_selector("#history li")


def test_the_history_keeps_the_newest_hundred(open_page):
    """A page that stays open for days does not grow."""
    page = open_page()
    become_new(page)
    page.evaluate(
        "() => { for (let n = 0; n < 150; n += 1)"
        " document.getElementById('history').append(document.createElement('li')); }"
    )
    watched(page)
    page.wait_for_selector("#history li >> text=/^Watched/")

    assert page.locator("#history li").count() == 100
    assert page.locator("#history li").first.inner_text().startswith("Watched")


def test_the_page_is_used_by_the_keyboard_alone(open_page):
    page = open_page()
    page.focus("#user-id")
    for key in ("Tab", "Tab", "Enter"):  # the button of an existing user, that of a new one
        page.keyboard.press(key)
    page.wait_for_selector(".card")
    page.locator(".card .main").first.focus()
    page.keyboard.press("Enter")

    page.wait_for_selector("#viewer-status >> text=/^Feed updated/")
    assert page.evaluate("document.activeElement !== document.body")


def test_the_theme_is_switched_and_kept(open_page):
    page = open_page()
    back = "getComputedStyle(document.body).backgroundColor"
    page.click("#theme")
    light = page.evaluate(back)
    page.click("#theme")
    dark = page.evaluate(back)

    page.reload()
    page.wait_for_selector("html[data-ready]")

    assert light != dark
    assert page.evaluate(back) == dark


def test_the_dark_theme_follows_the_system(open_page):
    back = "getComputedStyle(document.body).backgroundColor"

    found = {scheme: open_page(color_scheme=scheme).evaluate(back) for scheme in ("light", "dark")}

    assert found["light"] != found["dark"]
