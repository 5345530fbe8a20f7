"""The Python clients, with nothing set but where the broker is, and librdkafka's partitioner."""

import asyncio
import json
from time import monotonic
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer

from benchmarks.clients.scenario import ClientFailed, Fields

JOIN_WITHIN_S = 30.0


class ConfluentKafka:
    """librdkafka under Python, in a group of its own."""

    def __init__(self, bootstrap_servers: str) -> None:
        broker = {"bootstrap.servers": bootstrap_servers}
        self._producer = Producer(broker | {"partitioner": "murmur2_random"})
        self._consumer = Consumer(broker | {"group.id": f"client-{uuid4()}"})
        self._consumer.subscribe(["recommendations"])
        deadline_s = monotonic() + JOIN_WITHIN_S
        while not self._consumer.assignment():
            self._consumer.poll(0.1)
            if monotonic() > deadline_s:
                raise ClientFailed(f"did not join its group within {JOIN_WITHIN_S:.0f} s")

    def produce(self, topic: str, key: str, fields: Fields) -> None:
        """Produce one JSON message, and wait until it is acknowledged."""
        self._producer.produce(topic, key=key, value=json.dumps(fields))
        if self._producer.flush(10):
            raise ClientFailed(f"{topic}: not acknowledged within 10 s")

    def receive(self, within_s: float) -> Fields | None:
        """Return the next recommendation, or None when none came *within_s*."""
        message = self._consumer.poll(within_s)
        if message is None:
            return None
        if message.error() is not None:
            raise ClientFailed(str(message.error()))
        value = message.value()
        return None if value is None else _decoded(value)

    def close(self) -> None:
        """End both."""
        self._consumer.close()


class Aiokafka:
    """A client in pure Python, in a group of its own; its loop runs while it is asked."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._start(bootstrap_servers))

    async def _start(self, servers: str) -> None:
        self._producer: Any = AIOKafkaProducer(bootstrap_servers=servers)
        self._consumer: Any = AIOKafkaConsumer(
            "recommendations", bootstrap_servers=servers, group_id=f"client-{uuid4()}"
        )
        await self._producer.start()
        await asyncio.wait_for(self._consumer.start(), JOIN_WITHIN_S)

    def produce(self, topic: str, key: str, fields: Fields) -> None:
        """Produce one JSON message, and wait until it is acknowledged."""
        value = json.dumps(fields).encode()
        self._runner.run(self._producer.send_and_wait(topic, value, key=key.encode()))

    def receive(self, within_s: float) -> Fields | None:
        """Return the next recommendation, or None when none came *within_s*."""
        asked = self._consumer.getmany(timeout_ms=round(within_s * 1000), max_records=1)
        for records in self._runner.run(asked).values():
            return None if records[0].value is None else _decoded(records[0].value)
        return None

    def close(self) -> None:
        """End both."""
        self._runner.run(self._consumer.stop())
        self._runner.run(self._producer.stop())
        self._runner.close()


def _decoded(value: bytes) -> Fields:
    fields: Fields = json.loads(value)
    return fields
