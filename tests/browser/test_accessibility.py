"""axe finds nothing serious on any page, in light and in dark."""

import pytest

pytestmark = pytest.mark.stack

BAD = ("serious", "critical")


def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


def serious(page):
    found = axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in BAD
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_viewer_has_no_serious_findings(open_page, scheme):
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    page.click("#new-user")
    page.wait_for_selector(".card")
    page.locator(".card .main").first.click()
    page.wait_for_selector("#viewer-status >> text=/^Feed updated/")
    assert serious(page) == []

    page.get_by_role("button", name="Why").first.click()
    page.wait_for_selector("#why-body >> text=Caused by")
    assert serious(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_creator_has_no_serious_findings(open_page, scheme):
    page = open_page("creator", color_scheme=scheme)
    page.fill("[name=title]", "boats")
    page.click("#upload-form button")
    page.wait_for_selector("#uploads tr")

    assert serious(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_operator_has_no_serious_findings(open_page, player, scheme):
    player.produce("watch-events", "u1", b"{")
    player.flush()
    page = open_page("operator", color_scheme=scheme)
    page.wait_for_selector(".tile >> text=/watch-events/")
    page.click("#letters-read")
    page.wait_for_selector("#letters pre")
    page.wait_for_selector("#processes tr")

    assert serious(page) == []
