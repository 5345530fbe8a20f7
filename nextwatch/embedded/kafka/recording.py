"""Record the JVM's AOT cache by running a node under load once.

The cache holds loaded classes and, since JDK 25, method profiles. A cache recorded on a start
alone leaves the broker interpreting its hot paths for minutes, so the recording sends what the
stack sends: small produce requests one by one, waiting fetches, commits and a group that joins.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from contract.errors import StackError
from contract.kafka.client import ClientConfig, client_config, consumer_config, producer_config
from contract.process.settings import KafkaSettings
from nextwatch.embedded.kafka import node
from nextwatch.embedded.kafka.distribution import Distribution
from nextwatch.embedded.process.ports import LOOPBACK, free_ports
from nextwatch.embedded.process.process import Child, Plan

LOAD_S = 8.0
_QUIET: ClientConfig = {"log_level": 2}
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 120.0
_NUM_READERS = 4
_TOPICS = ("events", "answers", "vectors")
_VALUE = b"x" * 600


def record(distribution: Distribution, output: Path) -> None:
    """Write the AOT cache of *distribution* to *output*; takes some 15 s.

    Raises:
        StackError: the node did not start, or wrote no cache.
    """
    with tempfile.TemporaryDirectory(prefix="nextwatch-kafka-") as name:
        folder = Path(name)
        port, controller_port = free_ports(2)
        settings = node.configure(
            folder,
            data_dir=folder / "data",
            port=port,
            controller_port=controller_port,
            advertised_port=port,
        )
        node.copy_template(distribution.template, folder / "data")
        draft = output.with_name(f".{output.name}.{os.getpid()}")
        command = node.server_command(distribution, settings, f"-XX:AOTCacheOutput={draft}")
        try:
            with _running(command, folder / "log"):
                _load(f"{LOOPBACK}:{port}")
            if not draft.exists():
                kept = output.with_suffix(".log")
                shutil.copyfile(folder / "log", kept)
                raise StackError(f"the JVM wrote none; its log: {kept}")
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _running(command: tuple[str, ...], log_path: Path) -> Iterator[None]:
    """Run *command* as a child; at the end ask it to stop, and wait until it has written all."""
    child = Child(Plan("kafka", command, node.java_env(os.environ), log_path))
    child.start()
    try:
        yield
        child.stop(_STOP_TIMEOUT_S)
    finally:
        child.kill()


def _load(bootstrap: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    _create_topics(kafka)
    is_over = Event()
    readers = [
        Thread(target=_read, args=(kafka, number, is_over), daemon=True)
        for number in range(_NUM_READERS)
    ]
    for reader in readers:
        reader.start()
    producers = [Producer(producer_config(kafka) | _QUIET) for _ in _TOPICS]
    deadline_s = monotonic() + LOAD_S
    number = 0
    while monotonic() < deadline_s:
        for producer, topic in zip(producers, _TOPICS, strict=True):
            producer.produce(topic, key=f"u{number % 97}", value=_VALUE)
        for producer in producers:
            producer.flush()
        number += 1
    is_over.set()
    for reader in readers:
        reader.join()


def _create_topics(kafka: KafkaSettings) -> None:
    admin = AdminClient(client_config(kafka) | _QUIET)
    new = [NewTopic(topic, 4, 1, config={"cleanup.policy": "compact"}) for topic in _TOPICS]
    try:
        for future in admin.create_topics(new, operation_timeout=_START_TIMEOUT_S).values():
            future.result(_START_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise StackError(
            f"Kafka did not start while its AOT cache was recorded: {error}"
        ) from error


def _read(kafka: KafkaSettings, number: int, is_over: Event) -> None:
    """Read all topics as a member of a group, and commit now and then."""
    consumer = Consumer(consumer_config(kafka, group_id=f"recording-{number}") | _QUIET)
    consumer.subscribe(list(_TOPICS))
    while not is_over.is_set():
        if consumer.consume(64, timeout=0.1):
            consumer.commit(asynchronous=True)
    consumer.close()
