"""Read a changelog to its end, for the windows of a partition as last published.

The end is the high-water mark inside the fetch responses, which librdkafka reports as
end-of-partition. An end that is asked for beforehand can be too low by then, and a rebuild that
stops early is an unseen loss.

Two kinds of keys: a user id, whose record is the window (null: erased), and that of an erasure
marker (`models.history.erasure`), which stays after the user is erased and holds a hash, no id.
"""

from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple

from confluent_kafka import Consumer, Message

from contract.kafka.client import consumer_config, read_to_end
from contract.kafka.records import Position
from contract.kafka.topic_reader import TopicReader
from contract.process.settings import KafkaSettings
from contract.wire.topics import WINDOWS
from models.history.erasure import is_marker_key, marker_in


class LoggedWindow(NamedTuple):
    """One record of the changelog; *record* is None for a tombstone."""

    partition: int
    offset: int
    key: bytes
    record: bytes | None

    @property
    def marker(self) -> bytes | None:
        """The hash that an erasure marker is kept under; None for the window of a user."""
        return marker_in(self.key) if is_marker_key(self.key) else None


class Changelog:
    """One compacted topic, read partition by partition from given offsets, by one thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group_id: str,
        patience_s: float = 30.0,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        # our records belong to no transaction, and one that a stranger left open must not hide them
        self._config = read_to_end(consumer_config(settings, group_id=group_id)) | {
            "isolation.level": "read_uncommitted"
        }
        self._layout = settings.layout
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._reader: TopicReader | None = None

    def read(
        self,
        start: Mapping[int, int],
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[LoggedWindow]:
        """Yield every record of the partitions in *start*, from their offsets to their ends.

        Or fewer, once *should_stop*.

        Raises:
            BrokerUnavailable: nothing came for the whole of the patience.
        """
        if not start:
            return
        if self._reader is None:
            self._reader = TopicReader(
                Consumer(self._config),
                self._layout,
                patience_s=self._patience_s,
                monotonic=self._monotonic,
            )
        reader = self._reader
        reader.assign({Position(WINDOWS.name, p): offset for p, offset in start.items()})
        try:
            for message in reader.read(should_stop=should_stop):
                if message.key() is not None:  # a record of a stranger: nobody's window
                    yield _logged(message)
        finally:
            reader.unassign()


def _logged(message: Message) -> LoggedWindow:
    key, record = message.key(), message.value()
    partition, offset = message.partition(), message.offset()
    assert key is not None
    assert partition is not None
    assert offset is not None
    return LoggedWindow(partition, offset, key, record)
