"""Reading a changelog to its end: what a partition's windows were when last published.

The end is the high-water mark inside the fetch responses, which librdkafka reports as
end-of-partition. An end that is asked for beforehand can be too low by then, and a rebuild that
stops early is a loss nobody sees.

Two kinds of keys: a user id, whose record is the window (null: erased), and that of a *seal*
(`models.seals`), which outlives the erased user without naming him.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from contract.errors import BrokerUnavailable
from contract.kafka import consumer_config, failure, is_retriable, read_to_end, take
from contract.settings import KafkaSettings
from models.seals import is_seal, seal_in


class LoggedWindow(NamedTuple):
    """One record of the changelog; *record* is None for a tombstone."""

    partition: int
    offset: int
    key: bytes
    record: bytes | None

    @property
    def seal(self) -> bytes | None:
        """The hash that a seal is kept under; None for the window of a user."""
        return seal_in(self.key) if is_seal(self.key) else None


class Changelog:
    """One compacted topic, read partition by partition from given offsets, by one thread."""

    def __init__(
        self, settings: KafkaSettings, topic: str, *, group_id: str, patience_s: float = 30.0
    ) -> None:
        # our records belong to no transaction, and one that a stranger left open must not hide them
        self._config = read_to_end(consumer_config(settings, group_id=group_id)) | {
            "isolation.level": "read_uncommitted"
        }
        self._topic = topic
        self._patience_s = patience_s
        self._consumer: Consumer | None = None

    def read(
        self,
        start: Mapping[int, int],
        *,
        monotonic: Callable[[], float],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[LoggedWindow]:
        """Yield every record of the partitions in *start*, from their offsets to their ends.

        Or fewer, once *should_stop*.

        Raises:
            BrokerUnavailable: nothing came for the whole of the patience.
        """
        if not start:
            return
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        consumer = self._consumer
        consumer.assign([TopicPartition(self._topic, p, o) for p, o in start.items()])
        try:
            open_partitions = set(start)
            heard_at = monotonic()
            while open_partitions and not should_stop():
                for message in take(consumer, 500, within_s=0.2):
                    error = message.error()
                    if error is not None and is_retriable(error):
                        continue  # librdkafka repeats the request; the patience is the bound
                    heard_at = monotonic()
                    if error is None:
                        if message.key() is not None:  # a record of a stranger: nobody's window
                            yield _logged(message)
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                        open_partitions.discard(message.partition())
                    else:
                        raise failure(error, self._topic)
                if monotonic() - heard_at > self._patience_s:
                    raise BrokerUnavailable(f"{self._topic}: silent for {self._patience_s} s")
        finally:
            consumer.unassign()


def _logged(message: Message) -> LoggedWindow:
    key, record = message.key(), message.value()
    partition, offset = message.partition(), message.offset()
    assert key is not None
    assert partition is not None
    assert offset is not None
    return LoggedWindow(partition, offset, key, record)
