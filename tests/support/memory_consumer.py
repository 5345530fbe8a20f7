"""The double of a confluent-kafka consumer; the suite of the topic reader runs over both."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError

from tests.support.builders import T0

MARKER = object()
"""An offset that a transaction marker has: no record lies there."""


@dataclass
class MemoryLog:
    """One partition: records as (key, value), or `MARKER`; *first* is the oldest offset left."""

    records: list = field(default_factory=list)
    first: int = 0

    @property
    def end(self):
        return len(self.records)


@dataclass
class MemoryMessage:
    """A record, or an error, as confluent-kafka gives them."""

    place: tuple
    at: int
    record: tuple = (None, None)
    failure: KafkaError | None = None

    def topic(self):
        return self.place[0]

    def partition(self):
        return self.place[1]

    def offset(self):
        return self.at

    def key(self):
        return self.record[0]

    def value(self):
        return self.record[1]

    def headers(self):
        return None

    def timestamp(self):
        return 1, T0

    def error(self):
        return self.failure


class MemoryConsumer:
    """Reads *logs*, which are by full topic name and partition, as a broker would give them.

    It tells the end of a partition whenever it reaches one. *errors* come before any record; with
    *is_away* nothing comes at all.
    """

    def __init__(self, logs, *, after_loss="earliest"):
        self.logs = logs
        self.errors = []
        self.is_away = False
        self.is_closed = False
        self._after_loss = after_loss
        self._next = {}
        self._told = set()

    def list_topics(self, name, timeout):
        numbers = {number: None for topic, number in self.logs if topic == name}
        described = {name: SimpleNamespace(error=None, partitions=numbers)} if numbers else {}
        return SimpleNamespace(topics=described, cluster_id="memory")

    def assign(self, places):
        self._next = {}
        self.incremental_assign(places)

    def unassign(self):
        self._next = {}

    def incremental_assign(self, places):
        for place in places:
            at = place.topic, place.partition
            self._next[at] = self._start(self.logs[at], place.offset)
            self._told.discard(at)

    def incremental_unassign(self, places):
        for place in places:
            self._next.pop((place.topic, place.partition), None)

    def poll(self, _timeout_s):
        if self.errors:
            at, code = self.errors.pop(0)
            return MemoryMessage(at, -1, failure=KafkaError(code))
        if self.is_away:
            return None
        found = (self._poll_one(at) for at in list(self._next))
        return next((message for message in found if message is not None), None)

    def consume(self, most, timeout):
        messages = []
        while len(messages) < most and (message := self.poll(timeout)) is not None:
            messages.append(message)
        return messages

    def get_watermark_offsets(self, place, *, cached=False, timeout=None):
        log = self.logs[place.topic, place.partition]
        return log.first, log.end

    def close(self):
        self.is_closed = True

    def _start(self, log, offset):
        return {OFFSET_BEGINNING: log.first, OFFSET_END: log.end}.get(offset, offset)

    def _poll_one(self, at):
        log = self.logs[at]
        if not log.first <= self._next[at] <= log.end:
            if self._after_loss == "error":
                del self._next[at]
                return MemoryMessage(at, -1, failure=KafkaError(KafkaError._AUTO_OFFSET_RESET))
            self._next[at] = log.first
        while self._next[at] < log.end:
            offset, self._next[at] = self._next[at], self._next[at] + 1
            if log.records[offset] is not MARKER:
                self._told.discard(at)
                return MemoryMessage(at, offset, log.records[offset])
        if at in self._told:
            return None
        self._told.add(at)
        return MemoryMessage(at, log.end, failure=KafkaError(KafkaError._PARTITION_EOF))
