"""Builders: dead letters as they lie on their topic."""

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.dead_letters import dead_letter
from contract.wire.events import encode
from contract.wire.topics import TOPICS, WATCH_EVENTS, Layout
from nextwatch.operate.letters import letter_of
from tests.support.builders import T0, watch

KINDS = {topic.name: topic for topic in TOPICS}
GOOD = encode(watch())


def lying(
    value=GOOD,
    *,
    topic=WATCH_EVENTS,
    key=b"u1",
    reason="json",
    at_ms=0,
    headers=(),
    place=(2, 7),
    source=(1, 40),
):
    """Return the record of a dead-letter topic: *value* refused *at_ms* after T0."""
    record = Received(topic.name, *source, key, value, T0, headers)
    sent = dead_letter(
        record, DecodeError(reason), layout=Layout(), topic=topic, app="test", now_ms=T0 + at_ms
    )
    return Received(sent.topic, *place, sent.key, sent.value, T0 + at_ms + 1, tuple(sent.headers))


def letter(value=GOOD, **said):
    """Return a dead letter as it is read back."""
    return letter_of(lying(value, **said))
