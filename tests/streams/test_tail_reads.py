"""The tail on a real broker: the announcements first, then everything else, and what comes later."""

import os
from threading import Event, Thread
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer

from contract.clock import ManualClock
from contract.events import BundleState, encode
from contract.kafka import consumer_config, producer_config
from contract.settings import KafkaSettings
from contract.topics import ITEM_VECTORS, MODEL_BUNDLES
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics import reconcile
from streams.serving import Switch
from streams.tail import Follower, Tail
from tests.builders import T0, item_vector
from tests.e2e.clients import eventually
from tests.streams.servings import offer, serving

NUM_VECTORS = 3_000


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
        self.switch, self.stop = Switch(), Event()
        self.follower = Follower(
            self.switch,
            load_bundle=lambda announcement: announcement,
            make_serving=lambda announcement: serving({}, generation=announcement.generation),
            announce=lambda _: None,
            taken_down=set(),
            clock=ManualClock(T0),
        )
        self.failures = []

    def send(self, topic, event=None, *, key=None):
        name = self.kafka.layout.name(topic)
        if event is None:
            self.producer.produce(name, None, key.encode())
        else:
            self.producer.produce(name, encode(event), getattr(event, topic.key_field).encode())
        self.producer.poll(0)

    def start(self):
        config = consumer_config(self.kafka, group_id="tail") | {"enable.partition.eof": True}
        tail = Tail(Consumer(config), self.kafka.layout, self.follower, monotonic=lambda: 0.0)

        def run():
            try:
                tail.run(self.stop.is_set)
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


def test_what_comes_later_is_followed(world):
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
