"""Reading topics to their ends, on a real broker."""

import os
from time import monotonic

import pytest
from confluent_kafka import Producer

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Position
from contract.process.settings import KafkaSettings
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.operate.scan import Scan
from nextwatch.topics.topics import reconcile

pytestmark = pytest.mark.slow
TOPIC = "watch-events.dlq"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """Settings of a broker with all topics, prefixed, and nine letters in three partitions."""
    log_path = tmp_path_factory.mktemp("scan") / "broker.log"
    broker = EmbeddedBroker(env=dict(os.environ), log_path=log_path)
    broker.start()
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic_prefix="x-",
        user_partitions=4,
    )
    reconcile(settings)
    produce(settings, *[(number % 3, b"k", b"%d" % number) for number in range(9)])
    yield settings
    broker.child.stop()


def produce(kafka, *records, topic=TOPIC):
    """Produce records of (partition, key, value)."""
    outbox = Outbox(Producer(producer_config(kafka)))
    outbox.deliver([Outgoing(f"x-{topic}", key, value, place) for place, key, value in records])


def scan_of(kafka, **said):
    """Return a scan of the broker."""
    return Scan(kafka, monotonic=monotonic, **said)


def values(records):
    """Return the values, sorted: partitions come in any order."""
    return sorted(record.value for record in records)


def test_everything_is_read_and_then_it_ends(kafka):
    """Empty partitions end, too; names are those of the contract."""
    scan = scan_of(kafka)
    found = list(scan.read([TOPIC, "impressions"]))

    assert values(found) == [b"%d" % number for number in range(9)]
    assert {record.topic for record in found} == {TOPIC}
    assert [scan.ends[Position(TOPIC, number)] for number in range(4)] == [3, 3, 3, 0]


def test_reading_stops_before_the_ends_that_are_given(kafka):
    """So what came since is not read."""
    until = {Position(TOPIC, number): end for number, end in enumerate((2, 0, 3, 0))}

    assert values(scan_of(kafka).read([TOPIC], until)) == [b"0", b"2", b"3", b"5", b"8"]


def test_one_record_is_found_by_its_place(kafka):
    assert scan_of(kafka).one(Position(TOPIC, 1), 2).value == b"7"


@pytest.mark.parametrize(("partition", "offset"), [(1, 3), (3, 0), (9, 0)])
def test_there_is_no_record_behind_the_end_or_in_a_missing_partition(kafka, partition, offset):
    """At once, not after some patience."""
    assert scan_of(kafka, patience_s=3.0).one(Position(TOPIC, partition), offset) is None


def test_a_watcher_sees_only_later_records(kafka):
    """A word of the past is not taken for the answer."""
    produce(kafka, (2, b"u1", b"before"), topic="recommendations")
    with scan_of(kafka).from_now_on("recommendations") as watcher:
        assert not watcher.wait_for(lambda record: record.key == b"u1", within_s=0.3)
        produce(kafka, (2, b"u2", b"else"), (2, b"u1", None), topic="recommendations")
        assert watcher.wait_for(
            lambda record: record.key == b"u1" and record.value is None, within_s=5
        )


def test_a_topic_that_is_missing_is_named_with_the_remedy(kafka):
    with pytest.raises(ContractError, match=r"no topic x-nothing.*nextwatch topics.*TOPIC_PREFIX"):
        list(scan_of(kafka).read(["nothing"]))


def test_a_broker_that_is_away_is_named_with_the_remedy(kafka):
    away = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})

    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1.*BOOTSTRAP_SERVERS"):
        list(scan_of(away, patience_s=0.3).read([TOPIC]))


def test_a_partition_that_ends_in_an_open_transaction_is_told(kafka):
    """What it hides cannot be read yet: nobody may take the count for final."""
    config = producer_config(kafka) | {"transactional.id": "open"}
    producer = Producer(config)
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce("x-search-events", b"{}", b"u1", partition=1)
    producer.flush(10)
    scan = scan_of(kafka)

    assert list(scan.read(["search-events"])) == []
    assert scan.unsettled == {Position("search-events", 1): 1}
    producer.commit_transaction(10)
    assert len(list(scan.read(["search-events"]))) == 1
    assert scan.unsettled == {}
