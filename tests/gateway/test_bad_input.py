"""The corpus of bad input through HTTP: the verdict is that of the readers of Kafka."""

from collections import Counter

import pytest

from benchmarks.stack.waiting import eventually
from contract.errors import DecodeError
from contract.process.clock import system_clock
from contract.wire.decoding import check_not_future, decode_value
from tests.support.bad_input import BY_NAME, corpus

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

PATHS = {
    "watch-events": "/v1/events/watch",
    "search-events": "/v1/events/search",
    "impressions": "/v1/events/impressions",
    "video-uploads": "/v1/videos",
}
STATUSES = {"too_large": 413} | dict.fromkeys(
    ("empty", "encoding", "json", "depth", "duplicate_key"), 400
)
GOOD_EVERY = 25


def verdict(case):
    """Return the reason for which a reader would refuse the value of *case* now, if any."""
    topic, now_ms = BY_NAME[case.topic], system_clock()
    try:
        event = decode_value(topic, topic.kind, case.value)
        check_not_future(event, ingested_at_ms=now_ms, clock=lambda: now_ms)
    except DecodeError as error:
        return error.reason
    return None


def test_every_case_gets_the_verdict_of_streams_and_stops_nothing(gateway, player):
    """What is accepted becomes no dead letter: the gateway and streams judge alike."""
    cases = [
        case
        for case in corpus()
        if case.topic in PATHS and case.value is not None and case.is_change is not None
    ]
    pid, wrong, statuses, accepted = gateway.child.pid, [], Counter(), set()
    for number, case in enumerate(cases):
        answer = gateway.client.post(
            PATHS[case.topic], content=case.value, headers={"content-type": "application/json"}
        )
        reason = verdict(case)
        word = (reason or "").partition(":")[0]
        wanted = STATUSES.get(word, 422) if reason else 202
        statuses[answer.status_code] += 1
        if answer.status_code != wanted:
            wrong.append((case.id, reason, answer.status_code, answer.text[:200]))
        elif reason and word != "too_large":
            told = answer.json()
            if ":".join(filter(None, (told["reason"], told.get("field")))) != reason:
                wrong.append((case.id, reason, told))
        if answer.status_code == 202:
            accepted.add(case.value)
        if number % GOOD_EVERY == 0:
            assert gateway.post_watch(f"good{number}").elapsed.total_seconds() < 1

    assert wrong == []
    assert len(accepted) > 50
    assert min(statuses[400], statuses[413], statuses[422]) > 0, statuses
    last = gateway.post_watch("last").json()
    assert gateway.client.get(last["recommendations"]).headers["nextwatch-answers-event"] == "true"
    assert (gateway.child.pid, gateway.child.is_running) == (pid, True)

    def are_in_kafka():
        found = {m.value() for topic in PATHS for m in polled(player, topic)}
        return accepted <= found

    assert eventually(are_in_kafka)
    assert player.poll("watch-events.dlq") + player.poll("search-events.dlq") == []


def polled(player, topic):
    """Return what came on *topic* so far."""
    return player.poll(topic, key="video" if topic == "video-uploads" else "user")
