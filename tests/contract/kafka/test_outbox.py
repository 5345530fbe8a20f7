"""The outbox and its records on a real broker: acknowledged or raised, read as sent."""

import os
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import consumer_config, partitions_of, producer_config, take
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Position, received
from contract.process.settings import KafkaSettings
from contract.wire.topics import WATCH_EVENTS
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from tests.support.memory_outbox import MemoryOutbox

pytestmark = pytest.mark.timeout(60)
TOPIC = "test-watch-events"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """How to reach a broker that has all topics, with a prefix."""
    log_path = tmp_path_factory.mktemp("broker") / "broker.log"
    broker = EmbeddedBroker(env=dict(os.environ), log_path=log_path)
    broker.start()
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix="test-", fetch_max_wait_ms=10
    )
    reconcile(settings)
    yield settings
    broker.child.stop()


@pytest.fixture
def consumer(kafka):
    """A consumer from the broker."""
    consumer = Consumer(consumer_config(kafka, group_id="test"))
    yield consumer
    consumer.close()


def real(kafka):
    """Return an outbox to the broker."""
    return Outbox(Producer(producer_config(kafka)), timeout_s=10)


class OutboxConformance:
    """Subclass it, and give an `outbox`, and one called `nowhere` that nobody answers."""

    def test_a_delivery_returns_the_offset_of_each_record(self, outbox):
        """In the order given."""
        first = outbox.deliver([Outgoing(TOPIC, b"k", b"1", partition=2) for _ in range(3)])

        assert first == [first[0], first[0] + 1, first[0] + 2]

    def test_records_of_several_sends_keep_their_order(self, outbox):
        """One outbox, one order, whoever waits first."""
        pending = [outbox.send([Outgoing(TOPIC, b"k", b"1", partition=1)]) for _ in range(3)]
        offsets = [one.wait() for one in reversed(pending)][::-1]

        assert offsets == [[offsets[0][0] + number] for number in range(3)]

    def test_a_second_wait_returns_the_same_offsets(self, outbox):
        pending = outbox.send([Outgoing(TOPIC, b"k", b"1")] * 2)

        assert pending.wait() == pending.wait()

    def test_nothing_to_send_is_acknowledged_at_once(self, outbox, nowhere):
        for each in (outbox, nowhere):
            assert each.deliver([]) == []
            each.flush()

    def test_a_flush_acknowledges_what_nobody_waited_for(self, outbox):
        pending = outbox.send([Outgoing(TOPIC, b"k", b"1", partition=3)])
        outbox.flush()
        [offset] = pending.wait()

        assert outbox.deliver([Outgoing(TOPIC, b"k", b"2", partition=3)]) == [offset + 1]

    @pytest.mark.parametrize("way", ["send", "deliver"])
    def test_a_record_that_is_rejected_is_an_error(self, outbox, way):
        """No offset may be committed past it."""
        huge = Outgoing(TOPIC, b"k", b"x" * 2_000_000)

        with pytest.raises(ContractError, match=rf"{TOPIC}.*max\.message\.bytes"):
            getattr(outbox, way)([huge])

    def test_a_delivery_that_is_not_acknowledged_is_an_error(self, nowhere):
        with pytest.raises(BrokerUnavailable, match="2 records unacknowledged"):
            nowhere.deliver([Outgoing(TOPIC, b"k", b"v")] * 2)

    def test_a_flush_raises_once_what_was_not_acknowledged(self, nowhere):
        """What was given up is not counted against what comes after it."""
        nowhere.send([Outgoing(TOPIC, b"k", b"v")])
        with pytest.raises(BrokerUnavailable, match="1 records unacknowledged"):
            nowhere.flush()

        nowhere.flush()

    def test_a_failure_that_a_wait_has_raised_is_not_raised_by_the_flush(self, nowhere):
        with pytest.raises(BrokerUnavailable):
            nowhere.deliver([Outgoing(TOPIC, b"k", b"v")])

        nowhere.flush()

    def test_a_flush_raises_the_failure_of_another_delivery(self, nowhere):
        """The records before the failed delivery are lost, and nobody else would tell."""
        nowhere.send([Outgoing(TOPIC, b"k", b"v")])
        with pytest.raises(BrokerUnavailable):
            nowhere.deliver([Outgoing(TOPIC, b"k", b"v")])

        with pytest.raises(BrokerUnavailable):
            nowhere.flush()


class TestOutbox(OutboxConformance):
    """On the broker."""

    @pytest.fixture
    def outbox(self, kafka):
        return real(kafka)

    @pytest.fixture
    def nowhere(self, kafka):
        config = producer_config(kafka) | {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
        return Outbox(Producer(config), timeout_s=0.3)


class TestMemoryOutbox(OutboxConformance):
    """The double that the tests of all processes use."""

    @pytest.fixture
    def outbox(self):
        return MemoryOutbox()

    @pytest.fixture
    def nowhere(self):
        outbox = MemoryOutbox()
        outbox.is_away = True
        return outbox


def test_a_delivery_that_the_client_gives_up_is_an_error_with_its_reason(kafka):
    """Nothing waits any more, and yet it was not delivered."""
    away = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "delivery.timeout.ms": 100}
    outbox = Outbox(Producer(producer_config(kafka) | away), timeout_s=10)

    with pytest.raises(BrokerUnavailable, match=f"{TOPIC}: .*timed out"):
        outbox.deliver([Outgoing(TOPIC, b"k", b"v")])


def test_a_message_is_a_record_of_the_topic_of_the_contract(kafka, consumer):
    """The prefix is gone, the broker's timestamp and the headers are there, None stays None."""
    sent = [
        Outgoing(TOPIC, b"k", b"v", partition=5, headers=[("trace", b"7")]),
        Outgoing(TOPIC, None, None, partition=5),
    ]
    offsets = real(kafka).deliver(sent)
    consumer.assign([TopicPartition(TOPIC, 5, offsets[0])])
    records = []
    while len(records) < len(sent):
        records += [received(m, kafka.layout) for m in take(consumer, 10, within_s=5)]

    assert [(r.key, r.value, r.headers) for r in records] == [
        (b"k", b"v", (("trace", b"7"),)),
        (None, None, ()),
    ]
    assert {r.at for r in records} == {Position(WATCH_EVENTS.name, 5)}
    assert [r.offset for r in records] == offsets
    assert all(r.ingested_at_ms > 1_700_000_000_000 for r in records)


def test_a_missing_topic_is_named_with_the_remedy(kafka, consumer):
    """And one that is there has as many partitions as it was given."""
    assert partitions_of(consumer, TOPIC, within_s=5) == list(range(kafka.user_partitions))

    with pytest.raises(ContractError, match="no topic nobody-made-it: `nextwatch topics`"):
        partitions_of(consumer, "nobody-made-it", within_s=5)


class StubProducer:
    """Reports every record at the next poll; *meanwhile* is called once inside of a long one."""

    def __init__(self):
        self.polls = []
        self.meanwhile = None
        self._reports = []

    def produce(self, topic, *, on_delivery, **_record):
        self._reports.append(on_delivery)

    def poll(self, timeout_s):
        self.polls.append(timeout_s)
        if timeout_s and self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        reports, self._reports = self._reports, []
        for report in reports:
            report(None, SimpleNamespace(offset=lambda: 7))


def test_sending_does_not_take_the_reports_that_another_thread_waits_for():
    """The other one would stay in its poll for a tenth of a second, and so would each batch."""
    producer = StubProducer()
    outbox = Outbox(producer)
    producer.poll = lambda timeout_s, poll=producer.poll: poll(timeout_s) if timeout_s else None
    pending = outbox.send([Outgoing(TOPIC, b"k", b"v")])
    del producer.poll
    producer.meanwhile = lambda: outbox.send([Outgoing(TOPIC, b"k", b"v")])

    assert pending.wait() == [7]
    assert producer.polls == [0.1]


def test_sending_many_records_takes_their_reports_meanwhile():
    """They would be kept until the flush otherwise, with their records."""
    producer = StubProducer()
    outbox = Outbox(producer)

    assert outbox.send([Outgoing(TOPIC, b"k", b"v")]).wait() == [7]
    assert producer.polls == [0]
