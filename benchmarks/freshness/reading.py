"""Read topics of a stack in a thread, from their beginning, and keep the records."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from contract.kafka.client import consumer_config, take
from contract.kafka.records import Received, received
from contract.process.settings import KafkaSettings
from contract.wire.topics import Topic


class TopicTail:
    """The records of some topics so far, by the name of the topic, in the order they came."""

    def __init__(self, kafka: KafkaSettings, topics: Sequence[Topic]) -> None:
        layout = self._layout = kafka.layout
        self._consumer = Consumer(consumer_config(kafka, group_id=f"freshness-{uuid4()}"))
        self._consumer.assign(
            [
                TopicPartition(layout.name(topic), number, OFFSET_BEGINNING)
                for topic in topics
                for number in range(layout.num_partitions(topic))
            ]
        )
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="topic-tail")
        self.records: dict[str, list[Received]] = defaultdict(list)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._consumer.close()

    def of(self, topic: Topic) -> list[Received]:
        """Return the records of *topic* so far."""
        return list(self.records[topic.name])

    def _read(self) -> None:
        while not self._is_over.is_set():
            for message in take(self._consumer, 1_000, within_s=0.1):
                if message.error() is None:
                    record = received(message, self._layout)
                    self.records[record.topic].append(record)
