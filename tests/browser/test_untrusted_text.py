"""Text from the wire stays text: the corpus of bad input and known payloads change no page."""

import re
from uuid import uuid4

import pytest

from benchmarks.stack.waiting import eventually
from contract.wire.decoding import is_id
from tests.support.bad_input import corpus, judged

pytestmark = pytest.mark.stack

PAYLOADS = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    "<svg onload=window.hit=1>",
    "\"><iframe srcdoc='<script>parent.hit=1</script>'>",
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}",
    "</title></textarea></style><script>window.hit=1</script>",
    "\u202egnp.exe\u2066",
]
NUM_FOLLOWED = 12
MARKUP = "img[src=x], iframe, main script, svg[onload], a[href^='javascript']"


def assert_is_unharmed(page):
    assert page.evaluate("window.hit") is None
    assert page.locator(MARKUP).count() == 0
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.inner_text("main"))


def can_be_sent(case):
    """Return whether confluent-kafka can send *case*, and a browser test needs it."""
    is_small = max(len(case.value or b""), len(case.key or b"")) < 100_000
    is_from_outside = case.topic in (
        "watch-events",
        "search-events",
        "impressions",
        "video-uploads",
    )
    unsendable = ("header_encoding", "headers_too_large")
    return is_small and is_from_outside and judged(case)[1] not in unsendable


def test_the_corpus_of_bad_input_is_shown_as_text(open_page, player):
    """All of it is sent; what is a dead letter is listed, what is not is followed."""
    cases = [case for case in corpus() if can_be_sent(case)]
    for case in cases:
        player.produce(case.topic, case.key, case.value, case.headers)
    player.flush()
    page = open_page("operator")
    page.wait_for_selector(".tile >> text=/watch-events/")
    page.click("#letters-read")
    page.wait_for_selector("#letters pre")
    assert_is_unharmed(page)

    page.click("text=Viewer")
    accepted = [case for case in cases if case.topic == "watch-events" and judged(case)[0]]
    users = {case.key.decode() for case in accepted[:: len(accepted) // NUM_FOLLOWED]}
    # a history is read once, and has what streams has folded by then
    assert eventually(
        lambda: users <= {r["user_id"] for r in player.recommendations()}, within_s=60
    )
    for user_id in users:
        page.fill("#user-id", user_id)
        page.click("#user-form button[type=submit]")
        page.wait_for_selector("#history li")
    assert_is_unharmed(page)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_in_every_field_is_shown_as_text(open_page, player, payload):
    ids = [f"{payload} {uuid4().hex[:6]}" for _ in range(2)]
    video_id, someone = (one if is_id(one) else uuid4().hex for one in ids)
    player.produce(
        "video-uploads",
        video_id,
        {
            "video_id": video_id,
            "title": f"nautilus {payload}",
            "channel_id": payload,
            "category": payload[:64],
            "tags": ["nautilus"],
            "duration_ms": 10_000,
            "uploaded_at_ms": 1_764_000_000_000,
        },
    )
    player.produce("watch-events", someone, f"{{{payload}".encode())
    player.flush()
    page = open_page()
    page.fill("#user-id", someone)
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    page.fill("#search", f"nautilus {payload}"[:256])
    page.keyboard.press("Enter")
    page.locator(".card", has_text="nautilus").first.wait_for()
    page.locator(".card", has_text="nautilus").first.get_by_role("button", name="Watch").click()
    page.wait_for_selector("#history li >> text=/^Watched/")
    assert_is_unharmed(page)

    page.get_by_role("button", name="Why").first.click()
    page.wait_for_selector("#why-body >> text=Caused by")
    assert_is_unharmed(page)
    page.keyboard.press("Escape")

    page.click("text=Operator")
    page.wait_for_selector(".tile")
    page.click("#letters-read")
    page.wait_for_selector("#letters pre")
    assert_is_unharmed(page)


def test_markup_is_refused_by_the_browser_itself(open_page):
    """The second wall: even a slip in the code could not turn text into markup."""
    page = open_page()

    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<img src=x onerror=window.hit=1>'")
