"""Measure one hop through a broker: ``python -m benchmarks.broker_hop --json``.

Three brokers in one run: Apache Kafka as the embedded stack starts it, Apache Kafka with the flags
and settings it has when nobody chose any, and Tansu. Of each: how long a record takes from a
producer to a waiting consumer when the partitions are empty and after they have kept more and
more records, the broker's share of a core meanwhile, how long a consumer group takes to join,
and the processor time of one produce request.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psutil
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from contract.kafka.client import ClientConfig, producer_config
from contract.process.settings import KafkaSettings
from nextwatch.embedded.broker import EmbeddedBroker, Engine, choose_engine
from nextwatch.embedded.kafka import node
from nextwatch.embedded.kafka.distribution import Distribution
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.process.process import Child, Plan

TOPIC = "hops"
NUM_PARTITIONS = 4
RECORD_BYTES = 2_400
FILL_BYTES = 240
EVERY_S = 0.02
WARM_UP = 500
"""Hops before the first figure: a JVM compiles what it repeats."""
NUM_REQUESTS = 3_000
NUM_JOINS = 5
KEPT = (0, 100_000, 1_000_000)
KEPT_BY_TANSU = (0, 20_000)
"""Each of its fetches walks over every kept batch: filling it further takes hours."""

DEFAULT_JVM_FLAGS = (
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)
"""Those of Kafka's own start script."""
DEFAULT_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
log.dirs={data_dir}
offsets.topic.replication.factor=1
"""


@dataclass(frozen=True, slots=True)
class MeasuredBroker:
    """A broker that runs: where, how long it took to start, and its process."""

    bootstrap_servers: str
    startup_s: float
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the processor time that the broker has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def embedded(engine: Engine, folder: Path) -> Iterator[MeasuredBroker]:
    """Run the broker as the embedded stack does."""
    broker = EmbeddedBroker(env=dict(os.environ), log_path=folder / "broker.log", engine=engine)
    started_s = monotonic()
    broker.start()
    try:
        yield _measured(broker.bootstrap_servers, started_s, broker.child.pid)
    finally:
        broker.child.stop()


@contextmanager
def by_default(distribution: Distribution, folder: Path) -> Iterator[MeasuredBroker]:
    """Run Kafka as its own start script does, but for one replica of the offsets topic."""
    port, controller_port = free_ports(2)
    node.copy_template(distribution.template, folder / "data")
    settings = folder / "server.properties"
    settings.write_text(
        DEFAULT_SETTINGS.format(
            port=port, controller_port=controller_port, data_dir=folder / "data"
        )
    )
    command = (*distribution.java_command(*DEFAULT_JVM_FLAGS, main="kafka.Kafka"), str(settings))
    plan = Plan("kafka", command, dict(os.environ), folder / "broker.log", (port,))
    child = Child(plan)
    started_s = monotonic()
    child.start()
    try:
        child.wait_ready()
        yield _measured(f"127.0.0.1:{port}", started_s, child.pid)
    finally:
        child.stop()


def _measured(bootstrap_servers: str, started_s: float, pid: int) -> MeasuredBroker:
    """Return the broker once it lists its topics."""
    AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=30)
    return MeasuredBroker(bootstrap_servers, round(monotonic() - started_s, 2), psutil.Process(pid))


class HopBench:
    """A producer of ours and a waiting consumer with librdkafka's default settings."""

    def __init__(self, broker: MeasuredBroker) -> None:
        self.broker = broker
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        config: ClientConfig = {"bootstrap.servers": broker.bootstrap_servers}
        admin = AdminClient(config)
        created = admin.create_topics([NewTopic(TOPIC, NUM_PARTITIONS, 1)], operation_timeout=30)
        for future in created.values():
            future.result(30)
        self._config = config
        self._prompt = Producer(producer_config(settings))
        self._bulk = Producer(producer_config(settings, linger_ms=5))

    def fill(self, num_records: int) -> None:
        """Let the broker keep *num_records* more."""
        value = b"x" * FILL_BYTES
        for number in range(num_records):
            while len(self._bulk) > 50_000:  # noqa: PLR2004 - half of its queue
                self._bulk.poll(0.05)
            self._bulk.produce(TOPIC, key=f"u{number}", value=value)
        self._bulk.flush()

    def hops(self, num_records: int) -> dict[str, float]:
        """Send *num_records* at 50/s; return p50 and p99 of a hop and the broker's CPU share."""
        consumer = Consumer(self._config | {"group.id": "hops", "enable.auto.commit": False})
        consumer.assign([TopicPartition(TOPIC, p, OFFSET_END) for p in range(NUM_PARTITIONS)])
        while consumer.poll(0.7):
            pass
        took_ms: list[float] = []
        has_ended = threading.Event()
        receiver = threading.Thread(target=_receive, args=(consumer, took_ms, has_ended))
        receiver.start()
        started_s, cpu_s = monotonic(), self.broker.cpu_s()
        for number in range(num_records):
            body = f"{monotonic()} ".encode().ljust(RECORD_BYTES, b"x")
            self._prompt.produce(TOPIC, key=f"u{number}", value=body)
            self._prompt.poll(0)
            sleep(EVERY_S)
        self._prompt.flush()
        share = (self.broker.cpu_s() - cpu_s) / (monotonic() - started_s)
        sleep(0.5)
        has_ended.set()
        receiver.join()
        consumer.close()
        cuts = statistics.quantiles(took_ms, n=100)
        return {
            "p50_ms": round(cuts[49], 2),
            "p99_ms": round(cuts[98], 2),
            "broker_cpu_percent": round(100 * share, 1),
        }

    def join_ms(self) -> float:
        """Return the median time from subscribing to being assigned partitions."""
        return round(statistics.median(self._join_once(n) for n in range(NUM_JOINS)), 0)

    def _join_once(self, number: int) -> float:
        is_assigned = threading.Event()
        consumer = Consumer(self._config | {"group.id": f"join-{number}"})
        started_s = monotonic()
        consumer.subscribe([TOPIC], on_assign=lambda *_: is_assigned.set())
        while not is_assigned.is_set():
            consumer.poll(0.01)
        took_ms = 1e3 * (monotonic() - started_s)
        consumer.close()
        return took_ms

    def cpu_ms_per_request(self) -> float:
        """Return the broker's processor time of one produce request that is waited for."""
        cpu_s = self.broker.cpu_s()
        for number in range(NUM_REQUESTS):
            self._prompt.produce(TOPIC, key=f"u{number}", value=b"x" * FILL_BYTES)
            self._prompt.flush()
        return round(1e3 * (self.broker.cpu_s() - cpu_s) / NUM_REQUESTS, 3)


def _receive(consumer: Consumer, took_ms: list[float], has_ended: threading.Event) -> None:
    while not has_ended.is_set():
        message = consumer.poll(0.1)
        value = message.value() if message is not None and message.error() is None else None
        if value is not None and len(value) == RECORD_BYTES:
            took_ms.append(1e3 * (monotonic() - float(value.split(b" ")[0])))


def measure(broker: MeasuredBroker, kept: Sequence[int], num_records: int) -> dict[str, object]:
    """Return every figure of one broker."""
    bench = HopBench(broker)
    bench.hops(min(WARM_UP, num_records))
    joined_ms = bench.join_ms()
    hops: dict[str, dict[str, float]] = {}
    num_kept = 0
    for wanted in kept:
        bench.fill(wanted - num_kept)
        num_kept = wanted
        hops[str(wanted)] = bench.hops(num_records)
    return {
        "startup_s": broker.startup_s,
        "group_join_ms": joined_ms,
        "cpu_ms_per_request": bench.cpu_ms_per_request(),
        "memory_mb": round(broker.process.memory_info().rss / 2**20),
        "hops_by_records_kept": hops,
    }


def main() -> None:
    """Print the figures of all three brokers as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500, help="measured for each row")
    parser.add_argument("--json", action="store_true", help="the only form there is")
    given = parser.parse_args()
    engine = choose_engine(os.environ)
    assert engine.distribution is not None
    distribution = engine.distribution
    runs: dict[
        str, tuple[Callable[[Path], AbstractContextManager[MeasuredBroker]], Sequence[int]]
    ] = {
        "kafka": (lambda folder: embedded(engine, folder), KEPT),
        "kafka_default_flags": (lambda folder: by_default(distribution, folder), KEPT),
        "tansu": (lambda folder: embedded(choose_engine({}, "tansu"), folder), KEPT_BY_TANSU),
    }
    figures: dict[str, object] = {"broker": engine.name}
    for name, (start, kept) in runs.items():
        with (
            tempfile.TemporaryDirectory(prefix="nextwatch-hop-") as folder,
            start(Path(folder)) as broker,
        ):
            figures[name] = measure(broker, kept, given.records)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
