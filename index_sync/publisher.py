"""What this process tells others: vectors, tombstones, announcements, dead letters.

Sending only queues. `settle` waits for the broker's word on everything sent, and only after
it may an offset be committed.
"""

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from contract import dead_letters, events
from contract.clock import Clock
from contract.errors import BrokerUnavailable
from contract.kafka import producer_config
from contract.settings import KafkaSettings
from contract.topics import ITEM_VECTORS, MODEL_BUNDLES
from index_sync.records import BadRecord

APP = "index_sync"
SETTLE_S = 35.0  # a little more than the producer's own delivery timeout
LINGER_MS = 2.0


class Publisher:
    """A producer that answers for every record."""

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        self._producer = Producer(producer_config(settings, linger_ms=LINGER_MS))
        self._layout = settings.layout
        self._clock = clock
        self._failed: list[KafkaError] = []

    def vectors(self, vectors: list[events.ItemVector]) -> None:
        """Send item vectors."""
        name = self._layout.name(ITEM_VECTORS)
        for vector in vectors:
            self._send(name, vector.video_id.encode(), events.encode(vector))

    def tombstones(self, video_ids: Iterable[str]) -> None:
        """Send, for each video, the word that it has no vector any more."""
        name = self._layout.name(ITEM_VECTORS)
        for video_id in video_ids:
            self._send(name, video_id.encode(), None)

    def announcement(self, announcement: events.BundleAnnouncement) -> None:
        """Send how far a bundle has come."""
        key = announcement.bundle_id.encode()
        self._send(self._layout.name(MODEL_BUNDLES), key, events.encode(announcement))

    def dead_letter(self, bad: BadRecord) -> None:
        """Send a bad record, whole, to the dead-letter topic beside its own."""
        record = bad.record
        headers = dead_letters.headers(
            bad.error,
            topic=self._layout.name(record.topic),
            partition=record.partition,
            offset=record.offset,
            app=APP,
            now_ms=self._clock(),
            value=record.value,
            original=record.headers,
        )
        value = dead_letters.kept_value(record.value)
        self._send(self._layout.dlq_name(record.topic), record.key, value, headers)

    def settle(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            BrokerUnavailable: something was not, in time or for good.
        """
        waiting = self._producer.flush(SETTLE_S)
        failed, self._failed = self._failed, []
        if waiting or failed:
            why = str(failed[0]) if failed else "no answer"
            raise BrokerUnavailable(f"{waiting + len(failed)} records not acknowledged: {why}")

    def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[dead_letters.Header] | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key, headers=headers or [], on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: wait until some are gone
            else:
                return

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error)
