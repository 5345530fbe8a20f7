"""The page of an operator, on a real broker: what it shows, and what it does."""

import json
from uuid import uuid4

import pytest

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock

pytestmark = pytest.mark.stack


def figures(console, is_wanted=lambda _figures: True):
    """Return the first figures that are wanted."""
    with console.stream("/console/figures") as events:
        return next(data for _name, data in events if is_wanted(data))


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
    someone, event_id = f"u-{uuid4().hex[:8]}", str(uuid4())
    event = {
        "event_id": event_id,
        "user_id": someone,
        "video_id": "v1",
        "event_time_ms": system_clock(),
        "watch_ms": 1_000,
    }
    from contract.wire.keys import partition_of  # noqa: PLC0415

    wrong = (partition_of(someone.encode(), 4) + 1) % 4
    player.produce("watch-events", someone, event, partition=wrong)
    player.produce("watch-events", someone, b"{<img src=x onerror=alert(1)>")
    player.flush()

    def listed():
        found = console.client.get("/console/letters").json()["newest"]
        mine = {one["reason"]: one for one in found if one["key"] == someone}
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
    ("path", "body"),
    [
        ("/console/letters/replay", {"letters": ["nonsense"]}),
        ("/console/letters/replay", {"topic": "no-such-topic"}),
        ("/console/letters/replay", []),
        ("/console/models/promote", {"generation": "1"}),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(console, path, body):
    assert console.client.post(path, json=body).status_code == 422


def test_outside_the_demo_there_is_no_process_to_kill(console):
    assert console.client.post("/console/faults/streams").status_code == 404
