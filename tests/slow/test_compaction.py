"""Every compacted topic is compacted, and workers that start with nothing know what they knew."""

import shutil
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, TopicPartition

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from contract.kafka.client import consumer_config
from tests.slow.cluster_stacks import WORKERS, facts, stack_on
from tests.support.oracle import all_answered, published_windows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

COMPACTED = ("video-uploads", "item-vectors", "model-bundles", "nextwatch-streams-windows")
KEPT = [f"kept{number}" for number in range(20)]
TAKEN_DOWN = [f"down{number}" for number in range(5)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    settings = {"log.cleaner.backoff.ms": "300"}
    with EmbeddedCluster(tmp_path_factory.mktemp("kafka"), settings=settings) as cluster:
        yield cluster


def test_workers_that_start_anew_on_compacted_topics_serve_as_before(cluster):
    """Windows are the same, and what was taken down stays down though its tombstone is gone."""
    pytest.importorskip("torch")
    with stack_on(cluster, *WORKERS) as stack, player_of(stack) as player:
        live_a_while(player)
        before = {user: drawn(record) for user, record in published_windows(player).items()}
        for name in WORKERS:
            stack.process(name).kill()
        num_bundles = len(bundles_in_service(stack))
        for topic in COMPACTED:
            compact(cluster, stack, player, topic)
        shutil.rmtree(stack.directory / "streams")
        for name in WORKERS:
            stack.process(name).start()
        for name in WORKERS:
            stack.process(name).wait_ready(60)
        assert eventually(lambda: len(bundles_in_service(stack)) > num_bundles, within_s=60)
        asked = [player.ask(f"u{number}", number=50) for number in range(20)]
        player.flush()
        assert eventually(lambda: all_answered(player, set(asked)), within_s=60)
        answers = [player.answer_to(request) for request in asked]
        uploaded = player.watch("u1", "new")
        player.upload("new")
        player.flush()
        assert eventually(lambda: all_answered(player, {uploaded}), within_s=30)
        after = windows_from_the_beginning(stack)

    recommended = {item["video_id"] for answer in answers for item in answer["items"]}
    assert recommended
    assert recommended <= set(KEPT)
    assert {user: after[user] for user in before if user != "u1"} == {
        user: before[user] for user in before if user != "u1"
    }


def live_a_while(player):
    """Upload each video three times, take some down, and watch."""
    for _ in range(3):
        for video_id in (*KEPT, *TAKEN_DOWN):
            player.upload(video_id)
        player.flush()
    watch_until_indexed(player, 0)
    for video_id in TAKEN_DOWN:
        player.produce("video-uploads", video_id, None)
    for nth in (1, 2):  # the second generation from now on was begun without them
        watch_until_indexed(player, nth)


def watch_until_indexed(player, nth):
    """Have everybody watch one more video, and wait for a generation that knows of it."""
    num_before = num_indexed(player)
    sent = {player.watch(f"u{n}", KEPT[(n + nth) % 10]) for n in range(20)}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=60)
    assert eventually(lambda: num_indexed(player) > num_before, within_s=60)


def bundles_in_service(stack):
    return facts(stack.process("streams"), "bundle_in_service")


def num_indexed(player):
    messages = player.poll("model-bundles", key="bundle")
    return sum(b'"indexed"' in (message.value() or b"") for message in messages)


def compact(cluster, stack, player, topic):
    """Have the broker compact *topic*, until each key is there once and no tombstone is left."""
    num_partitions = {"nextwatch-streams-windows": stack.kafka.user_partitions}.get(
        topic, 1 if topic == "model-bundles" else stack.kafka.video_partitions
    )
    name = stack.kafka.topic_prefix + topic
    cluster.operator.configure_topic(
        name,
        segment_ms="200",
        min_cleanable_dirty_ratio="0.001",
        delete_retention_ms="0",
        max_compaction_lag_ms="1000",
    )
    ends = {number: read(stack, name, number)[1] for number in range(num_partitions)}

    def is_compacted():
        for number in range(20):  # they end the segments that are written to, in all partitions
            player.produce(topic, f"filler{number}", None)
        player.flush()
        time.sleep(0.5)
        for number, end in ends.items():
            records = [record for record in read(stack, name, number)[0] if record.offset() < end]
            counts = Counter(record.key() for record in records)
            if any(count > 1 for count in counts.values()):
                return False
            if any(record.value() is None for record in records):
                return False
        return True

    assert eventually(is_compacted, within_s=90), f"{topic} was not compacted"


def read(stack, name, number):
    """Return the records of a partition, and the offset after its last."""
    consumer = Consumer(consumer_config(stack.kafka, group_id="reader"))
    place = TopicPartition(name, number, 0)
    _, end = consumer.get_watermark_offsets(place, timeout=10)
    consumer.assign([place])
    records, is_over = [], end == 0
    while not is_over:
        message = consumer.poll(10)
        assert message is not None, f"{name}/{number} was not read to {end}"
        assert message.error() is None
        records.append(message)
        is_over = message.offset() >= end - 1
    consumer.close()
    return records, end


def windows_from_the_beginning(stack):
    """Return the window of each user by the changelog, read anew."""
    found = {}
    for number in range(stack.kafka.user_partitions):
        for message in read(stack, "nextwatch-streams-windows", number)[0]:
            found[message.key().decode()] = message.value()
    return {user: drawn(record) for user, record in found.items() if record is not None}
