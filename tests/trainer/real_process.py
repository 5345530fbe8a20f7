"""The real trainer process on a real broker, and everybody else on that broker."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.kafka.client import consumer_config, producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.wire.events import BundleAnnouncement, BundleState, ItemVector, encode
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120


class Neighbours:
    """Everybody else on the broker: players, creators, and whoever puts bundles in service."""

    def __init__(self, kafka):
        self._layout = kafka.layout
        self._outbox = Outbox(Producer(producer_config(kafka)))
        self._consumer = Consumer(consumer_config(kafka, group_id="neighbours"))
        topics = (MODEL_BUNDLES, ITEM_VECTORS)
        self._consumer.assign(
            [
                TopicPartition(self._layout.name(topic), number, 0)
                for topic in topics
                for number in range(self._layout.num_partitions(topic))
            ]
        )
        self.offered = []
        self.vectors = []

    def send(self, topic, *events):
        """Produce *events* and wait until they are there."""
        for event in events:
            key = getattr(event, topic.key_field).encode()
            self._outbox.send([Outgoing(self._layout.name(topic), key, encode(event))])
        self._outbox.flush()

    def wait_until(self, is_enough):
        """Read on until *is_enough*."""
        end_s = monotonic() + PATIENCE_S
        while not is_enough():
            assert monotonic() < end_s, "waited in vain"
            for message in self._consumer.consume(100, 0.05):
                self._note(message)

    def close(self):
        self._consumer.close()

    def _note(self, message):
        assert message.error() is None
        if message.topic() == self._layout.name(ITEM_VECTORS):
            self.vectors.append(msgspec.json.decode(message.value(), type=ItemVector))
            return
        said = msgspec.json.decode(message.value(), type=BundleAnnouncement)
        if said.state is BundleState.OFFERED:
            self.offered.append(said)
            self.send(MODEL_BUNDLES, msgspec.structs.replace(said, state=BundleState.IN_SERVICE))


class Process:
    """``python -m trainer`` in a directory of its own."""

    def __init__(self, kafka, directory, **settings):
        self.ready = directory / "ready"
        self.checkpoints = directory / "checkpoints"
        self.directory = directory
        self._env = {
            **{name: value for name, value in os.environ.items() if "NEXTWATCH" not in name},
            "OMP_NUM_THREADS": "1",
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
            "NEXTWATCH_KAFKA_USER_PARTITIONS": str(kafka.user_partitions),
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": str(kafka.video_partitions),
            "NEXTWATCH_KAFKA_FETCH_MAX_WAIT_MS": "10",
            "NEXTWATCH_PROCESS_READY_FILE": str(self.ready),
            "NEXTWATCH_PROCESS_BUNDLE_URL": f"file://{directory}/bundles",
            "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(self.checkpoints),
            "NEXTWATCH_TRAINER_CHECKPOINT_EVERY_S": "0.5",
            "NEXTWATCH_TRAINER_PUBLISH_EVERY_S": "1",
            "NEXTWATCH_TRAINER_FAST_PATH_S": "0.3",
            "NEXTWATCH_TRAINER_BATCH_WAIT_MS": "50",
            "NEXTWATCH_TRAINER_NICENESS": "0",
            **{f"NEXTWATCH_TRAINER_{name.upper()}": str(of) for name, of in settings.items()},
        }
        self.child = None
        self._command = [sys.executable, "-m", "trainer"]

    def as_group(self, size):
        """Start *size* of them with torchrun."""
        launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(size))
        launch += ("--max-restarts", "5", "--monitor-interval", "0.2")
        self._command = [sys.executable, "-m", *launch, "-m", "trainer"]
        return self

    def start(self):
        with (self.directory / "log").open("a") as log:
            self.child = subprocess.Popen(self._command, cwd=ROOT, env=self._env, stderr=log)

    def run(self, *command):
        """Run the process, or another *command* with its settings, and return how it ended."""
        return subprocess.run(
            [sys.executable, "-m", *(command or ("trainer",))],
            cwd=ROOT, env=self._env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def kill_a_rank(self):
        """End one of the trainers that torchrun has started, which then starts all of them."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)

    def end(self, number):
        """Send a signal and return the exit status."""
        self.child.send_signal(number)
        return self.child.wait(PATIENCE_S)

    def log(self):
        return (self.directory / "log").read_text()
