"""What the windows must be after a run, from the events alone, and what a changelog says they are.

So that nobody wins by dropping events, or by losing what a crash would need. Works on the
windows to start with and on `watch-events` as the broker holds it; shares no code with any
contestant but the reader of window records.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from benchmarks.peers.changelogs import Changelog
from contract.kafka.client import consumer_config, partitions_of, take
from contract.process.settings import KafkaSettings
from contract.wire.topics import WATCH_EVENTS
from models.history import codec as history_codec

Entry = tuple[int, str, str, int, int]
"""Event time, event id, video, watched and whole duration, times in milliseconds."""

NUM_KEPT = 50
MAX_AGE_MS = 30 * 86_400_000
_READ_S = 30.0


def num_wrong(kafka: KafkaSettings, seeds: Mapping[str, bytes], changelog: Changelog) -> int:
    """Return how many users of those who watched something have another window than they must."""
    expected = _expected(kafka, seeds)
    found: dict[str, list[Entry]] = {}
    for message in read_all(kafka, changelog.topic_on(kafka.layout)):
        key, value = message.key(), message.value()
        if key and value:
            found[changelog.user_of(key)] = entries(value)
    return sum(found.get(user_id) != window for user_id, window in expected.items())


def entries(record: bytes) -> list[Entry]:
    """Return the watches in a window record, earlier ones of the same video too, oldest first."""
    found = history_codec.decode(record)
    return [
        (
            watch.event_time_ms,
            watch.event_id.hex(),
            watch.video_id,
            watch.watch_ms,
            watch.duration_ms,
        )
        for watch in sorted(found.watches + found.repeats)
    ]


def window(before: list[Entry], events: list[dict[str, Any]]) -> list[Entry]:
    """Return the window of somebody who had *before* and to whom *events* happened."""
    happened = {
        (
            event["event_time_ms"],
            event["event_id"].replace("-", ""),
            event["video_id"],
            event["watch_ms"],
            event["duration_ms"],
        )
        for event in events
    }
    in_order = sorted({*before, *happened})
    of_video = {entry[2]: entry for entry in in_order}
    newest = sorted({*sorted(of_video.values())[-NUM_KEPT:], *in_order[-NUM_KEPT:]})
    return [entry for entry in newest if entry[0] > newest[-1][0] - MAX_AGE_MS]


def read_all(kafka: KafkaSettings, topic: str) -> list[Message]:
    """Return every record of *topic*, in order within a partition.

    Raises:
        RuntimeError: the end of a partition did not come in time.
    """
    config = consumer_config(kafka, group_id="peers-check") | {"enable.partition.eof": True}
    consumer = Consumer(config)
    found: list[Message] = []
    try:
        waiting = set(partitions_of(consumer, topic, within_s=_READ_S))
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in waiting])
        while waiting:
            messages = take(consumer, 1_000, within_s=_READ_S)
            if not messages:
                raise RuntimeError(f"the end of {topic} did not come within {_READ_S:.0f} s")
            for message in messages:
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    waiting.discard(message.partition())
    finally:
        consumer.close()
    return found


def _expected(kafka: KafkaSettings, seeds: Mapping[str, bytes]) -> dict[str, list[Entry]]:
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in read_all(kafka, kafka.layout.name(WATCH_EVENTS)):
        event = msgspec.json.decode(message.value() or b"")
        events[event["user_id"]].append(event)
    return {user: window(entries(seeds[user]), mine) for user, mine in events.items()}
