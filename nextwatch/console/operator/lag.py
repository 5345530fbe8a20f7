"""Count what streams and trainer have not read yet, by partition."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec
from confluent_kafka import Consumer, TopicPartition

from contract.cluster.needs import group_of
from contract.kafka.client import consumer_config
from contract.process.settings import KafkaSettings
from contract.wire.topics import TOPICS, WINDOWS
from nextwatch.unread import committed_by, unread_of

APPS = ("streams", "trainer")
_WITHIN_S = 5.0


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """How many records of a partition *app* has not committed; None if it never has."""

    app: str
    topic: str
    partition: int
    records: int | None


class LagReader:
    """Asks the broker for the offsets of both groups; one thread at a time may ask."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumers: dict[str, Consumer] = {}

    def read(self) -> list[PartitionLag]:
        """Return the lag of every partition of the topics of users.

        Raises:
            BrokerUnavailable: nobody answers.
        """
        return [lag for app in APPS for lag in self._of(app)]

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers.values():
            with suppress(RuntimeError):  # it is closed
                consumer.close()

    def _of(self, app: str) -> Iterator[PartitionLag]:
        layout = self._kafka.layout
        if app not in self._consumers:
            config = consumer_config(self._kafka, group_id=group_of(app, layout))
            self._consumers[app] = Consumer(config | {"log_level": 0})
        consumer = self._consumers[app]
        asked = [
            TopicPartition(layout.name(topic), number)
            for topic in TOPICS
            if topic.key_field == "user_id" and app in topic.consumers and topic is not WINDOWS
            for number in range(layout.num_partitions(topic))
        ]
        for at in committed_by(consumer, asked, within_s=_WITHIN_S):
            yield PartitionLag(
                app=app,
                topic=at.topic.removeprefix(layout.prefix),
                partition=at.partition,
                records=None if at.offset < 0 else unread_of(consumer, at, within_s=_WITHIN_S),
            )
