"""What waits for Kafka is bounded in time and in number."""

import asyncio
import time

import pytest
from confluent_kafka import Producer

from contract.errors import BrokerUnavailable
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outgoing
from contract.process.settings import KafkaSettings
from nextwatch.embedded.process.ports import free_ports
from nextwatch.gateway.sending import EventSender, sending_bounds

ACK_WITHIN_S = 0.5


@pytest.fixture
def sender():
    """A sender without a broker, in which two records have room."""
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_ports(1)[0]}")
    config = producer_config(kafka) | sending_bounds(ack_within_s=ACK_WITHIN_S)
    failures = []
    producer = Producer(config | {"queue.buffering.max.messages": 2, "log_level": 0})
    sender = EventSender(producer, ack_within_s=ACK_WITHIN_S, on_failure=failures.append)
    sender.start()
    yield sender
    sender.stop()
    assert failures == []


def test_without_a_broker_each_record_is_given_up_in_time_and_too_many_at_once(sender):
    async def send():
        started_s = time.monotonic()
        with pytest.raises(BrokerUnavailable) as raised:
            await sender.send(Outgoing("watch-events", b"u1", b"{}"))
        return str(raised.value), time.monotonic() - started_s

    async def send_three():
        return await asyncio.gather(send(), send(), send())

    first, second, third = asyncio.run(send_three())

    assert "no acknowledgement" in first[0]
    assert min(first[1], second[1]) >= ACK_WITHIN_S
    assert max(first[1], second[1]) < ACK_WITHIN_S + 1
    assert "wait for Kafka already" in third[0]
    assert third[1] < ACK_WITHIN_S
