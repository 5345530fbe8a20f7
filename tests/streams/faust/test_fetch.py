"""Records come through librdkafka, on a real broker: in order, from where they are asked for."""

import asyncio
import os
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer

from benchmarks.stack import strange_header_names
from contract.kafka.client import producer_config
from contract.kafka.records import UNREADABLE, Position
from contract.process.settings import KafkaSettings
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from streams.faust.fetch import Fetch, fetch_config

FIRST, SECOND = Position("watch-events", 0), Position("watch-events", 1)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """A real broker with topics under a prefix; 0 to 29 in the first partition, 4 in the second."""
    broker = EmbeddedBroker(
        env=dict(os.environ), log_path=tmp_path_factory.mktemp("broker") / "broker.log"
    )
    broker.start()
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic_prefix="test-",
        user_partitions=2,
        fetch_max_wait_ms=10,
    )
    reconcile(settings)
    producer = Producer(producer_config(settings))
    for number in range(30):
        producer.produce("test-watch-events", value=b"%d" % number, partition=0)
    for number in range(4):
        producer.produce("test-watch-events", value=b"%d" % number, partition=1)
    assert producer.flush(10) == 0
    yield settings
    broker.child.stop()


class Inbox:
    """Keeps what is handed over; has room as long as it is told to."""

    def __init__(self):
        self.records = []
        self.num_asked = 0
        self.has_any_room = True

    def has_room(self, *, within_s):
        self.num_asked += 1
        return self.has_any_room

    def put(self, records):
        self.records.extend(records)

    def values(self, at):
        return [int(record.value) for record in self.records if record.at == at]


class Reader:
    """A fetch, its inbox, and what went wrong."""

    def __init__(self, kafka, overrides):
        self.inbox, self.failures, self.lost = Inbox(), [], []

        config = fetch_config(kafka, group_id="test-fetch") | overrides
        self.fetch = Fetch(
            config,
            kafka.layout,
            self.inbox,
            on_lost=self.lost.append,
            on_failure=self.failures.append,
        )

    def progress_of(self, at):
        return self.fetch.progress.get(at)

    async def until(self, is_true):
        async with asyncio.timeout(20):
            while not is_true():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def reading(kafka, story, **overrides):
    """Tell *story* with a reader in an event loop."""

    async def tell():
        reader = Reader(kafka, {"statistics.interval.ms": 50} | overrides)
        try:
            await story(reader)
        finally:
            await reader.fetch.close()
        assert not reader.failures

    asyncio.run(tell())


def test_records_come_in_order_from_where_they_are_asked_for(kafka):
    """Each partition from its own offset, under the contract's name of its topic."""

    async def story(reader):
        reader.fetch.read_from({FIRST: 20, SECOND: 0})
        await reader.until(lambda: len(reader.inbox.records) >= 14)
        assert reader.inbox.values(FIRST) == list(range(20, 30))
        assert reader.inbox.values(SECOND) == list(range(4))
        assert reader.fetch.fetched == {FIRST: 30, SECOND: 4}

    reading(kafka, story)


def test_records_of_an_earlier_reading_are_dropped(kafka):
    """They were on their way when the partitions were taken back."""

    async def story(reader):
        reader.fetch.read_from({FIRST: 0})
        while reader.fetch._num_sent == 0:
            pass  # without giving way: so nothing can be handed over yet
        reader.fetch.read_from({SECOND: 3})
        await reader.until(lambda: reader.inbox.records)
        assert reader.inbox.values(FIRST) == []
        assert reader.inbox.values(SECOND) == [3]

    reading(kafka, story)


def test_no_records_are_fetched_while_the_inbox_is_full(kafka):
    """The broker keeps what a worker cannot take."""

    async def story(reader):
        reader.inbox.has_any_room = False
        reader.fetch.read_from({FIRST: 29, SECOND: 3})
        await reader.until(lambda: reader.inbox.num_asked > 1_000)
        assert not reader.inbox.records
        reader.inbox.has_any_room = True
        await reader.until(lambda: len(reader.inbox.records) == 2)

    reading(kafka, story)


def test_a_partition_just_read_is_asked_for_again_at_once(kafka):
    """Its next record need not wait until another partition has one, however often it is tried."""
    at = Position("impressions", 0)
    producer = Producer(producer_config(kafka))

    async def story(reader):
        reader.fetch.read_from({at: 0, SECOND: 4})
        for number in range(400):
            producer.produce("test-impressions", value=b"%d" % number, partition=at.partition)
            producer.poll(0)
            await reader.until(lambda: len(reader.inbox.records) == number + 1)  # noqa: B023

    reading(kafka, story, **{"fetch.wait.max.ms": 60_000, "socket.timeout.ms": 90_000})


def test_the_end_of_each_partition_is_known(kafka):
    """What the watchdog judges by: where fetching is, where it could be, whether it is answered."""

    async def story(reader):
        reader.fetch.read_from({FIRST: 0})
        await reader.until(lambda: FIRST in reader.fetch.progress)
        await reader.until(lambda: reader.fetch.progress[FIRST].position == 30)
        before = reader.fetch.progress[FIRST]
        await reader.until(lambda: reader.fetch.progress[FIRST].num_answers > before.num_answers)
        assert before.end == 30

    reading(kafka, story)


def test_a_header_name_that_is_not_utf8_does_not_lose_other_records(kafka):
    """The record comes without its headers, which no client in Python gives."""
    case = SimpleNamespace(
        headers=[("\udcff", b"x")],
        ingested_at_ms=1_000,
        key=b"k",
        value=b"{}",
        topic="test-search-events",
    )
    # so many that the interpreter has specialised the call that reads them
    offset, *_ = [asyncio.run(strange_header_names.send(kafka, case, 0)) for _ in range(20)]
    at = Position("search-events", 0)

    async def story(reader):
        reader.fetch.read_from({at: offset})
        await reader.until(lambda: len(reader.inbox.records) == 20)
        assert {record.headers for record in reader.inbox.records} == {UNREADABLE}

    reading(kafka, story)


def test_only_committed_records_are_fetched(kafka):
    """An aborted transaction is nobody's event; the marks of both leave gaps between offsets."""
    at = Position("recommendation-requests", 0)
    producer = Producer(producer_config(kafka) | {"transactional.id": "test-fetch"})
    producer.init_transactions(10)
    for number in range(6):
        producer.begin_transaction()
        producer.produce("test-recommendation-requests", value=b"%d" % number, partition=0)
        producer.flush(10)  # else an aborted one leaves nothing in the log
        if number % 2:
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)

    async def story(reader):
        reader.fetch.read_from({at: 0})
        await reader.until(lambda: len(reader.inbox.records) == 3 and reader.progress_of(at))
        await reader.until(lambda: reader.progress_of(at).position == 12)
        assert reader.inbox.values(at) == [0, 2, 4]
        assert reader.progress_of(at).end == 12

    reading(kafka, story)


def test_an_open_transaction_does_not_count_as_lag(kafka):
    """What lies beyond the last stable offset belongs to nobody yet."""
    at = Position("recommendation-requests", 1)
    producer = Producer(producer_config(kafka) | {"transactional.id": "test-open"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce("test-recommendation-requests", value=b"1", partition=1)
    producer.flush(10)

    async def story(reader):
        reader.fetch.read_from({at: 0})
        await reader.until(lambda: reader.progress_of(at) is not None)
        assert reader.progress_of(at)[:2] == (0, 0)
        producer.commit_transaction(10)
        await reader.until(lambda: reader.inbox.values(at) == [1])

    reading(kafka, story)


def test_a_lost_offset_is_reported_and_nothing_is_skipped(kafka):
    """The reader stops there until it is told where to go on."""

    async def story(reader):
        reader.fetch.read_from({FIRST: 1_000, SECOND: 0})
        await reader.until(lambda: reader.lost)
        assert reader.lost == [FIRST]
        reader.fetch.read_from({FIRST: 28, SECOND: 4})
        await reader.until(lambda: reader.inbox.values(FIRST) == [28, 29])

    reading(kafka, story)
