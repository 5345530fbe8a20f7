"""The tail on a real broker: announcements first, then everything else, then what comes."""

import os
from collections import Counter
from threading import Event, Thread
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from benchmarks.stack.waiting import eventually
from contract.kafka.client import client_config, consumer_config, producer_config
from contract.metrics.definitions import FOLLOWED_LAG_RECORDS, FOLLOWED_LAG_SECONDS
from contract.process.clock import ManualClock
from contract.process.settings import KafkaSettings
from contract.wire.events import BundleState, encode
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from streams.follower.catch_up import CatchUp
from streams.follower.follower import Follower
from streams.follower.follower_thread import FollowerThread
from streams.serving.generation import ActiveGeneration
from tests.streams.servings import offer, serving
from tests.support.builders import T0, item_vector, upload

NUM_VECTORS = 3_000
VIDEOS = [f"v{number}" for number in range(40)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A real broker."""
    broker = EmbeddedBroker(
        env=dict(os.environ), log_path=tmp_path_factory.mktemp("broker") / "broker.log"
    )
    broker.start()
    yield broker
    broker.child.stop()


class World:
    """Topics of one's own, and a tail that follows them in a thread."""

    def __init__(self, broker):
        self.kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            topic_prefix=f"tail-{uuid4().hex[:6]}-",
            video_partitions=2,
            fetch_max_wait_ms=50,
        )
        reconcile(self.kafka)
        self.producer = Producer(producer_config(self.kafka))
        self.switch, self.stop = ActiveGeneration(), Event()
        self.follower = Follower(
            self.switch,
            load_bundle=lambda announcement: announcement,
            make_serving=lambda announcement: serving({}, generation=announcement.generation),
            announce=lambda _: None,
            taken_down=set(),
            clock=ManualClock(T0),
        )
        self.failures = []
        self.monotonic_s = lambda: 0.0
        self.at_end = []  # what was known when the tail said that it has caught up
        self.catch_up = CatchUp(on_end=lambda: self.at_end.append(self.videos()))

    def send(self, topic, event=None, *, key=None, producer=None):
        producer = producer or self.producer
        name = self.kafka.layout.name(topic)
        if event is None:
            producer.produce(name, None, key.encode())
        else:
            producer.produce(name, encode(event), getattr(event, topic.key_field).encode())
        producer.poll(0)

    def videos(self):
        """Return what may be recommended: nothing without a bundle."""
        current = self.switch.current
        return {video for video in VIDEOS if current is not None and video in current.items}

    def start(self):
        config = consumer_config(self.kafka, group_id="tail") | {"enable.partition.eof": True}
        tail = FollowerThread(
            Consumer(config),
            self.kafka.layout,
            self.follower,
            monotonic=self.monotonic_s,
            catch_up=self.catch_up,
        )

        def run():
            try:
                tail.run(self.stop.is_set, first_read_s=1.0)  # which never comes, by its clock
            except BaseException as error:
                self.failures.append(error)
                raise

        self.thread = Thread(target=run)
        self.thread.start()

    def knows(self, video_id):
        return self.switch.current is not None and video_id in self.switch.current.items


@pytest.fixture
def world(broker):
    world = World(broker)
    yield world
    world.stop.set()
    world.thread.join(10)
    assert not world.failures


def lag_of(world):
    """Return the lag of the follower in records by topic, and the longest in seconds."""
    samples = list(world.follower.metrics.lag.samples())
    records = Counter()
    for sample in samples:
        if sample.metric is FOLLOWED_LAG_RECORDS:
            records[sample.labels[0]] += sample.value
    return dict(records), max(s.value for s in samples if s.metric is FOLLOWED_LAG_SECONDS)


def test_the_lag_of_a_follower_that_stands_still_grows_and_ends_when_it_goes_on(world, monkeypatch):
    world.start()
    topics = [topic.name for topic in world.follower.topics]
    assert eventually(lambda: world.catch_up.is_over, within_s=30)
    assert lag_of(world) == (dict.fromkeys(topics, 0), 0.0)
    goes_on, on_upload = Event(), world.follower.on_upload
    monkeypatch.setattr(
        world.follower, "on_upload", lambda *given: (goes_on.wait(30), on_upload(*given))
    )
    for video_id in VIDEOS[:5]:
        world.send(VIDEO_UPLOADS, upload(video_id))
    world.producer.flush()

    # as of the newest fetch, which has one of them at least
    assert eventually(lambda: lag_of(world)[0][VIDEO_UPLOADS.name] > 0, within_s=30), lag_of(world)
    assert lag_of(world)[1] > 0
    goes_on.set()
    assert eventually(lambda: lag_of(world) == (dict.fromkeys(topics, 0), 0.0), within_s=30)


def test_a_start_keeps_the_vectors_of_what_will_serve_and_no_others(world):
    """Read in any other order, all old ones would wait, or the new ones be dropped."""
    for number in range(NUM_VECTORS):
        vector = item_vector(f"idle{number}", (1.0, 0.0), generation=1 + number % 40)
        world.send(ITEM_VECTORS, vector)
    for number in range(100):
        world.send(ITEM_VECTORS, item_vector(f"new{number}", (1.0, 0.0), generation=50))
    for generation in range(1, 51):
        world.send(MODEL_BUNDLES, offer(generation, state=BundleState.IN_SERVICE))
    for generation in range(1, 45):
        world.send(MODEL_BUNDLES, key=f"b{generation}")
    assert world.producer.flush(10) == 0
    world.start()

    assert eventually(lambda: all(world.knows(f"new{number}") for number in range(100)))
    assert world.switch.current.generation == 50
    assert eventually(lambda: world.follower.counts["vectors_outdated"] == NUM_VECTORS)
    assert len(world.follower._waiting) == 0


def test_later_records_are_followed(world):
    """On every topic, without a topic that has anything at the start."""
    world.start()
    world.send(MODEL_BUNDLES, offer(1))
    world.producer.flush(10)
    assert eventually(lambda: world.switch.current is not None)

    world.send(ITEM_VECTORS, item_vector("v1", (1.0, 0.0), generation=1))
    world.producer.flush(10)
    assert eventually(lambda: world.knows("v1"))
    world.send(MODEL_BUNDLES, offer(2))
    world.producer.flush(10)
    assert eventually(lambda: world.switch.current.generation == 2)


def test_a_tail_that_has_caught_up_has_what_there_was_in_service_and_no_withdrawn_video(world):
    """Uploads behind the last bundle are in; index_sync never read the tombstones of two."""
    world.send(MODEL_BUNDLES, offer(1))
    for video_id in VIDEOS:
        world.send(VIDEO_UPLOADS, upload(video_id))
        world.send(ITEM_VECTORS, item_vector(video_id, (1.0, 0.0), generation=1))
    for video_id in ("v3", "v4", "v5"):
        world.send(VIDEO_UPLOADS, key=video_id)
    world.send(VIDEO_UPLOADS, upload("v5"))
    assert world.producer.flush(10) == 0
    world.start()

    assert eventually(lambda: world.catch_up.is_over)
    assert world.at_end == [set(VIDEOS) - {"v3", "v4"}]
    assert world.catch_up.reason == ""


def test_markers_of_transactions_and_emptied_topics_do_not_keep_a_tail_from_catching_up(world):
    """The last offset of one bears no record, and of another no record is left."""
    config = producer_config(world.kafka) | {"transactional.id": uuid4().hex}
    producer = Producer(config)
    producer.init_transactions()
    for finish in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for video_id in VIDEOS:
            world.send(VIDEO_UPLOADS, upload(video_id), producer=producer)
        finish()
    for video_id in VIDEOS:
        world.send(ITEM_VECTORS, item_vector(video_id, (1.0, 0.0), generation=1))
    assert world.producer.flush(10) == 0
    admin = AdminClient(client_config(world.kafka))
    name = world.kafka.layout.name(ITEM_VECTORS)
    empties = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[empties])
    admin.incremental_alter_configs([topic])[topic].result(10)
    ends = [TopicPartition(name, number, OFFSET_END) for number in range(2)]

    def is_emptied():
        """Brokers refuse until they know of the new policy."""
        try:
            return [emptied.result(10) for emptied in admin.delete_records(ends).values()]
        except KafkaException:
            return False

    assert eventually(is_emptied)
    world.start()

    assert eventually(lambda: world.catch_up.is_over), world.catch_up.reason
    assert world.follower.counts == {}


def test_a_topic_that_cannot_be_read_is_named_and_what_else_there_is_is_served(world):
    """The worker goes on; `first_read_s` bounds how long it serves nothing for its sake."""
    world.monotonic_s = iter(range(10**6)).__next__
    world.send(MODEL_BUNDLES, offer(1))
    world.send(ITEM_VECTORS, item_vector("v1", (1.0, 0.0), generation=1))
    assert world.producer.flush(10) == 0
    uploads = world.kafka.layout.name(VIDEO_UPLOADS)
    admin = AdminClient(client_config(world.kafka))
    admin.delete_topics([uploads])[uploads].result(10)
    world.start()

    assert eventually(lambda: world.knows("v1"))
    assert eventually(
        lambda: uploads in world.catch_up.reason and "vec" not in world.catch_up.reason
    )
    assert not world.catch_up.is_over
