"""The lists of a user as server-sent events."""

import json

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]


def events_of(answer):
    """Yield the name, the id and the data of each event."""
    fields = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], fields["id"], json.loads(fields["data"])
            fields = {}


def test_a_stream_begins_with_the_latest_list_and_goes_on_with_each_new_one(gateway):
    first = gateway.post_watch("followed").json()
    gateway.client.get(first["recommendations"])
    gateway.post_watch("somebody else")
    with gateway.client.stream("GET", "/v1/users/followed/recommendations/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer)
        latest = next(events)
        posted = []
        for number in range(3):
            event = gateway.post_watch("followed", f"v{number}").json()
            name, recommendation_id, data = next(events)
            posted.append((name, recommendation_id == data["recommendation_id"], data["caused_by"]))
            assert data["caused_by"] == [event["event_id"]]

    assert latest[2]["caused_by"] == [first["event_id"]]
    assert {one[:2] for one in posted} == {("recommendation", True)}


def test_a_stream_of_a_user_without_a_list_waits_for_the_first(gateway):
    with gateway.client.stream("GET", "/v1/users/first%20time/recommendations/stream") as answer:
        event = gateway.post_watch("first time").json()

        assert next(events_of(answer))[2]["caused_by"] == [event["event_id"]]
