"""Asking for a list: before any event, on coming back, and after seeing the same list too often."""

import pytest

from benchmarks.stack.waiting import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

VIDEOS = {f"{category}{n}": category for category in ("cooking", "guitar") for n in range(15)}


def asked(player, user_id, **fields):
    """Return what *user_id* is answered who asks, and the videos of it."""
    answer = player.answer_to(player.ask(user_id, **fields))
    return answer, [item["video_id"] for item in answer["items"]]


def wait_for_the_catalogue(player):
    """Wait until a list of the whole catalogue can be had."""

    def is_whole():
        _, videos = asked(player, "somebody", number=100)
        return set(videos) == set(VIDEOS)

    assert eventually(is_whole, within_s=60)


def test_whoever_asks_gets_a_list_and_one_that_is_shown_in_vain_changes(player):
    """The home page of a new user, of one who comes back, and of one who looks past it."""

    def is_told_why():
        answer, videos = asked(player, "early")
        return not videos and "catalogue_empty" in answer["degraded"]

    assert eventually(is_told_why, within_s=60)
    for video_id, category in VIDEOS.items():
        player.upload(video_id, category)
    wait_for_the_catalogue(player)

    answer, videos = asked(player, "new", context={"country": "DE", "device": "tv"})
    assert (len(videos), answer["degraded"], len(answer["caused_by"])) == (20, [], 1)
    assert len(asked(player, "new", number=5)[1]) == 5
    assert len(asked(player, "new", number=25)[1]) == 25

    player.answer_to(player.watch("returning", "guitar0"))
    _, before = asked(player, "returning")
    assert len(before) == 20
    assert "guitar0" not in before

    for _ in range(15):
        player.show("returning", before[:6])
    player.flush()

    def makes_way():
        return not set(asked(player, "returning")[1][:6]) & set(before[:6])

    assert eventually(makes_way, within_s=15)

    for video_id in VIDEOS:
        player.watch("diligent", video_id)
    player.flush()

    def has_seen_all():
        answer, videos = asked(player, "diligent", number=100)
        sources = {item["source"] for item in answer["items"]}
        return (answer["degraded"], sources, set(videos)) == (
            ["all_seen"],
            {"seen_again"},
            set(VIDEOS),
        )

    assert eventually(has_seen_all, within_s=15)
