"""The page of an operator, on a real broker: what it shows, and what it does."""

import json
from uuid import uuid4

import pytest

from benchmarks.stack.waiting import eventually
from contract.wire.keys import partition_of
from tests.support.web import watch

pytestmark = pytest.mark.stack


def figures(console, is_wanted=lambda _figures: True):
    """Return the first figures that are wanted."""
    with console.stream("/console/figures") as events:
        return next(data for _name, data in events if is_wanted(data))


def misplace(player, user_id):
    """Produce a good watch on a partition that is not its key's; return its id."""
    event = watch(user_id)
    wrong = (partition_of(user_id.encode(), 4) + 1) % 4
    player.produce("watch-events", user_id, event, partition=wrong)
    player.flush()
    return event["event_id"]


def letters_of(console, user_id):
    """Return the dead letters of a user by reason."""
    found = console.client.get("/console/letters").json()["newest"]
    return {one["reason"]: one for one in found if one["key"] == user_id}


def test_the_figures_count_events_and_lag_by_partition(console, stack):
    someone = f"u-{uuid4().hex[:8]}"
    console.watch(someone, "v1")

    told = figures(console, lambda told: told["report"]["answered"] > 0 and told["lag"])

    lags = [one for one in told["lag"] if one["app"] == "streams"]
    partitions = {one["partition"] for one in lags if one["topic"] == "watch-events"}
    assert partitions == set(range(stack.kafka.user_partitions))
    assert told["report"]["event_to_recommendation_ms"]["p50"] is not None
    assert told["is_embedded"] is False


def test_a_dead_letter_is_listed_with_its_reason_and_replayed_when_it_would_pass(console, player):
    """A watch on the wrong partition is good in itself: replayed, it lies where it belongs."""
    someone = f"u-{uuid4().hex[:8]}"
    event_id = misplace(player, someone)
    player.produce("watch-events", someone, b"{<img src=x onerror=alert(1)>")
    player.flush()

    def listed():
        mine = letters_of(console, someone)
        return mine if {"misplaced", "json"} <= mine.keys() else None

    letters = eventually(listed)
    assert letters["misplaced"]["today"] == "passes"
    assert letters["json"]["today"] == "json"
    places = [letter["place"] for letter in letters.values()]
    answer = console.client.post("/console/letters/replay", json={"letters": places})

    assert answer.json()["replayed"] == 1
    assert answer.json()["staying"] == 1
    told = console.client.get(
        f"/v1/users/{someone}/recommendations", params={"event_id": event_id, "wait_ms": 10_000}
    )
    assert told.headers["nextwatch-answers-event"] == "true"


def test_a_user_is_erased_and_the_page_says_that_nothing_is_left(console):
    someone = f"u-{uuid4().hex[:8]}"
    with console.stream(f"/console/users/{someone}/feed") as events:
        console.watch(someone, "v1")
        next(data for name, data in events if name == "recommendation")

        told = console.client.post(f"/console/users/{someone}/erase").json()

        assert next(name for name, _data in events if name == "erased")
    assert told["report"]["is_clean"], json.dumps(told)
    assert "clean" in told["conclusion"]


def test_a_rollback_with_nothing_to_go_back_to_is_refused_with_the_reason(console):
    answer = console.client.post("/console/models/rollback", json={"generation": 999})

    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/console/letters/replay", {}, "letters"),
        ("/console/letters/replay", {"all": False}, "letters"),
        ("/console/letters/replay", {"letters": []}, "letters"),
        ("/console/letters/replay", {"letters": ["nonsense"]}, "letters"),
        ("/console/letters/replay", {"letters": ["watch-events:0:0"], "topic": "x"}, "letters"),
        ("/console/letters/replay", {"all": True, "reason": "json"}, "all"),
        ("/console/letters/replay", {"all": "yes"}, "all"),
        ("/console/letters/replay", {"topic": "no-such-topic"}, "topic"),
        ("/console/letters/replay", {"topic": ""}, "topic"),
        ("/console/letters/replay", {"topic": "watch-events", "reson": "json"}, None),
        ("/console/letters/replay", [], None),
        ("/console/models/promote", {"generation": "1"}, "generation"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_by_the_name_of_the_field(
    console, path, body, field
):
    answer = console.client.post(path, json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field


def test_all_dead_letters_are_replayed_when_the_request_says_all(console, player):
    someone = f"u-{uuid4().hex[:8]}"
    misplace(player, someone)
    eventually(lambda: letters_of(console, someone).get("misplaced"))

    answer = console.client.post("/console/letters/replay", json={"all": True})

    assert answer.status_code == 200
    assert answer.json()["replayed"] >= 1


def test_outside_the_demo_there_is_no_process_to_kill(console):
    assert console.client.post("/console/faults/streams").status_code == 404
