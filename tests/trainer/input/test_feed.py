"""The feed on a real broker: positions, ends, and records that are no more."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from benchmarks.stack.waiting import eventually
from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import client_config, producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.wire.events import encode
from contract.wire.topics import MODEL_BUNDLES, SEARCH_EVENTS, VIDEO_UPLOADS, WATCH_EVENTS, Layout
from nextwatch.topics.topics import reconcile, wanted_topics
from nextwatch.unread import num_unread_by
from tests.support.builders import search, upload, watch
from tests.support.memory_consumer import MemoryConsumer, MemoryLog
from tests.trainer.doubles import announcement
from trainer.input import feed as feed_module
from trainer.input.feed import BrokerLostRecordsError, Feed, commit_listener, feed_config, identify
from trainer.state.journal import Run

pytestmark = pytest.mark.slow
BOTH = (WATCH_EVENTS, VIDEO_UPLOADS)


@pytest.fixture
def outbox(kafka):
    """A producer to the real broker."""
    return Outbox(Producer(producer_config(kafka)))


@pytest.fixture
def feed(kafka):
    """A feed from the real broker."""
    feed = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    yield feed
    feed.close()


def produce(outbox, kafka, topic, *events):
    """Produce *events* and wait until they are there."""
    for event in events:
        key = getattr(event, topic.key_field).encode()
        outbox.send([Outgoing(kafka.layout.name(topic), key, encode(event))])
    outbox.flush()


def read_all(feed, topics=BOTH, *, most=500):
    """Return what is there of *topics*."""
    records = []
    while not feed.has_read(topics):
        records += feed.poll(most=most, timeout_s=0.05)
    return records


def some_watches(count):
    return [watch(f"v{n}", at_ms=n) for n in range(count)]


def test_reads_from_the_beginning_to_the_end(feed, outbox, kafka):
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))
    produce(outbox, kafka, VIDEO_UPLOADS, upload("v1"))

    feed.open(BOTH, {})
    records = read_all(feed)

    assert sorted((record.topic, record.offset) for record in records) == [
        ("video-uploads", 0),
        *(("watch-events", n) for n in range(20)),
    ]
    assert feed.next_offsets == {"watch-events": {0: 20}, "video-uploads": {0: 1}}
    assert all(record.ingested_at_ms > 0 for record in records)


def test_empty_topics_are_read_at_once(feed):
    feed.open(BOTH, {})

    assert read_all(feed) == []


def test_goes_on_from_an_offset(feed, outbox, kafka):
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))

    feed.open([WATCH_EVENTS], {"watch-events": {0: 17}})
    records = read_all(feed, [WATCH_EVENTS])

    assert [record.offset for record in records] == [17, 18, 19]


def test_goes_on_exactly_at_the_end(feed, outbox, kafka):
    """Nothing was lost when there is just nothing new."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))

    feed.open([WATCH_EVENTS], {"watch-events": {0: 20}})

    assert read_all(feed, [WATCH_EVENTS]) == []
    assert feed.is_verified


def test_opening_more_topics_repeats_nothing_and_skips_nothing(feed, outbox, kafka):
    produce(outbox, kafka, VIDEO_UPLOADS, *(upload(f"v{n}") for n in range(5)))
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(5))
    feed.open([VIDEO_UPLOADS], {})
    first = read_all(feed, [VIDEO_UPLOADS])

    produce(outbox, kafka, VIDEO_UPLOADS, upload("v5"))
    feed.open(BOTH, {})
    rest = read_all(feed)

    offsets = {topic.name: [] for topic in BOTH}
    for record in first + rest:
        offsets[record.topic].append(record.offset)
    assert offsets == {"watch-events": list(range(5)), "video-uploads": list(range(6))}


@pytest.mark.parametrize("held", [0, 20])
def test_records_lost_by_the_broker_are_detected(feed, outbox, kafka, held):
    """A topic that was deleted and created again, or another cluster at the same address."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(held))

    feed.open([WATCH_EVENTS], {"watch-events": {0: 400}})

    with pytest.raises(BrokerLostRecordsError, match=r"watch-events\[0\] ends before offset 400"):
        read_all(feed, [WATCH_EVENTS])


def test_announcements_do_not_wait_behind_a_backlog(outbox, kafka):
    """A generation that is withdrawn is known of at once, however much was fetched before."""
    config = feed_config(kafka)
    feed = Feed(Consumer(config), kafka.layout, identify(kafka), announcing=Consumer(config))
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(3_000))
    feed.open([WATCH_EVENTS, MODEL_BUNDLES], {})
    assert eventually(lambda: feed.poll(most=1, timeout_s=0.1))
    produce(outbox, kafka, MODEL_BUNDLES, announcement(1))

    def is_heard():
        return any(record.topic == MODEL_BUNDLES.name for record in feed.poll(most=1, timeout_s=0))

    assert eventually(is_heard, every_s=0.02)
    assert feed.next_offsets["watch-events"][0] < 3_000

    read_all(feed, [WATCH_EVENTS, MODEL_BUNDLES])
    assert feed.next_offsets == {"watch-events": {0: 3_000}, "model-bundles": {0: 1}}
    feed.close()


def test_a_missing_topic_is_named(feed):
    with pytest.raises(ContractError, match="nextwatch topics"):
        feed.open([replace(SEARCH_EVENTS, name="nobody-made-it")], {})


def test_a_broker_that_does_not_answer_is_an_error(kafka, monkeypatch):
    monkeypatch.setattr("trainer.input.feed._TIMEOUT_S", 0.3)
    nowhere = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    feed = Feed(
        Consumer(feed_config(nowhere) | {"log_level": 0}), nowhere.layout, identify(nowhere)
    )

    with pytest.raises(BrokerUnavailable):
        feed.open(BOTH, {})


def delete_records(kafka, name, before):
    """Delete what lies before *before* in partition 0, as retention would."""
    admin = AdminClient(client_config(kafka))
    place = TopicPartition(kafka.layout.prefix + name, 0, before)
    for future in admin.delete_records([place]).values():
        future.result(10)


def test_records_deleted_by_retention_are_logged_and_skipped(outbox, kafka):
    """The examples are gone: learning goes on with the first record that is left."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))
    produce(outbox, kafka, VIDEO_UPLOADS, upload("v1"))
    delete_records(kafka, "watch-events", 15)
    feed = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    feed.open(BOTH, {"watch-events": {0: 10}})

    with capture_logs() as logs:
        records = read_all(feed)
    produce(outbox, kafka, WATCH_EVENTS, watch("later", at_ms=99))
    later = []
    while not later:
        later = feed.poll(most=10, timeout_s=0.1)
    feed.close()

    gone = [fact for fact in logs if fact["event"] == "records_gone"]
    assert [(g["topic"], g["partition"], g["records"]) for g in gone] == [("watch-events", 0, 5)]
    read = [(record.topic, record.offset) for record in records]
    assert sorted(read) == [("video-uploads", 0), *(("watch-events", n) for n in range(15, 20))]
    assert [record.offset for record in later] == [20]
    assert feed.next_offsets == {"watch-events": {0: 21}, "video-uploads": {0: 1}}


def test_kafkas_tools_see_how_far_the_trainer_is(feed, outbox, kafka):
    """The offsets are committed for them, and never read back."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))
    feed.open([WATCH_EVENTS], {})
    read_all(feed, [WATCH_EVENTS])

    feed.commit({"watch-events": {0: 17}})
    group = ConsumerGroupTopicPartitions(kafka.layout.prefix + "nextwatch-trainer")
    admin = AdminClient(client_config(kafka))

    def told():
        answer = admin.list_consumer_group_offsets([group])[group.group_id].result(10)
        return [(at.partition, at.offset) for at in answer.topic_partitions]

    assert eventually(told) == [(0, 17)]
    feed.open([WATCH_EVENTS], {})
    assert feed.next_offsets == {"watch-events": {0: 20}}


@pytest.mark.parametrize(
    ("code", "is_refused"),
    [
        (None, False),
        (KafkaError.NOT_COORDINATOR, False),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, True),
    ],
)
@pytest.mark.parametrize("is_of_partition", [False, True])
def test_a_rejected_commit_is_reported_and_an_early_one_is_not(code, is_refused, is_of_partition):
    error = KafkaError(code) if code is not None else None
    places = [SimpleNamespace(error=error if is_of_partition else None)]
    refusals = []
    commit_listener(lambda: refusals.append(1))(None if is_of_partition else error, places)

    assert bool(refusals) == is_refused


def make_anew(kafka, topic):
    """Delete *topic* and create it again, as an operator does."""
    admin, name = AdminClient(client_config(kafka)), kafka.layout.name(topic)
    admin.delete_topics([name])[name].result(10)

    def is_made():
        try:
            reconcile(kafka)
        except KafkaException:  # the old one is still being deleted
            return False
        return name in admin.list_topics(timeout=10).topics

    assert eventually(lambda: name not in admin.list_topics(timeout=10).topics)
    assert eventually(is_made, within_s=20)


def test_a_topic_that_was_made_anew_is_not_read_from_the_offset_of_the_old_one(feed, outbox, kafka):
    """Though it is longer by now: its first records would be left out without a word."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(5))
    feed.open([WATCH_EVENTS], {})
    read_all(feed, [WATCH_EVENTS])
    feed.note_ids()
    offsets, topic_ids = feed.next_offsets, feed.topic_ids
    make_anew(kafka, WATCH_EVENTS)
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))

    again = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    with pytest.raises(BrokerLostRecordsError, match="watch-events was deleted and created again"):
        again.open([WATCH_EVENTS], offsets, topic_ids)
    again.forget()
    again.open([WATCH_EVENTS], {})
    assert len(read_all(again, [WATCH_EVENTS])) == 20
    again.close()


@pytest.mark.parametrize(("remembered", "found"), [({}, 7), ({"watch-events": 6}, 0)])
def test_a_topic_of_unknown_id_is_accepted(remembered, found):
    """Checkpoints of 0.2.0 have no ids, and some brokers tell none."""
    feed = Feed(consumer_of(300), Layout(), lambda names: dict.fromkeys(names, found))

    feed.open([WATCH_EVENTS], {"watch-events": {0: 200}}, remembered)

    assert feed.topic_ids == {"watch-events": found or 6}
    assert feed.poll(most=1, timeout_s=0)[0].offset == 200


def test_ids_are_looked_up_once_something_was_read(feed, outbox, kafka):
    """A topic that was empty may be created again under a trainer that runs."""
    feed.open(BOTH, {})
    read_all(feed)
    feed.note_ids()
    before = dict(feed.topic_ids)
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(3))
    while not feed.poll(most=10, timeout_s=0.1):
        pass
    feed.note_ids()

    assert before == {}
    assert feed.topic_ids == {
        "watch-events": identify(kafka)([kafka.layout.name(WATCH_EVENTS)]).popitem()[1]
    }


def test_topic_ids_are_looked_up_again_after_a_failure():
    def fail(_names):
        raise BrokerUnavailable("silent")

    feed = Feed(consumer_of(300), Layout(), fail)
    feed.next_offsets = {"watch-events": {0: 3}}

    feed.note_ids()

    assert feed.topic_ids == {}


def no_ids(names):
    """Tell no ids, as some brokers do."""
    return {}


def test_repartition_sees_what_a_stopped_trainer_has_not_read(outbox, kafka):
    """Where nothing was committed there is no trainer, or one that commits nothing."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))
    produce(outbox, kafka, SEARCH_EVENTS, search())
    counts = {wanted.name: 1 for wanted in wanted_topics(kafka.layout)}
    before = num_unread_by(kafka, "trainer", counts)

    stopping = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    stopping.open([WATCH_EVENTS], {})
    read_all(stopping, [WATCH_EVENTS])
    stopping.commit({"watch-events": {0: 17}})
    stopping.close()

    assert before == 0
    assert num_unread_by(kafka, "trainer", counts) == 3 + 1


def consumer_of(num_records):
    """Return a consumer of `watch-events` whose one partition has *num_records*."""
    return MemoryConsumer(
        {(WATCH_EVENTS.name, 0): MemoryLog([(b"k", b"v")] * num_records)}, after_loss="error"
    )


def test_an_end_before_the_checkpoint_is_a_loss_by_error_code_too():
    """A Kafka broker answers out of range where the embedded one answers nothing."""
    feed = Feed(consumer_of(300), Layout(), no_ids)
    feed.open([WATCH_EVENTS], {"watch-events": {0: 400}})

    with pytest.raises(BrokerLostRecordsError):
        feed.poll(most=1, timeout_s=0)


def test_an_error_that_will_not_pass_stops_the_feed():
    code = KafkaError.TOPIC_AUTHORIZATION_FAILED
    consumer = consumer_of(1)
    consumer.errors = [((WATCH_EVENTS.name, 0), code)]
    feed = Feed(consumer, Layout(), no_ids)
    feed.open([WATCH_EVENTS], {})

    with pytest.raises(ContractError, match=r"TOPIC_AUTHORIZATION_FAILED.*nextwatch acls"):
        feed.poll(most=1, timeout_s=0)


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._SSL])
def test_a_transient_error_is_logged_and_reading_continues(code):
    consumer = consumer_of(1)
    consumer.errors = [((WATCH_EVENTS.name, 0), code)]
    feed = Feed(consumer, Layout(), no_ids)
    feed.open([WATCH_EVENTS], {})

    with capture_logs() as logs:
        records = read_all(feed, [WATCH_EVENTS])

    assert [record.offset for record in records] == [0]
    assert [fact["event"] for fact in logs] == ["fetch_failed"]


def places_of(records):
    return [(record.topic, record.offset) for record in records]


def test_a_journal_is_followed_in_its_order_and_what_was_fetched_too_early_waits(
    feed, outbox, kafka
):
    """Whatever order the broker gives them in."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(6))
    produce(outbox, kafka, VIDEO_UPLOADS, *(upload(f"v{n}") for n in range(4)))
    feed.open(BOTH, {})
    runs = [
        Run("watch-events", 0, 0, 1, 2),
        Run("video-uploads", 0, 0, 2, 3),
        Run("watch-events", 0, 2, 2, 1),
    ]

    followed = [places_of(feed.follow(run)) for run in runs]
    stands_at = {name: dict(offsets) for name, offsets in feed.next_offsets.items()}
    rest = []
    while len(rest) < 4:
        rest += places_of(feed.poll(most=2, timeout_s=0.05))

    assert followed == [
        [(run.topic, offset) for offset in range(run.first, run.last + 1)] for run in runs
    ]
    assert stands_at == {"watch-events": {0: 3}, "video-uploads": {0: 3}}
    assert sorted(rest) == [("video-uploads", 3), *(("watch-events", n) for n in (3, 4, 5))]


def test_a_partition_of_which_too_much_waits_is_paused_and_read_on_later(
    outbox, kafka, monkeypatch
):
    """A day of one topic does not pile up in memory while another one is followed."""
    monkeypatch.setattr(feed_module, "_MAX_AHEAD", 10)
    monkeypatch.setattr(feed_module, "_FETCHED_AT_ONCE", 10)
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(300))
    feed = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    feed.open(BOTH, {})
    produce(outbox, kafka, VIDEO_UPLOADS, upload("v1"))

    feed.follow(Run("video-uploads", 0, 0, 0, 1))
    num_waiting = sum(map(len, feed._waiting.values()))
    first = feed.follow(Run("watch-events", 0, 0, 199, 200))
    rest = []
    while len(rest) < 100:
        rest += feed.poll(most=50, timeout_s=0.1)
    feed.close()

    assert num_waiting <= 20
    assert [record.offset for record in (*first, *rest)] == list(range(300))


def test_records_of_a_journal_that_the_broker_has_deleted_are_logged_and_left_out(outbox, kafka):
    """The rest of the journal is followed all the same."""
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(20))
    delete_records(kafka, "watch-events", 15)
    feed = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    feed.open(BOTH, {"watch-events": {0: 10}})

    with capture_logs() as logs:
        found = [
            [record.offset for record in feed.follow(run)]
            for run in (
                Run("watch-events", 0, 10, 12, 3),
                Run("watch-events", 0, 13, 16, 4),
                Run("watch-events", 0, 17, 19, 3),
            )
        ]
    feed.close()

    gone = [fact["records"] for fact in logs if fact["event"] == "journal_records_gone"]
    assert found == [[], [15, 16], [17, 18, 19]]
    assert gone == [3, 2]


def test_a_log_that_ends_before_the_journal_has_lost_records(feed, outbox, kafka, monkeypatch):
    monkeypatch.setattr(feed_module, "_CUT_AFTER_S", 0.5)
    produce(outbox, kafka, WATCH_EVENTS, *some_watches(5))
    feed.open(BOTH, {})

    with pytest.raises(BrokerLostRecordsError, match=r"ends before offset 8"):
        feed.follow(Run("watch-events", 0, 0, 7, 8))
