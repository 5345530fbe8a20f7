"""The reader of whole topics, over a real broker and over the double of its client."""

import os
from itertools import count

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import client_config, consumer_config, producer_config, read_to_end
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Position
from contract.kafka.topic_reader import TopicReader, TopicSilentError, is_out_of_range
from contract.process.settings import KafkaSettings
from contract.wire.topics import Layout
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from tests.support.memory_consumer import MARKER, MemoryConsumer, MemoryLog

TOPIC, OTHER = "watch-events", "search-events"
FIRST, SECOND = Position(TOPIC, 0), Position(TOPIC, 1)
_NUMBERS = count()


def seen(messages):
    """Return where each record is: partitions come in any order."""
    return sorted((message.partition(), message.offset()) for message in messages)


def drain(reader):
    """Return the records of the next answer that has some."""
    while not (messages := reader.poll(within_s=1)):
        pass
    return messages


class TopicReaderConformance:
    """Subclass it, and give a `broker` with two partitions in each topic."""

    def test_all_partitions_are_read_from_the_beginning_to_the_end(self, broker):
        """An empty topic included: its end is told, too."""
        broker.produce(FIRST, 3)
        broker.produce(SECOND, 1)
        reader = broker.reader()
        partitions = reader.partitions([TOPIC, OTHER], within_s=5)
        reader.assign(dict.fromkeys(partitions, OFFSET_BEGINNING))

        assert partitions == [FIRST, SECOND, Position(OTHER, 0), Position(OTHER, 1)]
        assert seen(reader.read()) == [(0, 0), (0, 1), (0, 2), (1, 0)]
        assert reader.unread == frozenset()
        assert reader.ends == dict(zip(partitions, (3, 1, 0, 0), strict=True))

    def test_a_partition_is_read_from_the_offset_that_is_given(self, broker):
        broker.produce(FIRST, 5)
        broker.produce(SECOND, 5)
        reader = broker.reader()
        reader.assign({FIRST: 3, SECOND: 5})

        assert seen(reader.read()) == [(0, 3), (0, 4)]

    def test_records_after_the_end_are_followed(self, broker):
        broker.produce(FIRST, 1)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_BEGINNING})
        list(reader.read())
        broker.produce(FIRST, 1)

        assert seen(drain(reader)) == [(0, 1)]
        assert (reader.unread, reader.ends) == (frozenset(), {FIRST: 1})

    def test_a_second_assignment_starts_over(self, broker):
        broker.produce(FIRST, 2)
        reader = broker.reader()
        for _ in range(2):
            reader.assign({FIRST: OFFSET_BEGINNING, SECOND: OFFSET_BEGINNING})

            assert reader.unread == {FIRST, SECOND}
            assert seen(reader.read()) == [(0, 0), (0, 1)]

    def test_a_reader_from_the_end_reads_only_later_records(self, broker):
        broker.produce(FIRST, 2)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_END})
        before = list(reader.read())
        broker.produce(FIRST, 1)

        assert (before, seen(drain(reader))) == ([], [(0, 2)])

    def test_a_transaction_marker_at_the_end_holds_nothing_up(self, broker):
        """No record has the last offset: whoever waits for one waits for ever."""
        broker.produce(FIRST, 1)
        broker.produce_transaction(FIRST)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_BEGINNING})

        assert seen(reader.read()) == [(0, 0), (0, 1)]
        assert reader.ends == {FIRST: 3}
        assert reader.cached_end(FIRST) == 3

    def test_what_lies_before_the_end_is_counted_and_no_transaction_marker(self, broker):
        """It is the lag: records that wait, and 0 for a reader that has them all."""
        broker.produce(FIRST, 4)
        broker.produce_transaction(FIRST)
        broker.produce(SECOND, 2)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_BEGINNING, SECOND: OFFSET_BEGINNING})
        list(reader.read())
        at_end = reader.num_behind({FIRST: 5, SECOND: 2})
        reader.assign({SECOND: OFFSET_BEGINNING})
        while not reader.poll(1, within_s=1):
            pass

        assert at_end == {FIRST: 0, SECOND: 0}
        assert reader.num_behind({SECOND: 1}) == {SECOND: 1}

    def test_a_partition_ends_at_the_first_record_beyond_a_bound(self, broker):
        """One that is written all the time may never be at its end."""
        broker.produce(FIRST, 4)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_BEGINNING})
        list(reader.read(until={FIRST: 2}))

        assert reader.ends == {FIRST: 2}

    def test_reading_stops_on_request(self, broker):
        broker.produce(FIRST, 2)
        reader = broker.reader()
        reader.assign({FIRST: OFFSET_BEGINNING})

        assert list(reader.read(should_stop=lambda: True)) == []
        assert reader.unread == {FIRST}

    def test_an_offset_out_of_range_is_reported_and_reading_continues_after_a_seek(self, broker):
        """Retention took the records; librdkafka has stopped reading the partition."""
        broker.produce(FIRST, 5)
        broker.delete(FIRST, before=3)
        told = []

        def note(at, error):
            if is_out_of_range(error):
                told.append(at)
                reader.seek(at, reader.first_offset(at, within_s=5))
            return is_out_of_range(error)

        reader = broker.reader(after_loss="error", on_error=note)
        reader.assign({FIRST: 1})

        assert seen(reader.read()) == [(0, 3), (0, 4)]
        assert told == [FIRST]

    def test_a_topic_that_does_not_exist_is_named_with_the_remedy(self, broker):
        with pytest.raises(ContractError, match=r"no topic .*nobody-made-it: `nextwatch topics`"):
            broker.reader().partitions(["nobody-made-it"], within_s=5)

    def test_a_silent_broker_is_an_error_after_the_patience(self, broker):
        broker.leave()
        reader = broker.reader(patience_s=0.3)
        reader.assign({FIRST: OFFSET_BEGINNING})

        with pytest.raises(TopicSilentError, match=f"{TOPIC}: silent for 0.3 s"):
            list(reader.read())


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    log_path = tmp_path_factory.mktemp("broker") / "broker.log"
    broker = EmbeddedBroker(env=dict(os.environ), log_path=log_path)
    broker.start()
    yield broker
    broker.child.stop()


class RealBroker:
    """Topics of one test on a real broker."""

    def __init__(self, bootstrap_servers):
        self.kafka = KafkaSettings(
            bootstrap_servers=bootstrap_servers,
            topic_prefix=f"t{next(_NUMBERS)}-",
            user_partitions=2,
            video_partitions=1,
            fetch_max_wait_ms=10,
        )
        reconcile(self.kafka)
        self._readers = []
        self._place = self.kafka.bootstrap_servers

    def reader(self, *, after_loss="earliest", **options):
        config = read_to_end(consumer_config(self.kafka, group_id="test")) | {
            "auto.offset.reset": after_loss,
            "bootstrap.servers": self._place,
            "log_level": 0,
        }
        reader = TopicReader(Consumer(config), self.kafka.layout, **options)
        self._readers.append(reader)
        return reader

    def produce(self, at, num_records):
        name = self.kafka.layout.prefix + at.topic
        outbox = Outbox(Producer(producer_config(self.kafka)))
        outbox.deliver([Outgoing(name, b"k", b"v", at.partition)] * num_records)

    def produce_transaction(self, at):
        producer = Producer(producer_config(self.kafka) | {"transactional.id": "test"})
        producer.init_transactions(10)
        producer.begin_transaction()
        name = self.kafka.layout.prefix + at.topic
        producer.produce(name, b"v", b"k", partition=at.partition)
        producer.commit_transaction(10)

    def delete(self, at, *, before):
        admin = AdminClient(client_config(self.kafka))
        place = Place(self.kafka.layout.prefix + at.topic, at.partition, before)
        for future in admin.delete_records([place]).values():
            future.result(10)

    def leave(self):
        self._place = "127.0.0.1:1"

    def close(self):
        for reader in self._readers:
            reader.close()


class MemoryBroker:
    """The same in memory."""

    def __init__(self):
        self.logs = {("x-" + topic, n): MemoryLog() for topic in (TOPIC, OTHER) for n in (0, 1)}
        self._is_away = False

    def reader(self, *, after_loss="earliest", **options):
        consumer = MemoryConsumer(self.logs, after_loss=after_loss)
        consumer.is_away = self._is_away
        passing = count()
        return TopicReader(
            consumer, Layout(prefix="x-"), monotonic=lambda: 0.2 * next(passing), **options
        )

    def produce(self, at, num_records):
        self.log(at).records += [(b"k", b"v")] * num_records

    def produce_transaction(self, at):
        self.log(at).records += [(b"k", b"v"), MARKER]

    def delete(self, at, *, before):
        self.log(at).first = before

    def leave(self):
        self._is_away = True

    def log(self, at):
        return self.logs["x-" + at.topic, at.partition]


@pytest.mark.slow
@pytest.mark.timeout(120)
class TestOnKafka(TopicReaderConformance):
    """On a real broker."""

    @pytest.fixture
    def broker(self, kafka):
        broker = RealBroker(kafka.bootstrap_servers)
        yield broker
        broker.close()


class TestInMemory(TopicReaderConformance):
    """On the double."""

    @pytest.fixture
    def broker(self):
        return MemoryBroker()


def told(*codes, on_error=lambda _at, _error: False):
    """Return a reader of one record whose client tells errors of *codes* before it."""
    consumer = MemoryConsumer({("x-" + TOPIC, 0): MemoryLog([(b"k", b"v")])})
    consumer.errors = [(("x-" + TOPIC, 0), code) for code in codes]
    reader = TopicReader(consumer, Layout(prefix="x-"), on_error=on_error)
    reader.assign({FIRST: 0})
    return reader


@pytest.mark.parametrize(
    "code",
    [
        *(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT),
        *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._SSL),
    ],
)
def test_an_error_that_librdkafka_retries_is_not_raised(code):
    assert seen(told(code, code).read()) == [(0, 0)]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ContractError, "x-watch-events.*nextwatch acls"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, BrokerUnavailable, "x-watch-events: UNKNOWN_TOPIC"),
    ],
)
def test_a_lasting_error_of_the_broker_is_raised(code, kind, said):
    with pytest.raises(kind, match=said):
        told(code).poll(within_s=0)


def test_an_error_that_the_reader_has_dealt_with_is_not_raised():
    errors = []
    reader = told(
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        on_error=lambda at, error: not errors.append((at, error.name())),
    )

    assert seen(reader.read()) == [(0, 0)]
    assert errors == [(FIRST, "UNKNOWN_TOPIC_OR_PART")]


class HaltingConsumer(MemoryConsumer):
    """Gives one message, then nothing once, then the next message."""

    _num_polls = 0

    def poll(self, timeout_s):
        self._num_polls += 1
        return super().poll(timeout_s) if self._num_polls % 2 else None

    def consume(self, most, timeout):
        return []


def test_the_time_that_a_record_takes_is_not_the_silence_of_the_broker():
    """A process that was paused while it held a record does not give up its topic."""
    now_s = [0.0]
    consumer = HaltingConsumer({(TOPIC, 0): MemoryLog([(b"k", b"v")])})
    reader = TopicReader(consumer, Layout(), monotonic=lambda: now_s[0], patience_s=30)
    reader.assign({FIRST: 0})
    for _ in reader.read():
        now_s[0] += 60

    assert reader.ends == {FIRST: 1}
