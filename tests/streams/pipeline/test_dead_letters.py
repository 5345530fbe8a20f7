"""What the worker does with a record that breaks the contract, whatever it was."""

import json

import pytest
from structlog.testing import capture_logs

from contract.errors import BrokerUnavailable
from contract.kafka.records import Position, Received
from contract.wire.events import encode
from tests.streams.worlds import World
from tests.support.bad_input import corpus
from tests.support.builders import watch

BAD = [
    case
    for case in corpus()
    if case.reason and case.topic in ("watch-events", "search-events", "user-deletions")
]


def record_of(case, offset):
    """Return *case* as it comes in."""
    return Received(case.topic, 0, offset, case.key, case.value, case.ingested_at_ms, case.headers)


def test_a_dead_letter_that_is_not_acknowledged_is_not_passed():
    """As with any other answer: the record is read again after the restart."""
    world = World()
    world.outbox.is_away = True

    with pytest.raises(BrokerUnavailable):
        world.pipeline.process([world.raw("watch-events", b"u1", b"{junk")])
    assert world.partitions.committable() == {}

    world.outbox.is_away = False
    world.start()
    world.pipeline.process([world.raw("watch-events", b"u1", b"{junk", offset=0)])
    assert len(world.outbox.to("watch-events.dlq")) == 1
    assert world.partitions.committable() == {Position("watch-events", 0): 1}


def test_each_bad_record_has_one_line_in_the_log_that_quotes_nothing():
    """Short, ASCII, of known fields: nothing a sender writes comes into a log."""
    world = World()

    for case in BAD:
        with capture_logs() as told:
            world.pipeline.process([record_of(case, world.offsets[case.topic])])
        world.offsets[case.topic] += 1
        [line] = told
        level = "error" if case.topic == "user-deletions" else "warning"
        assert line == {
            "event": "record_dead_lettered",
            "log_level": level,
            "reason": case.reason,
            "topic": case.topic,
            "partition": 0,
            "offset": world.offsets[case.topic] - 1,
        }, case.id
        assert len(json.dumps(line)) < 1_024


def test_a_mended_record_is_counted_and_logged_once():
    """The event is answered; one line says that its sender could do better."""
    world = World()
    value = json.loads(encode(watch())) | {"context": {"country": "Brasil"}}

    with capture_logs() as told:
        for number in range(3):
            body = json.dumps(value | {"event_id": f"e{number}"}).encode()
            world.pipeline.process([world.raw("watch-events", b"u1", body)])

    assert [line["mended"] for line in told] == ["dropped:context.country"]
    assert world.decoder.mended == {"dropped:context.country": 3}
    assert [answer.caused_by for answer in world.recommendations()] == [["e0"], ["e1"], ["e2"]]


def test_each_bad_record_changes_nothing_and_the_good_one_behind_it_is_answered():
    """In one micro-batch and by itself, whatever is wrong with it."""
    world = World()

    for number, case in enumerate(BAD):
        bad = record_of(case, world.offsets[case.topic])
        world.offsets[case.topic] += 1
        world.pipeline.process([bad, world.record(watch(f"v{number}", at_ms=number))])

    assert len(world.recommendations()) == len(BAD)
    assert {key for key, _record in world.store.scan()} == {"u1"}
    letters = [out for out in world.outbox.sent if out.topic.endswith(".dlq")]
    assert [dict(out.headers)["dlq.reason"].decode() for out in letters] == [
        case.reason for case in BAD
    ]
