"""A real broker for the whole run, and topics of its own for each test."""

import os
from itertools import count

import pytest

from contract.process.settings import KafkaSettings
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile

_NUMBERS = count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A real broker."""
    broker = EmbeddedBroker(
        env=dict(os.environ), log_path=tmp_path_factory.mktemp("broker") / "broker.log"
    )
    broker.start()
    yield broker
    broker.child.stop()


@pytest.fixture
def kafka(broker):
    """How to reach the broker, with one partition to each topic: so that order is whole."""
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic_prefix=f"test{next(_NUMBERS)}-",
        user_partitions=1,
        video_partitions=1,
        fetch_max_wait_ms=10,
    )
    reconcile(settings)
    return settings
