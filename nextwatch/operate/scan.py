"""Read whole topics: every partition from its beginning to its present end.

The end of a partition is the one that fetch responses tell (librdkafka's end-of-partition),
never the one of ListOffsets, which some brokers answer too low. Records are handed on one by one
and none is kept, so a topic may be as long as it likes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import consumer_config, read_to_end
from contract.kafka.records import Position, Received, received
from contract.kafka.topic_reader import OnError, TopicReader, TopicSilentError, is_out_of_range
from contract.process.settings import KafkaSettings
from contract.wire.topics import Layout
from nextwatch.acls import operator_group

_NEVER = 2**63

Ends = dict[Position, int]
"""Of each partition, the offset behind its last record."""


class Scan:
    """Reads topics by their contract names; *on_progress* gets the number of records read."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        monotonic: Callable[[], float],
        on_progress: Callable[[int], None] = lambda _count: None,
        patience_s: float = 15.0,
        group: str = "",
        is_committed: bool = True,
    ) -> None:
        """Read by the operator's consumer group, which is never joined, or by *group*.

        Unless *is_committed*, records of transactions that are open, or were aborted, are read,
        too.
        """
        self._kafka = kafka
        self._monotonic = monotonic
        self._on_progress = on_progress
        self._patience_s = patience_s
        self._isolation = "read_committed" if is_committed else "read_uncommitted"
        self._group = group or operator_group(kafka.layout)
        self._num_read = 0
        self.ends: Ends = {}
        self.unsettled: Ends = {}
        """Of each partition that ends in an open transaction, how many offsets that hides."""

    def read(
        self,
        topics: Sequence[str],
        until: Mapping[Position, int] = {},
        *,
        is_wanted: Callable[[Position], bool] = lambda _at: True,
    ) -> Iterator[Received]:
        """Yield every record of *topics*; of partitions in *until* only those before that offset.

        Partitions that are not *is_wanted* are left out.

        When it is through, `ends` has where each partition ended. Records of transactions that are
        open, or were aborted, are left out; where one is open, `unsettled` says so.

        Raises:
            BrokerUnavailable: nobody answers, or no longer.
            ContractError: a topic does not exist.
        """
        self.ends, self.unsettled = {}, {}
        with self._reader() as reader:
            places = filter(is_wanted, self._places(reader, topics))
            reader.assign(dict.fromkeys(places, OFFSET_BEGINNING))
            for record in self._read(reader, until):
                if record.offset < min(
                    until.get(record.at, _NEVER), reader.ends.get(record.at, _NEVER)
                ):
                    self._count()
                    yield record
            self.ends = dict(reader.ends)
            self.unsettled = {
                at: hidden for at, hidden in reader.hidden.items() if hidden and at not in until
            }

    def one(self, at: Position, offset: int) -> Received | None:
        """Return the record at *offset*; None if it does not exist (any longer).

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        missing: list[Position] = []

        def note_missing(at: Position, error: KafkaError) -> bool:
            if is_out_of_range(error):
                missing.append(at)
            return is_out_of_range(error)

        with self._reader(after_loss="error", on_error=note_missing) as reader:
            if at not in self._places(reader, [at.topic]):
                return None
            reader.assign({at: offset})
            waited_since_s = self._monotonic()
            while self._monotonic() - waited_since_s < self._patience_s:
                for message in reader.poll(1, within_s=0.1):
                    record = received(message, self._kafka.layout)
                    return record if record.offset == offset else None
                is_behind_the_end = 0 <= reader.cached_end(at) <= offset
                if missing or reader.ends or is_behind_the_end:  # not every broker tells the end
                    return None
        raise self._silent()

    def partitions(self, topic: str) -> list[Position]:
        """Return every partition of *topic*.

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        with self._reader() as reader:
            return self._places(reader, [topic])

    @contextmanager
    def from_now_on(self, topic: str) -> Iterator["TopicWatcher"]:
        """Yield a watcher for records that come to *topic* from now on.

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        with self._reader() as reader:
            reader.assign(dict.fromkeys(self._places(reader, [topic]), OFFSET_END))
            for _ in self._read(reader):  # the end that was assigned may lie too low
                pass
            yield TopicWatcher(reader, self._kafka.layout, self._monotonic)

    @contextmanager
    def _reader(
        self, *, after_loss: str = "earliest", on_error: OnError = lambda _at, _error: False
    ) -> Iterator[TopicReader]:
        """Give a reader; *after_loss* is for records that retention takes while it reads."""
        config = read_to_end(consumer_config(self._kafka, group_id=self._group)) | {
            "auto.offset.reset": after_loss,
            "isolation.level": self._isolation,
            "log_level": 0,
        }
        reader = TopicReader(
            Consumer(config),
            self._kafka.layout,
            patience_s=self._patience_s,
            monotonic=self._monotonic,
            on_error=on_error,
        )
        with closing(reader):
            yield reader

    def _read(self, reader: TopicReader, until: Mapping[Position, int] = {}) -> Iterator[Received]:
        try:
            for message in reader.read(until=until):
                yield received(message, self._kafka.layout)
        except TopicSilentError as error:
            raise self._silent() from error

    def _places(self, reader: TopicReader, topics: Sequence[str]) -> list[Position]:
        try:
            return reader.partitions(topics, within_s=self._patience_s)
        except BrokerUnavailable as error:
            raise self._silent() from error
        except ContractError as error:
            raise ContractError(
                f"{error}; NEXTWATCH_KAFKA_TOPIC_PREFIX names the prefix of the topics at "
                f"{self._kafka.bootstrap_servers}"
            ) from error

    def _count(self) -> None:
        self._num_read += 1
        if self._num_read % 1_000 == 0:
            self._on_progress(self._num_read)

    def _silent(self) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"no Kafka broker answered at {self._kafka.bootstrap_servers} for {self._patience_s:g} s: "
            "start it, or name another by NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
        )


class TopicWatcher:
    """Waits for new records; `Scan.from_now_on` creates one."""

    def __init__(self, reader: TopicReader, layout: Layout, monotonic: Callable[[], float]) -> None:
        self._reader = reader
        self._layout = layout
        self._monotonic = monotonic

    def wait_for(self, is_it: Callable[[Received], bool], *, within_s: float) -> bool:
        """Return whether a record that satisfies *is_it* came within *within_s* seconds."""
        deadline_s = self._monotonic() + within_s
        while (left_s := deadline_s - self._monotonic()) > 0:
            for message in self._reader.poll(within_s=min(left_s, 0.2)):
                if is_it(received(message, self._layout)):
                    return True
        return False
