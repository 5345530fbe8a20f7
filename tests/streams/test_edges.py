"""The edges of streams on the real broker and the real index."""

import os
import time
from contextlib import closing

import httpx
import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.errors import IndexUnavailable
from contract.kafka.client import consumer_config, producer_config, take
from contract.kafka.outbox import Outbox, Outgoing
from contract.points import point_id
from contract.process.settings import QdrantSettings
from nextwatch.embedded.stack import EmbeddedStack
from streams.serving.index import IndexClient
from streams.state.changelog import Changelog

pytestmark = pytest.mark.timeout(60)

LOG = "nextwatch-streams-windows"


@pytest.fixture(scope="module")
def services():
    with EmbeddedStack(os.environ, processes=("broker", "index"), is_supervised=False) as stack:
        yield stack


@pytest.fixture
def outbox(services):
    return Outbox(Producer(producer_config(services.kafka)), timeout_s=10)


def read_log(services, start):
    changelog = Changelog(services.kafka, group_id="test", patience_s=10)
    return list(changelog.read(start))


def test_a_changelog_is_read_to_its_end_from_where_one_was(services, outbox):
    """Every partition asked for, an empty one included, and no other."""
    outbox.deliver(
        [Outgoing(LOG, f"u{n}".encode(), b"w%d" % n, partition=n % 2) for n in range(600)]
    )

    read = read_log(services, {0: 100, 3: 0})

    assert [r.key for r in read] == [f"u{n}".encode() for n in range(200, 600, 2)]


def test_every_producer_places_a_key_where_faust_would(services, outbox):
    """One user's events and windows meet on one partition, whoever wrote them."""
    keys = [f"user-{n}".encode() for n in range(500)] + [b"u", b"user@example", b"0" * 64]
    outbox.deliver([Outgoing("impressions.dlq", key, b"x") for key in keys])
    consumer = Consumer(consumer_config(services.kafka, group_id="parity"))
    partitions = list(range(services.kafka.user_partitions))
    consumer.assign([TopicPartition("impressions.dlq", p, 0) for p in partitions])
    placed = {}
    deadline = time.monotonic() + 15
    while len(placed) < len(keys) and time.monotonic() < deadline:
        placed |= {m.key(): m.partition() for m in take(consumer, 500, within_s=0.2)}
    consumer.close()

    faust = DefaultPartitioner()
    assert placed == {key: faust(key, partitions, partitions) for key in keys}


def test_the_index_finds_the_nearest_first(services):
    """One request answers for all vectors of the batch."""
    url = f"{services.qdrant_url}/collections/near"
    httpx.put(url, json={"vectors": {"size": 2, "distance": "Cosine"}}).raise_for_status()
    points = [
        {"id": point_id(name), "vector": vector}
        for name, vector in {"right": [1, 0], "up": [0, 1], "between": [0.8, 0.6]}.items()
    ]
    httpx.put(f"{url}/points?wait=true", json={"points": points}).raise_for_status()
    settings = QdrantSettings(url=services.qdrant_url)

    with closing(IndexClient(settings, patience_ms=2_000)) as index:
        right, up = index.nearest("near", np.array([[1, 0], [0, 1]], np.float32), 2)

    assert right == [point_id("right"), point_id("between")]
    assert up == [point_id("up"), point_id("between")]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "the index's own"])
def test_an_index_that_does_not_answer_the_question_is_unavailable(services, url):
    """Whether nobody listens or the collection is not there."""
    settings = QdrantSettings(url=services.qdrant_url if "own" in url else url)

    with (
        closing(IndexClient(settings, patience_ms=500)) as index,
        pytest.raises(IndexUnavailable),
    ):
        index.nearest("no-such-collection", np.array([[1, 0]], np.float32), 2)
