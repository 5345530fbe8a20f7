"""What an operator does, in a real browser, to a real stack."""

import re
from uuid import uuid4

import pytest

from contract.process.clock import system_clock
from contract.wire.keys import partition_of

pytestmark = pytest.mark.stack


def test_the_figures_come_by_themselves(open_page):
    page = open_page("operator")

    page.wait_for_selector(".tile >> text=Event → recommendation")
    page.wait_for_selector("#lag >> text=streams · watch-events")
    page.wait_for_selector("#chart-latency svg[role=img]")
    assert re.search(
        "p99 [0-9]", page.locator("#chart-latency svg[role=img]").get_attribute("aria-label")
    )


BECOME = """visibility => {
  Object.defineProperty(document, "hidden", { value: visibility === "hidden", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_tab_that_nobody_sees_holds_no_stream(open_page):
    """A browser opens six connections to one address: after six tabs nothing would load."""
    page = open_page("operator")
    page.wait_for_selector(".tile >> text=Event → recommendation")

    with page.expect_event("requestfailed", lambda request: "/console/figures" in request.url):
        page.evaluate(BECOME, "hidden")
    with page.expect_request("**/console/figures"):
        page.evaluate(BECOME, "visible")


def test_the_metrics_of_a_process_are_a_link_away(open_page):
    page = open_page("operator")

    with page.expect_popup() as opened:
        page.get_by_role("link", name="metrics of streams").click()

    opened.value.wait_for_load_state()
    assert "nextwatch_" in opened.value.inner_text("body")


def test_a_worker_that_is_killed_comes_back(open_page, rig):
    page = open_page("operator")
    before = rig.stack.process("streams").pid

    page.get_by_role("button", name="Kill streams").click()

    page.wait_for_selector("#faults li >> text=/a recommendation after/", timeout=120_000)
    assert rig.stack.process("streams").pid != before


def test_a_generation_is_rolled_back_and_promoted(open_page, rig):
    page = open_page("operator")
    page.locator("#models tr").nth(1).wait_for(timeout=120_000)
    page.wait_for_selector("#models button >> text=/^Roll back to/", timeout=120_000)

    page.click("#rollback")

    page.wait_for_selector("#operator-status >> text=/is withdrawn/")
    page.locator("#models tr", has_text="withdrawn").first.wait_for()
    page.get_by_role("button", name=re.compile("^Promote")).first.click()
    page.wait_for_selector("#operator-status >> text=/is offered/")


def test_a_dead_letter_is_replayed(open_page, player):
    someone = f"u-{uuid4().hex[:8]}"
    event = {
        "event_id": str(uuid4()),
        "user_id": someone,
        "video_id": "v1",
        "event_time_ms": system_clock(),
        "watch_ms": 1_000,
    }
    wrong = (partition_of(someone.encode(), 4) + 1) % 4
    player.produce("watch-events", someone, event, partition=wrong)
    player.flush()
    page = open_page("operator")
    page.wait_for_selector(".tile >> text=/watch-events/")

    page.click("#letters-read")
    row = page.locator("#letters tr", has_text=someone)
    row.get_by_role("button", name="Replay").click()

    page.wait_for_selector("#operator-status >> text=Replayed 1; 0 stay.")


def test_a_user_is_erased(open_page):
    someone = f"u-{uuid4().hex[:8]}"
    page = open_page()
    page.fill("#user-id", someone)
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    page.locator(".card .main").first.click()
    page.wait_for_selector("#viewer-status >> text=/^Feed updated/")

    page.click("text=Operator")
    page.fill("[name=user_id]", someone)
    page.click("#erase-form button")

    told = page.locator("#erased p", has_not_text="Erasing")
    told.wait_for(timeout=90_000)
    assert page.locator("#erased p.good").count() == 1, page.inner_text("#erased")
