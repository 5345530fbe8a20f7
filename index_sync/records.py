"""Decode records: the newest upload or tombstone per video, and the bad records.

Pure: no broker, no index. One batch of a topic goes in; out come the facts, by video id, and
the bad records with their reasons, which the worker sends to the dead-letter topic.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.decoding import check_place, decode, tombstone_id
from contract.wire.events import Event, VideoUpload
from contract.wire.mending import Notes
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS

E = TypeVar("E", bound=Event)

SOURCES = {topic.name: topic for topic in (VIDEO_UPLOADS, MODEL_BUNDLES, ITEM_VECTORS)}


class BadRecord(NamedTuple):
    """A record that breaks the contract, and how."""

    record: Received
    error: DecodeError

    @property
    def is_failed_take_down(self) -> bool:
        """Whether the record was meant to take a video down: a bad key, or an empty value."""
        return self.record.topic == VIDEO_UPLOADS.name and not self.record.value


@dataclass(slots=True)
class Facts(Generic[E]):
    """The newest event of each video in a batch; None for a tombstone."""

    newest: dict[str, E | None] = field(default_factory=dict)
    bad: list[BadRecord] = field(default_factory=list)
    mended: Notes = field(default_factory=Counter)

    @property
    def given(self) -> list[E]:
        """The events without the tombstones, in the order of the records."""
        return [event for event in self.newest.values() if event is not None]

    @property
    def tombstones(self) -> list[str]:
        """The videos whose newest record is a tombstone."""
        return [video_id for video_id, event in self.newest.items() if event is None]


def read(record: Received, kind: type[E], notes: Notes | None = None) -> tuple[str, E | None]:
    """Return the video id of *record* and its event, or None for a tombstone.

    Raises:
        DecodeError: the record breaks the contract of its topic.
    """
    if record.value is None:
        video_id = tombstone_id(record.key, record.headers)
        check_place(record)
        return video_id, None
    topic = SOURCES[record.topic]
    event = decode(topic, kind, record.key, record.value, record.headers, notes)
    check_place(record)
    return getattr(event, topic.key_field), event


def newest_facts(records: Iterable[Received], kind: type[E]) -> Facts[E]:
    """Return the events in *records*; a later one of a video replaces an earlier one."""
    facts: Facts[E] = Facts()
    for record in records:
        try:
            video_id, event = read(record, kind, facts.mended)
        except DecodeError as error:
            facts.bad.append(BadRecord(record, error))
        else:
            facts.newest.pop(video_id, None)  # so that the order is that of the newest words
            facts.newest[video_id] = event
    return facts


def unreadable(facts: Facts[VideoUpload], committed: Mapping[int, int]) -> list[BadRecord]:
    """Return the bad records before the *committed* offsets that leave the catalogue incomplete.

    They are read again at each start and get no letter then: an older version may have taken them
    in. Those are left out whose video a later good record has put right, or whose key is not text.
    """
    return [
        bad
        for bad in facts.bad
        if bad.record.offset < committed.get(bad.record.partition, 0)
        and _is_missed(bad, facts.newest)
    ]


def _is_missed(bad: BadRecord, newest: Mapping[str, VideoUpload | None]) -> bool:
    try:
        video_id = (bad.record.key or b"").decode()
    except UnicodeDecodeError:
        return False
    if bad.is_failed_take_down:
        return newest.get(video_id) is not None
    return bool(video_id) and video_id not in newest


def next_offsets(records: Iterable[Received]) -> dict[int, int]:
    """Return, for each partition in *records*, the first offset after them."""
    return {record.partition: record.offset + 1 for record in records}
