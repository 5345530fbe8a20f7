"""Reading a changelog to its end: what a partition's windows were when last published.

The end is the high-water mark inside the fetch responses, which librdkafka reports as
end-of-partition: an end asked for by ListOffsets can be too low (Tansu answers the base of
the last batch), and a rebuild that stops early is a loss nobody sees.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from contract.errors import BrokerUnavailable
from contract.kafka import consumer_config, take
from contract.settings import KafkaSettings


class LoggedWindow(NamedTuple):
    """One record of the changelog; *record* is None for a tombstone."""

    partition: int
    offset: int
    user_id: str
    record: bytes | None


class Changelog:
    """One compacted topic, read partition by partition from given offsets."""

    def __init__(
        self, settings: KafkaSettings, topic: str, *, group_id: str, patience_s: float = 30.0
    ) -> None:
        self._config = consumer_config(settings, group_id=group_id) | {
            "enable.partition.eof": True,
        }
        self._topic = topic
        self._patience_s = patience_s

    def read(
        self, start: Mapping[int, int], *, monotonic: Callable[[], float]
    ) -> Iterator[LoggedWindow]:
        """Yield every record of the partitions in *start*, from their offsets to their ends.

        Raises:
            BrokerUnavailable: nothing came for the whole of the patience.
        """
        consumer = Consumer(self._config)
        try:
            consumer.assign([TopicPartition(self._topic, p, o) for p, o in start.items()])
            open_partitions = set(start)
            heard_at = monotonic()
            while open_partitions:
                for message in take(consumer, 500, within_s=0.2):
                    heard_at = monotonic()
                    error = message.error()
                    if error is None:
                        yield _logged(message)
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                        open_partitions.discard(message.partition())
                    else:
                        raise BrokerUnavailable(f"{self._topic}: {error.str()}")
                if monotonic() - heard_at > self._patience_s:
                    raise BrokerUnavailable(f"{self._topic}: silent for {self._patience_s} s")
        finally:
            consumer.close()


def _logged(message: Message) -> LoggedWindow:
    key, record = message.key(), message.value()
    partition, offset = message.partition(), message.offset()
    assert key is not None, "streams writes the user id as the key"
    assert partition is not None
    assert offset is not None
    return LoggedWindow(partition, offset, key.decode(), record)
