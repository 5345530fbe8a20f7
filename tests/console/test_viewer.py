"""The page of a viewer, on a real broker and a real streams worker."""

from itertools import islice
from uuid import UUID, uuid4

import pytest

pytestmark = pytest.mark.stack


def user():
    return f"u-{uuid4().hex[:8]}"


def until(events, wanted):
    """Return the data of the first event with the name *wanted*."""
    return next(data for name, data in events if name == wanted)


def test_a_watch_comes_back_as_history_and_as_a_list_that_names_it(console):
    someone = user()
    with console.stream(f"/console/users/{someone}/feed") as events:
        assert until(events, "history")["deeds"] == []
        event_id = console.watch(someone, "v1")
        found = dict(islice(((n, d) for n, d in events if n in ("deed", "recommendation")), 2))

    assert found["deed"]["deeds"][0]["video_id"] == "v1"
    assert found["recommendation"]["recommendation"]["caused_by"] == [event_id]


def test_a_list_tells_how_long_each_stage_took(console):
    someone = user()
    console.watch(someone, "v1")

    with console.stream(f"/console/users/{someone}/feed") as events:
        told = until(events, "recommendation")

    assert {"decode", "fold"} <= told["stages"].keys()
    assert told["received_ms"] >= told["recommendation"]["generated_at_ms"]


def test_the_history_of_a_user_who_comes_back_is_that_of_the_window(console):
    someone = user()
    with console.stream(f"/console/users/{someone}/feed") as events:
        console.watch(someone, "v1")
        until(events, "recommendation")

    with console.stream(f"/console/users/{someone}/feed") as events:
        deeds = until(events, "history")["deeds"]

    assert [deed["video_id"] for deed in deeds] == ["v1"]


def test_the_cards_have_the_titles_of_the_catalogue(console):
    answer = console.client.post("/console/uploads", json={"title": "A <b>bold</b> title"})
    video_id, someone, other = answer.json()["video_id"], user(), user()
    console.watch(other, video_id)
    with console.stream(f"/console/users/{someone}/feed") as events:
        console.watch(someone, "v1")
        told = next(
            data for name, data in events if name == "recommendation" and video_id in data["videos"]
        )

    assert told["videos"][video_id]["title"] == "A <b>bold</b> title"


def test_the_users_seen_last_can_be_chosen(console):
    someone = user()
    with console.stream(f"/console/users/{someone}/feed") as events:
        console.watch(someone, "v1")
        until(events, "deed")

    assert someone in console.client.get("/console/users").json()["users"]


def test_why_tells_the_cause_of_a_list(console):
    someone = user()
    with console.stream(f"/console/users/{someone}/feed") as events:
        event_id = console.watch(someone, "v1")
        told = until(events, "recommendation")

    wanted = told["recommendation"]["recommendation_id"]
    explanation = console.client.get(f"/console/why/{wanted}").json()

    assert [cause["event_id"] for cause in explanation["causes"]] == [event_id]
    assert explanation["user_id"] == someone


@pytest.mark.parametrize(("path", "status"), [("x", 422), (str(UUID(int=1)), 404)])
def test_why_of_what_is_not_there_is_said_as_a_problem(console, path, status):
    answer = console.client.get(f"/console/why/{path}")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_user_id_with_slashes_and_markup_is_followed(console):
    someone = f"a/b <img src=x> {uuid4().hex[:6]}"
    from urllib.parse import quote  # noqa: PLC0415

    with console.stream(f"/console/users/{quote(someone, safe='')}/feed") as events:
        console.watch(someone, "v1")
        told = until(events, "recommendation")

    assert told["recommendation"]["user_id"] == someone
