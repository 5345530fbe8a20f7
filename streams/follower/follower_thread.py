"""Follow the topics of `streams.follower.follower` in a thread, until the worker stops."""

from collections.abc import Callable

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message

from contract.kafka.records import Position, Received, received
from contract.kafka.topic_reader import TopicReader
from contract.process.memory import give_back_memory
from contract.wire.topics import (
    HOTTEST_VIDEOS,
    ITEM_VECTORS,
    MODEL_BUNDLES,
    SIMILAR_VIDEOS,
    VIDEO_UPLOADS,
    Layout,
)
from streams.follower.catch_up import CatchUp, Place
from streams.follower.follower import Follower

log = structlog.get_logger()


class FollowerThread:
    """Feeds a `Follower` from the broker until it is stopped.

    The announcements are read first, to their end, so that it is known which vectors are wanted;
    *consumer* must report the end of a partition (``enable.partition.eof``).
    """

    def __init__(
        self,
        consumer: Consumer,
        layout: Layout,
        follower: Follower,
        *,
        monotonic: Callable[[], float],
        catch_up: CatchUp | None = None,
    ) -> None:
        self._catch_up = catch_up or CatchUp()
        self._monotonic = monotonic
        self._layout = layout
        self._follower = follower
        self._reader = TopicReader(consumer, layout, on_error=_note_error)
        self._start = {
            Position(topic.name, number): OFFSET_BEGINNING
            for topic in follower.topics
            for number in range(layout.num_partitions(topic))
        }
        self._catch_up.expect([self._place(at) for at in self._start])
        bundles = {at: first for at, first in self._start.items() if at.topic == MODEL_BUNDLES.name}
        self._reader.assign(bundles)
        self._polled: dict[Position, int] = {}
        self._next: dict[Position, int] = {}

    def run(self, should_stop: Callable[[], bool], *, first_read_s: float = 0.0) -> None:
        """Follow until *should_stop*; no bundle before all is read, or *first_read_s* are over.

        So a restarted worker knows what was taken down before its first bundle serves, or, where
        there is much to read or a partition has no leader, most of it.
        """
        started_s = self._monotonic()
        try:
            while self._catch_up.is_unread(self._layout.name(MODEL_BUNDLES)) and not should_stop():
                self._take_some()
            self._reader.assign(self._start)  # the few announcements are read once more
            first_read_until_s = self._monotonic() + first_read_s
            while not should_stop():
                self._take_some()
                is_read = not self._catch_up.is_unread()
                may_swap = is_read or self._monotonic() >= first_read_until_s
                if may_swap and self._follower.swap_if_newer():
                    give_back_memory()  # of the bundle's files, the oldest generation: 1 ms
                if is_read and not self._catch_up.is_over:
                    log.info("catalogue_read", read_ms=round(1e3 * (self._monotonic() - started_s)))
                    self._catch_up.end()
        finally:
            self._reader.close()

    def _behind(self) -> dict[Position, int]:
        """Return how many records of each partition are not applied.

        Those in hand count: the reader takes a partition for read that it has given all of.
        """
        applied, polled = self._next, self._polled
        return {
            at: max(count, polled.get(at, 0) - applied.get(at, 0))
            for at, count in self._reader.num_behind(applied).items()
        }

    def _take_some(self) -> None:
        messages = self._reader.poll(within_s=0.1)
        for message in messages:
            self._polled[self._reader.position(message)] = (message.offset() or 0) + 1
        self._follower.metrics.note_lag(self._behind())
        with self._follower.together():
            for message in messages:
                self._take(message)
        self._follower.metrics.note_lag(self._behind())
        for at in self._reader.ends:
            self._catch_up.note_end(self._place(at))
        if not self._catch_up.is_unread(self._layout.name(VIDEO_UPLOADS)):
            self._follower.take_down_withheld()

    def _take(self, message: Message) -> None:
        record = received(message, self._layout)
        self._apply(record)
        self._next[record.at] = record.offset + 1
        self._follower.metrics.done_ms[record.at] = record.ingested_at_ms

    def _apply(self, record: Received) -> None:
        self._catch_up.note_record(
            self._place(record.at), record.offset, lambda: self._reader.cached_end(record.at)
        )
        if record.partition != record.home:  # index_sync keeps it as a dead letter
            self._follower.counts[f"{record.topic}:misplaced"] += 1
            return
        take = {
            MODEL_BUNDLES.name: self._follower.on_announcement,
            VIDEO_UPLOADS.name: self._follower.on_upload,
            ITEM_VECTORS.name: self._follower.on_item_vector,
            SIMILAR_VIDEOS.name: self._follower.on_similar,
            HOTTEST_VIDEOS.name: self._follower.on_hottest,
        }[record.topic]
        take(record.key, record.value, record.headers)
        if record.topic == ITEM_VECTORS.name:
            self._follower.metrics.note_vector(record.ingested_at_ms)

    def _place(self, at: Position) -> Place:
        return self._layout.prefix + at.topic, at.partition


def _note_error(at: Position, error: KafkaError) -> bool:
    """Log *error*: the worker goes on, and serves what else there is."""
    log.warning("fetch_failed", topic=at.topic, partition=at.partition, reason=error.str())
    return True
