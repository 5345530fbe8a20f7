"""Send events to the broker: each is checked, keyed, sent and acknowledged.

Nothing that breaks the contract leaves this process: each event is decoded back by the rules
that its readers apply, and what they would refuse is counted and skipped. Nothing counts as
sent before the broker has acknowledged it; the first record that it refuses ends the source
with an error. A record's own timestamp stays the time of sending, because the retention of a
topic goes by it: a replayed event of 2022 must not be deleted on arrival.
"""

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from confluent_kafka import Producer

from contract.cluster.preflight import Preflight
from contract.errors import BrokerUnavailable, DecodeError, NextwatchError
from contract.kafka.client import ClientConfig, failure, producer_config
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode
from contract.wire.events import Event, Impressions, Search, VideoUpload, Watch, encode
from contract.wire.topics import (
    IMPRESSIONS,
    SEARCH_EVENTS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    WINDOWS,
    Layout,
    Topic,
)
from nextwatch.acls import feed_needs
from nextwatch.sources.pacing import EvenPace
from nextwatch.sources.totals import Totals

TOPIC_OF: dict[type[Event], Topic] = {
    Watch: WATCH_EVENTS,
    Search: SEARCH_EVENTS,
    Impressions: IMPRESSIONS,
    VideoUpload: VIDEO_UPLOADS,
}
CATALOGUE_PER_S = 3_000
MAX_IN_FLIGHT = 10_000
TICK_S = 0.05  # how long a signal may have to wait for its answer
ANSWER_WITHIN_S = 10.0
LOG_CRITICAL = 2  # librdkafka repeats each refused connection on stderr; our errors say it once


class EventFeed:
    """A producer that counts events and can be stopped.

    Args:
        producer: a confluent-kafka producer.
        layout: how topics are named on its cluster.
        stop: set by a signal; waiting and sending end soon after.
    """

    def __init__(self, producer: Producer, layout: Layout, stop: threading.Event) -> None:
        self.producer = producer
        self.layout = layout
        self.stop = stop
        self.totals = Totals()
        self.failures: list[NextwatchError] = []

    def send(self, event: Event) -> bool:
        """Send *event*; return False, and count the reason, if the contract rejects it.

        Raises:
            BrokerUnavailable: an earlier record was not acknowledged in time.
        """
        topic = TOPIC_OF[type(event)]
        key, value = str(getattr(event, topic.key_field)).encode(), encode(event)
        try:
            decode(topic, type(event), key, value)
        except DecodeError as error:
            self.totals.skipped[error.reason] += 1
            return False
        self._produce(topic, key, value)
        self.totals.count(event)
        return True

    def wait_until(self, due_s: float) -> None:
        """Handle acknowledgements until *due_s* on the monotonic clock, or until `stop` is set."""
        while (left_s := due_s - monotonic()) > 0 and not self.stop.is_set():
            self.producer.poll(min(left_s, TICK_S))

    def flush(self, within_s: float = ANSWER_WITHIN_S) -> None:
        """Wait until everything is acknowledged.

        Raises:
            BrokerUnavailable: something was not; the message says how much.
        """
        self._check(self.producer.flush(within_s))

    def load(self, uploads: Iterable[VideoUpload], tell: Callable[[Totals], None]) -> None:
        """Send a catalogue, at most `CATALOGUE_PER_S`, and wait until it is acknowledged."""
        pace = EvenPace(CATALOGUE_PER_S)
        with self.totals.timed():
            for upload in uploads:
                if self.stop.is_set():
                    break
                self.wait_until(pace.due_s(now_s=monotonic()))
                self.send(upload)
                tell(self.totals)
        self.flush()

    def backfill(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write history windows, user id and record, and wait until they are acknowledged.

        Raises:
            BrokerUnavailable: something was not; the message says how much.
        """
        for key, value in records:
            if self.stop.is_set():
                break
            self._produce(WINDOWS, key, value)
            self.totals.windows += 1
        self.flush()

    def _produce(self, topic: Topic, key: bytes, value: bytes) -> None:
        while len(self.producer) >= MAX_IN_FLIGHT and not self.failures:
            self.producer.poll(TICK_S)
        self._check()
        self.producer.produce(
            self.layout.name(topic), key=key, value=value, on_delivery=self._on_delivery
        )
        self.producer.poll(0)

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is None:
            self.totals.acknowledged += 1
        else:
            self.failures.append(failure(error, message.topic() or ""))

    def _check(self, left: int = 0) -> None:
        if self.failures or left:
            missing = self.totals.records - self.totals.acknowledged
            reason = self.failures[0] if self.failures else BrokerUnavailable("no answer in time")
            raise type(reason)(
                f"{missing} of {self.totals.records} records were not acknowledged: {reason}."
                " A replay bears the same event ids each time: once the broker is back, run it again"
            )


def connect(settings: KafkaSettings, stop: threading.Event) -> EventFeed:
    """Return a feed to the broker of *settings*, once it has answered and has the topics.

    Raises:
        BrokerUnavailable: no broker answers there.
        ContractError: topics or rights are missing, or the connection settings are refused.
    """
    Preflight(settings, feed_needs(settings.layout, is_past=False)).check_use()
    return EventFeed(Producer(quiet(producer_config(settings))), settings.layout, stop)


def quiet(config: ClientConfig) -> ClientConfig:
    """Return *config* for a command's client, whose stderr is read by a person."""
    return config | {"log_level": LOG_CRITICAL}
