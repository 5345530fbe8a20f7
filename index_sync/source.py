"""Read all partitions of one topic without joining a consumer group.

There is one `index_sync` by design: a single writer per collection is what makes the order of
its writes the order of the topic. So partitions are assigned, not subscribed to, which saves
the seconds that joining a group takes; the group id only names where offsets are committed.
"""

from collections.abc import Mapping
from functools import partial

from confluent_kafka import OFFSET_BEGINNING, Consumer

from contract.cluster.needs import group_of
from contract.kafka.client import (
    check_partitions,
    consumer_config,
    read_to_end,
    retried,
)
from contract.kafka.records import Position, Received, received
from contract.kafka.topic_reader import TopicReader
from contract.process.settings import KafkaSettings
from contract.wire.topics import Topic

END_WITHIN_MS = 100
ANSWER_S = 30.0
"""How long the broker may take to answer at the start, or to take a commit."""


class Source:
    """A consumer of one topic; call `open` first."""

    def __init__(self, settings: KafkaSettings, topic: Topic) -> None:
        config = consumer_config(settings, group_id=group_of("index_sync", settings.layout))
        config = read_to_end(config, within_ms=END_WITHIN_MS) | {
            "max.poll.interval.ms": 86_400_000,  # it may wait for the index for long
        }
        self._consumer = Consumer(config)
        self._layout = settings.layout
        self._name = settings.layout.name(topic)
        self._reader = TopicReader(self._consumer, settings.layout, patience_s=ANSWER_S)
        self._topic = topic.name
        self.committed: dict[int, int] = {}
        self._next: dict[Position, int] = {}
        self.newest_ms: dict[Position, int] = {}
        """By partition the timestamp of the newest record that was taken."""

    def open(self, *, from_beginning: bool) -> None:
        """Start reading, at the beginning or at the committed offsets.

        Raises:
            ContractError: there is no such topic.
            BrokerUnavailable: the broker did not answer within `ANSWER_S`.
        """
        partitions = self._reader.partitions([self._topic], within_s=ANSWER_S)
        asked = [self._reader.place(at) for at in partitions]
        answered = retried(
            lambda left_s: check_partitions(self._consumer.committed(asked, timeout=left_s)),
            within_s=ANSWER_S,
        )
        self.committed = {at.partition: at.offset for at in answered if at.offset >= 0}
        known = {} if from_beginning else self.committed
        start = {at: known.get(at.partition, OFFSET_BEGINNING) for at in partitions}
        self._reader.assign(start)

    def cluster_id(self) -> str:
        """Return the id of the Kafka cluster.

        Raises:
            BrokerUnavailable: the broker did not answer within `ANSWER_S`.
        """
        asked = partial(self._consumer.list_topics, self._name)
        listed = retried(lambda left_s: asked(timeout=left_s), within_s=ANSWER_S)
        return str(listed.cluster_id or "")

    def read_to_end(self) -> list[Received]:
        """Return all records from where it was opened up to the present end of the topic.

        The end is the one that fetch answers tell, since a broker's ListOffsets may be behind.

        Raises:
            BrokerUnavailable: nothing came for `ANSWER_S` before the end was reached.
        """
        return self._noted([received(message, self._layout) for message in self._reader.read()])

    def take(self, count: int, *, wait_s: float = 0.0) -> list[Received]:
        """Return up to *count* records; wait only for the first one.

        Raises:
            BrokerUnavailable: the client gave up on the broker.
            ContractError: a right is missing.
        """
        messages = self._reader.poll(count, within_s=wait_s)
        return self._noted([received(message, self._layout) for message in messages])

    def num_behind(self) -> dict[Position, int]:
        """Return how many offsets of each partition were not taken, as far as its end is known."""
        return self._reader.num_behind(self._next)

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commit *next_offsets*, by partition, and wait for the acknowledgement.

        Raises:
            BrokerUnavailable: the broker did not take them within `ANSWER_S`.
        """
        if not next_offsets:
            return
        offsets = [
            self._reader.place(Position(self._topic, number), offset)
            for number, offset in next_offsets.items()
        ]

        def commit(_left_s: float) -> None:
            check_partitions(self._consumer.commit(offsets=offsets, asynchronous=False) or ())

        retried(commit, within_s=ANSWER_S, what=self._name)
        self.committed |= next_offsets

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()

    def _noted(self, records: list[Received]) -> list[Received]:
        for record in records:
            self._next[record.at] = record.offset + 1
            self.newest_ms[record.at] = record.ingested_at_ms
        return records
