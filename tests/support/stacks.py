"""Run a whole stack for a test: embedded, or on containers or running services.

The tests are written once. The second backend is Apache Kafka and a Qdrant server: those
named by NEXTWATCH_TEST_BOOTSTRAP and NEXTWATCH_TEST_QDRANT_URL, else containers where a
Docker engine answers, else absent with its reason. NEXTWATCH_TEST_REQUIRE=containers makes
the absence a failure. NEXTWATCH_TEST_KAFKA_IMAGE and NEXTWATCH_TEST_QDRANT_IMAGE name other
images than the official ones.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

import pytest

from contract.process.settings import QdrantSettings, load
from nextwatch import collections
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import delete_all, reconcile

KAFKA_IMAGE = os.environ.get("NEXTWATCH_TEST_KAFKA_IMAGE", "apache/kafka:4.1.0")
QDRANT_IMAGE = os.environ.get("NEXTWATCH_TEST_QDRANT_IMAGE", "qdrant/qdrant:v1.20.0")
BACKENDS = ("embedded", "containers")
WORKERS = ("streams", "trainer", "index_sync")
_ENGINE_ANSWERS_WITHIN_S = 60
_START_WITHIN_S = 150
"""A machine that runs other things, too, needs its time to load torch."""

_started = []


@dataclass(frozen=True)
class Services:
    """The addresses of a broker and an index that already run."""

    bootstrap_servers: str
    qdrant_url: str


@contextmanager
def running_stack(backend, *, processes=WORKERS, env_of=None, **options):
    """Start *processes* on *backend*, unsupervised so that tests may kill; stop them after."""
    if "trainer" in processes:
        pytest.importorskip("torch", reason="the trainer needs torch, which is not installed")
    if backend == "embedded":
        processes = ("broker", "index", *processes)
        env = {}
    else:
        env = _settings_for(_services())
    stack = EmbeddedStack(
        os.environ, processes=processes, is_supervised=False, env=env, env_of=env_of, **options
    )
    if backend == "containers":
        reconcile(stack.kafka)
    try:
        stack.start(timeout_s=_START_WITHIN_S)
        yield stack
    finally:
        stack.stop()
        if backend == "containers":
            _leave_nothing(stack)


def _leave_nothing(stack):
    """Delete the topics and the collections of a run from services that others use, too."""
    qdrant = load(QdrantSettings, stack.env)
    collections.drop(qdrant, qdrant.prefix(stack.kafka))
    delete_all(stack.kafka)


def _settings_for(services):
    """Return settings with new names, so that tests on shared services do not collide."""
    run = uuid4().hex[:8]
    security = {
        name: given
        for name, given in os.environ.items()
        if name.startswith(
            ("NEXTWATCH_KAFKA_SECURITY_", "NEXTWATCH_KAFKA_SASL_", "NEXTWATCH_KAFKA_SSL_")
        )
    }
    return security | {
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": services.bootstrap_servers,
        "NEXTWATCH_KAFKA_TOPIC_PREFIX": f"test-{run}-",
        "NEXTWATCH_QDRANT_URL": services.qdrant_url,
    }


@cache
def _services():
    """Return running services, or skip with the reason why there are none."""
    bootstrap = os.environ.get("NEXTWATCH_TEST_BOOTSTRAP")
    qdrant_url = os.environ.get("NEXTWATCH_TEST_QDRANT_URL")
    if bootstrap and qdrant_url:
        return Services(bootstrap, qdrant_url)
    if reason := _no_engine():
        if "containers" in os.environ.get("NEXTWATCH_TEST_REQUIRE", ""):
            pytest.fail(f"containers are required, but {reason}")
        pytest.skip(f"{reason}, and NEXTWATCH_TEST_BOOTSTRAP names no running service")
    return _start_containers()


def _no_engine():
    """Return why no container can be started; an empty string when one can.

    Asked in a process of its own: the client leaves an open socket behind when none answers.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "tests.support.docker_engine", KAFKA_IMAGE, QDRANT_IMAGE],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ENGINE_ANSWERS_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return f"the Docker engine did not answer within {_ENGINE_ANSWERS_WITHIN_S} s"
    return "" if asked.returncode == 0 else asked.stdout.strip() or "no Docker engine answers"


def _start_containers():
    """Start Kafka and Qdrant on free ports of loopback; `stop_containers` ends them."""
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - only with an engine
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    testcontainers_config.ryuk_disabled = True  # one image more, and it may not be had
    kafka_port, qdrant_port = free_ports(2)
    kafka, qdrant = DockerContainer(KAFKA_IMAGE), DockerContainer(QDRANT_IMAGE)
    for name, value in _KAFKA_SETTINGS.items():
        kafka = kafka.with_env(name, value.format(port=kafka_port))
    kafka.ports["9092/tcp"] = ("127.0.0.1", kafka_port)
    qdrant.ports["6333/tcp"] = ("127.0.0.1", qdrant_port)
    for container, said in ((kafka, "Kafka Server started"), (qdrant, "Qdrant HTTP listening")):
        _started.append(container)
        container.waiting_for(LogMessageWaitStrategy(said)).start()
    return Services(f"127.0.0.1:{kafka_port}", f"http://127.0.0.1:{qdrant_port}")


def stop_containers():
    """Remove the containers that the tests started, with their volumes."""
    while _started:
        _started.pop().stop()


# testcontainers' own KafkaContainer starts Confluent's images only.
_KAFKA_SETTINGS = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://127.0.0.1:{port}",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}
