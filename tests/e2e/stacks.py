"""A whole stack for a test: embedded always, on containers or running services where there are.

The tests are written once. The second backend is Apache Kafka and a Qdrant server: those
named by NEXTWATCH_TEST_BOOTSTRAP and NEXTWATCH_TEST_QDRANT_URL, else containers where a
Docker engine answers, else absent with its reason. NEXTWATCH_TEST_REQUIRE=containers makes
the absence a failure.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

import pytest

from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics import reconcile

KAFKA_IMAGE = "apache/kafka:4.1.0"
QDRANT_IMAGE = "qdrant/qdrant:v1.20.0"
BACKENDS = ("embedded", "containers")
WORKERS = ("streams", "trainer", "index_sync")


@dataclass(frozen=True)
class Services:
    """A broker and an index that somebody else runs."""

    bootstrap_servers: str
    qdrant_url: str


@contextmanager
def running_stack(backend, *, processes=WORKERS, env_of=None, **options):
    """Start *processes* on *backend*, unsupervised so that tests may kill; stop them after."""
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
    with stack:
        yield stack


def _settings_for(services):
    """Name everything anew, so that tests on shared services do not meet."""
    run = uuid4().hex[:8]
    return {
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": services.bootstrap_servers,
        "NEXTWATCH_KAFKA_TOPIC_PREFIX": f"test-{run}-",
        "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "NEXTWATCH_QDRANT_URL": services.qdrant_url,
        "NEXTWATCH_QDRANT_COLLECTION_PREFIX": f"test-{run}",
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
    ping = "import docker; docker.from_env(timeout=5).ping()"
    asked = subprocess.run(
        [sys.executable, "-c", ping], capture_output=True, text=True, check=False
    )
    return "" if asked.returncode == 0 else "no Docker engine answers"


def _start_containers():
    """Start Kafka and Qdrant; testcontainers removes them when the tests have ended."""
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - only with an engine
    from testcontainers.community.qdrant import QdrantContainer  # noqa: PLC0415

    kafka = KafkaContainer(KAFKA_IMAGE).with_kraft().start()
    qdrant = QdrantContainer(QDRANT_IMAGE).start()
    host, port = qdrant.get_container_host_ip(), qdrant.get_exposed_port(6333)
    return Services(kafka.get_bootstrap_server(), f"http://{host}:{port}")
