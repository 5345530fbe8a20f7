"""Producers whose partitioner or clock is wrong: told apart, kept, and put right by an operator."""

import json

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin import ResourceType as Type

from benchmarks.stack.waiting import eventually
from contract.kafka.client import failure, producer_config
from contract.process.clock import system_clock
from contract.wire.keys import partition_of
from contract.wire.topics import NOT_AFTER
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from tests.e2e.test_operator import CHANGELOG, answers, event_of, nextwatch, take, users
from tests.support.builders import watch
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def stack():
    """Broker and worker alone, on Apache Kafka as every embedded stack."""
    with running_stack("embedded", processes=("streams",)) as stack:
        yield stack


def produce(stack, events, *, topic="watch-events", timestamp_ms=None, **config):
    """Produce *events* with a producer of somebody else; return (partition, error) of each."""
    producer, reports = (
        Producer({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0} | config),
        [],
    )

    def report(error, message):
        reports.append((message.partition(), error))

    stamp = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
    for event in events:
        body = json.dumps(event).encode()
        producer.produce(topic, body, event["user_id"].encode(), on_delivery=report, **stamp)
        producer.flush(20)
    return reports


def letters(player, everybody):
    """Return the reason of each dead letter of these users, by user."""
    keys = {user_id.encode() for user_id in everybody}
    return {
        message.key().decode(): dict(message.headers())["dlq.reason"].decode()
        for message in player.poll("watch-events.dlq")
        if message.key() in keys
    }


def windows_of(player, user_id):
    """Return the last word of the changelog on a user, by partition."""
    found = {}
    for message in player.poll(CHANGELOG):
        if message.key() == user_id.encode():
            found[message.partition()] = message.value()
    return found


def test_librdkafkas_default_partitioner_is_found_out_and_put_right(stack, player):
    """What lies wrong is a dead letter, and after a replay every user has one window."""
    num_partitions, everybody = stack.kafka.user_partitions, users("crc32")
    events = [event_of(user_id, "v1") for user_id in everybody]
    reports = produce(stack, events)
    wrong = {
        user_id
        for user_id, (partition, error) in zip(everybody, reports, strict=True)
        if error is None and partition != partition_of(user_id.encode(), num_partitions)
    }
    assert len(wrong) > len(everybody) // 2
    assert eventually(lambda: letters(player, everybody).keys() == wrong)
    assert set(letters(player, everybody).values()) == {"misplaced"}

    replayed = nextwatch(stack, "dlq", "replay", "--reason", "misplaced", "--yes")

    assert f"replayed {len(wrong)} letters" in replayed.output
    wanted = {event["event_id"] for event in events}
    assert eventually(lambda: wanted <= answers(player).keys(), within_s=30)
    homes = {user_id: {partition_of(user_id.encode(), num_partitions)} for user_id in everybody}

    def places():
        return {user_id: set(windows_of(player, user_id)) for user_id in everybody}

    eventually(lambda: places() == homes)
    assert places() == homes


def test_erasing_reaches_a_window_where_the_key_does_not_lead(stack, player):
    """Left there by a version that took every event where it lay."""
    [erased] = users("two-windows", 1)
    num_partitions = stack.kafka.user_partitions
    elsewhere = (partition_of(erased.encode(), num_partitions) + 1) % num_partitions
    worker = stack.process("streams")
    take(player, [event_of(erased, "v1")])
    worker.stop(8)
    stray = fold(EMPTY, [watch("v2", user_id=erased)], WindowPolicy())
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    producer.produce(CHANGELOG, history_codec.encode(stray), erased.encode(), partition=elsewhere)
    producer.flush(20)
    worker.start()
    worker.wait_ready(30)
    before = nextwatch(stack, "erase", erased, "--check", "--quick")

    done = nextwatch(stack, "erase", erased, "--quick")

    assert (before.exit_code, "MUST GO" in before.output) == (1, True)
    assert done.exit_code == 0, done.output
    assert eventually(lambda: not any(windows_of(player, erased).values()))
    told = [m for m in player.poll("recommendations") if m.key() == erased.encode()]
    assert [m.value() for m in told if m.value() is None] == [None]


def test_the_broker_refuses_what_is_dated_far_ahead(stack):
    """`nextwatch topics` says so on every topic that others write."""
    [user_id] = users("tomorrow", 1)
    event = event_of(user_id, "v1", event_time_ms=system_clock() + DAY_MS)
    far = {"timestamp_ms": event["event_time_ms"], "partitioner": "murmur2_random"}

    [(_, error)] = produce(stack, [event], topic="search-events", **far)

    assert error.code() == KafkaError.INVALID_TIMESTAMP


def test_a_batch_that_is_dated_far_ahead_is_rejected_with_the_remedy(stack):
    """The client reports another error than for a single record; a process names the clock."""
    config = producer_config(stack.kafka, linger_ms=500)
    producer, errors = Producer(config), []
    for number in range(3):
        producer.produce(
            "search-events",
            b"{}",
            b"tomorrow",
            partition=0,
            timestamp=system_clock() + DAY_MS + number,
            on_delivery=lambda error, _message: errors.append(error),
        )
    producer.flush(20)

    assert {error.code() for error in errors} == {KafkaError.INVALID_RECORD}
    assert "set the clocks" in str(failure(errors[0], "search-events"))


def test_a_far_event_that_the_broker_lets_through_is_a_dead_letter(stack, player):
    """A cluster whose operator allows it; the user goes on as if nothing had been."""
    [user_id] = users("next-year", 1)
    allow(stack, "watch-events", ahead_ms=500 * DAY_MS)
    far = event_of(user_id, "v1", event_time_ms=system_clock() + 400 * DAY_MS)

    [(_, error)] = produce(
        stack, [far], timestamp_ms=far["event_time_ms"], partitioner="murmur2_random"
    )
    assert error is None
    take(player, [event_of(user_id, "v2")])

    reasons = letters(player, [user_id])
    assert reasons == {user_id: "ts_future:event_time_ms"}
    [record] = eventually(lambda: windows_of(player, user_id)).values()
    assert history_codec.decode(record).video_ids == ("v2",)


def allow(stack, topic, *, ahead_ms):
    """Let records of *topic* be dated so far ahead."""
    entry = ConfigEntry(NOT_AFTER, str(ahead_ms), incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    change = ConfigResource(Type.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([change]).values():
        future.result(10)

    def is_set():
        asked = ConfigResource(Type.TOPIC, topic)
        [told] = admin.describe_configs([asked]).values()
        return told.result(10)[NOT_AFTER].value == str(ahead_ms)

    assert eventually(is_set)
