"""Run stacks and processes on the cluster of one test."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Producer

from benchmarks.stack.player import Player
from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from contract.errors import BrokerUnavailable
from contract.kafka.client import producer_config
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import reconcile

START_S = 180.0
WORKERS = ("streams", "trainer", "index_sync")


@contextmanager
def stack_on(cluster, *processes, user="", **options):
    """Run *processes* and an index on *cluster* as *user*, unsupervised so that tests may kill."""
    stack = EmbeddedStack(
        os.environ,
        processes=("index", *processes),
        env=cluster.env(user),
        **{"is_supervised": False, "publish_every_s": 5.0} | options,
    )
    if processes:
        make_topics(stack.kafka)
    stack.start(START_S)
    try:
        yield stack
    finally:
        stack.stop()


def make_topics(kafka):
    """Create the topics; three brokers on two cores may need more than one try."""

    def is_done():
        try:
            reconcile(kafka)
        except BrokerUnavailable:
            return False
        return True

    assert eventually(is_done, within_s=90)


@dataclass(frozen=True)
class SeparateStack(PrefixedStack):
    """A prefixed stack whose trainer and index_sync also have directories of their own."""

    def __post_init__(self):
        make_topics(self.kafka)

    @property
    def env(self):
        """The settings by which its processes find it."""
        directory = self.stack.directory / self.prefix
        return {
            **super().env,
            "NEXTWATCH_PROCESS_BUNDLE_URL": (directory / "bundles").as_uri(),
            "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(directory / "trainer"),
            "NEXTWATCH_TRAINER_PUBLISH_EVERY_S": "5",
        }

    def process(self, name):
        """Start streams, trainer or index_sync."""
        return self.worker("-m", name, name=name)


@dataclass(frozen=True)
class Seen:
    """*place* as the super user of its cluster sees it: without a password."""

    place: PrefixedStack
    bootstrap_servers: str

    @property
    def kafka(self):
        """The settings of *place*, to be reached at the super user's own listener."""
        given = self.place.kafka
        plain = {"security_protocol": "PLAINTEXT", "bootstrap_servers": self.bootstrap_servers}
        secret = ("ssl_", "sasl_")
        open_to_all = {name: None for name in type(given).model_fields if name.startswith(secret)}
        return given.model_copy(update=open_to_all | plain)


@contextmanager
def player_at(place, cluster):
    """Yield a player at *place*, or on a stack, that needs no password; close it after."""
    player = Player(Seen(place, cluster.bootstrap_servers))
    try:
        yield player
    finally:
        player.close()


class Transactions:
    """A transactional producer at *place*, with Kafka's own names for what it does."""

    def __init__(self, place, name="transactions"):
        config = producer_config(place.kafka) | {"transactional.id": place.prefix + name}
        self._prefix = place.prefix
        self._producer = Producer(config)
        self._producer.init_transactions(20)

    def begin(self):
        """Begin a transaction."""
        self._producer.begin_transaction()

    def produce(self, topic, key, value):
        """Produce a record in it, and wait until the log has it."""
        body = json.dumps(value).encode() if isinstance(value, dict) else value
        self._producer.produce(self._prefix + topic, key=key, value=body)
        assert self._producer.flush(20) == 0

    def commit(self):
        """Commit it."""
        self._producer.commit_transaction(20)

    def abort(self):
        """Abort it."""
        self._producer.abort_transaction(20)


def facts(child, name):
    """Return the log lines called *name* of *child* so far."""
    lines = (line for line in child.log_path.read_text().splitlines() if line[:1] == "{")
    return [fact for fact in map(json.loads, lines) if fact["event"] == name]


def keys(messages):
    """Return the keys of *messages*, as text."""
    return {message.key().decode() for message in messages}
