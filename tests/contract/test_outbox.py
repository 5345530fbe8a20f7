"""The outbox and its records on a real broker: acknowledged or raised, read as sent."""

import os

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka import consumer_config, partitions_of, producer_config, take
from contract.outbox import Outbox, Outgoing
from contract.records import Position, received
from contract.settings import KafkaSettings
from contract.topics import WATCH_EVENTS
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics import reconcile

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
def outbox(kafka):
    """An outbox to the broker."""
    return Outbox(Producer(producer_config(kafka)), timeout_s=10)


@pytest.fixture
def consumer(kafka):
    """A consumer from the broker."""
    consumer = Consumer(consumer_config(kafka, group_id="test"))
    yield consumer
    consumer.close()


@pytest.fixture
def nowhere(kafka):
    """An outbox to a broker that does not answer."""
    config = producer_config(kafka) | {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    return Outbox(Producer(config), timeout_s=0.3)


def test_delivery_tells_the_offset_of_each_record(outbox):
    """In the order given, and where it was told to go."""
    first = outbox.deliver([Outgoing(TOPIC, b"k", b"1", partition=2) for _ in range(3)])

    assert first == [first[0], first[0] + 1, first[0] + 2]


def test_what_was_handed_over_before_is_delivered_too(outbox):
    """One outbox, one order, whichever way a record went in."""
    [before] = outbox.deliver([Outgoing(TOPIC, b"k", b"1", partition=1)])

    outbox.send(Outgoing(TOPIC, b"k", b"2", partition=1))

    assert outbox.deliver([Outgoing(TOPIC, b"k", b"3", partition=1)]) == [before + 2]


@pytest.mark.parametrize("way", ["send", "deliver"])
def test_a_record_that_is_refused_is_an_error_not_a_loss(outbox, way):
    """Nobody may pass an offset by it."""
    huge = Outgoing(TOPIC, b"k", b"x" * 2_000_000)

    with pytest.raises(ContractError, match=rf"{TOPIC}.*max\.message\.bytes"):
        outbox.send(huge) if way == "send" else outbox.deliver([huge])


def test_a_delivery_that_does_not_arrive_is_an_error(nowhere):
    """Nothing is taken for said that was not acknowledged."""
    with pytest.raises(BrokerUnavailable, match="2 records unacknowledged"):
        nowhere.deliver([Outgoing(TOPIC, b"k", b"v")] * 2)


def test_a_delivery_that_the_client_gives_up_is_an_error_with_its_reason(kafka):
    """Nothing waits any more, and yet it was not delivered."""
    away = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "delivery.timeout.ms": 100}
    outbox = Outbox(Producer(producer_config(kafka) | away), timeout_s=10)

    with pytest.raises(BrokerUnavailable, match=f"{TOPIC}: .*timed out"):
        outbox.deliver([Outgoing(TOPIC, b"k", b"v")])


def test_what_was_handed_over_and_does_not_arrive_is_an_error_once(nowhere):
    """What was given up is not counted against what comes after it."""
    nowhere.send(Outgoing(TOPIC, b"k", b"v"))
    with pytest.raises(BrokerUnavailable, match="1 records unacknowledged"):
        nowhere.settle()

    nowhere.settle()


def test_a_message_is_a_record_of_the_topic_of_the_contract(kafka, outbox, consumer):
    """The prefix is gone, the broker's timestamp and the headers are there, None stays None."""
    sent = [
        Outgoing(TOPIC, b"k", b"v", partition=5, headers=[("trace", b"7")]),
        Outgoing(TOPIC, None, None, partition=5),
    ]
    offsets = outbox.deliver(sent)
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


def test_a_topic_that_is_not_there_is_named_with_the_remedy(kafka, consumer):
    """And one that is there has as many partitions as it was given."""
    assert partitions_of(consumer, TOPIC, within_s=5) == list(range(kafka.user_partitions))

    with pytest.raises(ContractError, match="no topic nobody-made-it: `nextwatch topics`"):
        partitions_of(consumer, "nobody-made-it", within_s=5)
