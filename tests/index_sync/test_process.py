"""The real process between a real broker and a real index, and what it takes to upset it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from qdrant_client import QdrantClient, models

from contract.kafka.client import consumer_config, producer_config
from contract.points import point_id
from contract.process.clock import system_clock
from contract.process.exit_codes import ExitCode
from contract.process.settings import KafkaSettings, load
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS, Topic
from models.bundle import bundle
from models.serving.items import RANKING_FEATURE_NAMES
from models.serving.live_signals import served_dim
from models.training.config import TowerConfig
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import reconcile
from tests.support.builders import T0, item_vector, upload
from trainer.learn.learner import Learner

pytestmark = pytest.mark.long

CATALOGUE = [f"v{number}" for number in range(40)]


def announcement(generation: int, sha256: str, state=BundleState.OFFERED) -> BundleAnnouncement:
    """Return the word that the bundle of *generation* has reached *state*."""
    return BundleAnnouncement(
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url=f"file:///somewhere/b{generation}",
        manifest_sha256=sha256,
        announced_at_ms=T0,
    )


class Neighbours:
    """Everybody else: creators, trainer and streams, and people who look into the index.

    Names begin with a prefix of one's own, so that tests can share a broker and an index.
    """

    def __init__(self, stack, directory: Path):
        self.prefix = f"t{uuid4().hex[:8]}"
        self.stack = stack
        self.env = {
            **stack.env,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": f"{self.prefix}-",
            "NEXTWATCH_QDRANT_COLLECTION_PREFIX": self.prefix,
            "NEXTWATCH_PROCESS_BUNDLE_URL": (directory / "bundles").as_uri(),
        }
        self.kafka = load(KafkaSettings, self.env)
        self.layout = self.kafka.layout
        reconcile(self.kafka)
        self.process = Child(self._plan(directory))
        self.producer = Producer(producer_config(self.kafka))
        self.client = QdrantClient(url=stack.qdrant_url, timeout=10, check_compatibility=False)
        self.learner = Learner(TowerConfig(), seed=1)
        for video_id in CATALOGUE:
            self.learner.upload(upload(video_id))

    def _plan(self, directory: Path) -> Plan:
        ready_file = directory / "ready"
        env = inherited(os.environ) | self.env
        env["NEXTWATCH_PROCESS_READY_FILE"] = str(ready_file)
        argv = (sys.executable, "-m", "index_sync")
        return Plan("index_sync", argv, env, directory / "log", ready_file=ready_file)

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.process.start()
        self.process.wait_ready()

    def send(self, topic: Topic, *events, key: str | None = None) -> None:
        """Produce *events*, or a tombstone under *key*, and wait for the broker's word."""
        for event in events:
            name = getattr(event, topic.key_field)
            self.producer.produce(self.layout.name(topic), encode(event), name.encode())
        if key is not None:
            self.producer.produce(self.layout.name(topic), None, key.encode())
        assert self.producer.flush(10) == 0

    def offer(self, generation: int) -> BundleAnnouncement:
        """Write a cold bundle and offer it."""
        self.learner.freeze(generation)
        num_videos = len(self.learner.video_ids)
        manifest = bundle.write(
            self.env["NEXTWATCH_PROCESS_BUNDLE_URL"],
            self.learner.card(
                bundle_id=f"b{generation}", generation=generation, offsets={}, metrics={}
            ),
            self.learner.bundle_files(),
            self.learner.snapshot(np.zeros((num_videos, len(RANKING_FEATURE_NAMES)))),
        )
        offered = announcement(generation, manifest.sha256)
        self.send(MODEL_BUNDLES, offered)
        return offered

    def serve(self, generation: int) -> None:
        """Offer a bundle, wait until it is indexed, and put it in service."""
        offered = self.offer(generation)
        wait_until(lambda: self.state_of(generation) == "indexed")
        in_service = msgspec.structs.replace(offered, state=BundleState.IN_SERVICE)
        self.send(MODEL_BUNDLES, in_service)

    def read(self, topic_name: str) -> list:
        """Return every record of a topic."""
        config = consumer_config(self.kafka, group_id="reader") | {"enable.partition.eof": True}
        consumer, records = Consumer(config), []
        consumer.assign([TopicPartition(topic_name, 0, 0)])
        while (message := consumer.poll(10)) is not None and message.error() is None:
            records.append(message)
        consumer.close()
        return records

    def state_of(self, generation: int) -> str:
        """Return what was last said of a generation's bundle."""
        said = [
            msgspec.json.decode(message.value(), type=BundleAnnouncement)
            for message in self.read(self.layout.name(MODEL_BUNDLES))
        ]
        return [a.state for a in said if a.generation == generation][-1]

    def ids(self, generation: int) -> set[str]:
        """Return the videos in a generation's collection."""
        points, _ = self.client.scroll(f"{self.prefix}-g{generation}", limit=10_000)
        return {point.payload["video_id"] for point in points}

    def vector(self, generation: int, video_id: str) -> list[float]:
        """Return a point's vector."""
        name = f"{self.prefix}-g{generation}"
        return self.client.retrieve(name, [point_id(video_id)], with_vectors=True)[0].vector

    def committed(self, topic: Topic) -> int:
        """Return the offset that index_sync has committed."""
        group_id = f"{self.prefix}-nextwatch-index-sync"
        consumer = Consumer(consumer_config(self.kafka, group_id=group_id))
        place = TopicPartition(self.layout.name(topic), 0)
        (at,) = consumer.committed([place], timeout=10)
        consumer.close()
        return at.offset

    def restart(self) -> None:
        """Kill it with -9 and start it again."""
        self.process.kill()
        self.start()


def wait_until(condition: Callable[[], bool], *, within_s: float = 20.0) -> float:
    """Wait for *condition* and return how many seconds it took."""
    started_s = monotonic()
    while not condition():
        assert monotonic() - started_s < within_s, "it never came"
    return monotonic() - started_s


@pytest.fixture(scope="module")
def storage():
    """A broker and an index."""
    with EmbeddedStack(os.environ, processes=("broker", "index"), is_supervised=False) as stack:
        yield stack


@pytest.fixture
def neighbours(storage, tmp_path):
    """The process on topics and collections of its own, with 40 videos in the catalogue."""
    neighbours = Neighbours(storage, tmp_path)
    neighbours.start()
    neighbours.send(VIDEO_UPLOADS, *map(upload, CATALOGUE))
    yield neighbours
    neighbours.process.stop()
    neighbours.client.close()


@pytest.mark.slow
def test_the_life_of_a_video(neighbours):
    """Offered bundle, new upload, training, takedown: each shows in the index within a second."""
    neighbours.serve(1)
    assert neighbours.ids(1) == set(CATALOGUE)
    assert neighbours.client.count(neighbours.prefix).count == len(CATALOGUE)

    neighbours.send(VIDEO_UPLOADS, upload("new", category="space"))
    took_s = wait_until(lambda: "new" in neighbours.ids(1))
    assert took_s < 1.0
    near = models.QueryRequest(query=neighbours.vector(1, "new"), limit=3, with_payload=True)
    (answer,) = neighbours.client.query_batch_points(f"{neighbours.prefix}-g1", [near])
    assert answer.points[0].payload["video_id"] == "new"

    dim = TowerConfig().dim
    trained = [1.0] + [0.0] * (served_dim(dim) - 1)
    learned = msgspec.structs.replace(
        item_vector("new", trained), input_vector=trained[:dim], updated_at_ms=system_clock()
    )
    neighbours.send(ITEM_VECTORS, learned)
    wait_until(lambda: neighbours.vector(1, "new") == pytest.approx(trained))

    neighbours.send(VIDEO_UPLOADS, key="new")
    wait_until(lambda: "new" not in neighbours.ids(1))
    wait_until(lambda: neighbours.read(neighbours.layout.name(ITEM_VECTORS))[-1].value() is None)


@pytest.mark.slow
def test_a_vector_of_the_wrong_width_is_a_dead_letter(neighbours):
    """It is in the dead-letter topic whole, with its reason and where it was."""
    neighbours.serve(1)
    neighbours.send(ITEM_VECTORS, item_vector("v1", [1.0, 0.0]))
    wait_until(lambda: len(neighbours.read(neighbours.layout.dlq_name(ITEM_VECTORS))) == 1)
    (letter,) = neighbours.read(neighbours.layout.dlq_name(ITEM_VECTORS))
    headers = dict(letter.headers())

    assert letter.value() == encode(item_vector("v1", [1.0, 0.0]))
    assert (letter.key(), headers["dlq.reason"]) == (b"v1", b"vector_dim")
    assert (headers["dlq.topic"], headers["dlq.app"]) == (b"item-vectors", b"index_sync")


@pytest.mark.slow
def test_a_new_generation_is_built_beside_the_one_that_serves(neighbours):
    """Uploads meanwhile go into both; the announcement comes when everything is there."""
    neighbours.serve(1)
    neighbours.offer(2)
    late = [f"late{number}" for number in range(30)]
    for video_id in late:
        neighbours.send(VIDEO_UPLOADS, upload(video_id))
    wait_until(lambda: neighbours.state_of(2) == "indexed")
    wait_until(lambda: neighbours.committed(VIDEO_UPLOADS) == len(CATALOGUE) + len(late))

    everything = set(CATALOGUE) | set(late)
    assert neighbours.ids(1) == neighbours.ids(2) == everything
    aliases = neighbours.client.get_aliases().aliases
    pairs = {alias.alias_name: alias.collection_name for alias in aliases}
    assert pairs[neighbours.prefix] == f"{neighbours.prefix}-g2"


@pytest.mark.slow
def test_kill_9_in_mid_stream_loses_nothing(neighbours):
    """Killed again and again under load, it ends with exactly the videos that are up."""
    neighbours.serve(1)
    expected = set(CATALOGUE)
    for round_number in range(4):
        names = [f"r{round_number}-{number}" for number in range(150)]
        neighbours.send(VIDEO_UPLOADS, *map(upload, names))
        neighbours.send(VIDEO_UPLOADS, key=names[0])
        expected |= set(names[1:])
        wait_until(lambda wanted=names[round_number + 1]: wanted in neighbours.ids(1))
        neighbours.restart()
    neighbours.send(VIDEO_UPLOADS, upload("last"))
    wait_until(lambda: "last" in neighbours.ids(1))

    assert neighbours.ids(1) == expected | {"last"}


@pytest.mark.slow
def test_killed_while_building_it_builds_again(neighbours):
    """A half-built collection is never announced."""
    neighbours.offer(1)
    neighbours.restart()
    wait_until(lambda: neighbours.state_of(1) == "indexed")

    assert neighbours.ids(1) == set(CATALOGUE)


@pytest.mark.slow
def test_it_waits_for_the_index_and_stops_when_told(neighbours):
    """While the index is away nothing is committed; SIGTERM still ends it cleanly."""
    neighbours.serve(1)
    wait_until(lambda: neighbours.committed(VIDEO_UPLOADS) == len(CATALOGUE))
    index = neighbours.stack.process("index")
    index.kill()
    neighbours.send(VIDEO_UPLOADS, upload("patient"))
    wait_until(lambda: "index_unavailable" in neighbours.process.log_tail())
    assert neighbours.committed(VIDEO_UPLOADS) == len(CATALOGUE)

    index.start()
    wait_until(lambda: neighbours.committed(VIDEO_UPLOADS) == len(CATALOGUE) + 1)
    assert "patient" in neighbours.ids(1)

    index.kill()
    neighbours.send(VIDEO_UPLOADS, upload("unlucky"))
    wait_until(lambda: neighbours.process.log_tail().count("index_unavailable") == 2)
    neighbours.process.terminate()
    assert neighbours.process.wait_ended(5.0)
    assert neighbours.process.exit_code == 0
    index.start()
    index.wait_ready()


@pytest.mark.slow
@pytest.mark.parametrize("is_at_start", [True, False], ids=["start", "work"])
def test_partitions_that_are_added_end_it_though_it_waits_for_the_index(
    storage, tmp_path, is_at_start
):
    """What the watch of the cluster tells does not wait for the index to come back."""
    neighbours = Neighbours(storage, tmp_path)
    index = storage.process("index")
    try:
        if is_at_start:
            index.kill()
            neighbours.process.start()
        else:
            neighbours.start()
            neighbours.serve(1)
            index.kill()
            neighbours.send(VIDEO_UPLOADS, upload("unlucky"))
        wait_until(lambda: "index_unavailable" in neighbours.process.log_tail())
        admin = AdminClient({"bootstrap.servers": storage.bootstrap_servers})
        grown = NewPartitions(neighbours.layout.name(VIDEO_UPLOADS), 9)
        for future in admin.create_partitions([grown]).values():
            future.result(10)

        assert neighbours.process.wait_ended(10.0), neighbours.process.log_tail()
    finally:
        neighbours.process.stop()
        neighbours.client.close()
        index.start()
        index.wait_ready()

    assert neighbours.process.exit_code == ExitCode.MISCONFIGURED
    assert "video-uploads has 9" in neighbours.process.log_tail().splitlines()[-1]


@pytest.mark.slow
def test_a_topic_that_is_deleted_makes_it_not_ready_until_it_is_there_again(neighbours, tmp_path):
    name = neighbours.layout.name(MODEL_BUNDLES)
    admin = AdminClient({"bootstrap.servers": neighbours.stack.bootstrap_servers})
    admin.delete_topics([name])[name].result(10)
    wait_until(lambda: not (tmp_path / "ready").exists())
    told = neighbours.process.log_tail()
    reconcile(neighbours.kafka)
    wait_until((tmp_path / "ready").exists)

    assert f"missing topics: {name}" in told
    assert neighbours.process.is_running
