"""A user's client: a plain confluent-kafka producer and consumers."""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.stack.waiting import eventually
from contract.kafka.client import security_config
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings

ANSWER_S = 20.0
"""How long the broker may take to answer a producer."""


class BrokerAddress(Protocol):
    """What a player connects to: a stack, or a `PrefixedStack`."""

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the broker, and how its topics are named."""
        ...

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker is."""
        ...


class Player:
    """Produces events and reads recommendations with confluent-kafka alone.

    With a *transactional_id* what it produces belongs to transactions, which the caller begins
    and ends. With another *partitioner* than Kafka's own its keys come to lie elsewhere.
    """

    def __init__(
        self,
        stack: BrokerAddress,
        *,
        transactional_id: str | None = None,
        partitioner: str = "murmur2_random",
    ) -> None:
        settings = stack.kafka
        self._prefix = settings.topic_prefix
        self._connection = security_config(settings) | {
            "bootstrap.servers": stack.bootstrap_servers
        }
        config = self._connection | {
            "partitioner": partitioner,
            "log_level": 0,  # brokers come and go
        }
        if transactional_id is not None:
            config["transactional.id"] = transactional_id
        self._producer = Producer(config)
        if transactional_id is not None:
            self._producer.init_transactions(ANSWER_S)
        self._consumers: dict[str, Consumer] = {}
        self._partitions = {
            "user": settings.user_partitions,
            "video": settings.video_partitions,
            "bundle": 1,
        }
        self.read: dict[str, list[Message]] = {}

    def begin(self) -> None:
        """Begin a transaction."""
        self._producer.begin_transaction()

    def commit(self) -> None:
        """Commit the transaction."""
        self._producer.commit_transaction(ANSWER_S)

    def abort(self) -> None:
        """Abort the transaction, once all of it is in the log."""
        self.flush()
        self._producer.abort_transaction(ANSWER_S)

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: dict[str, Any] | bytes | None,
        headers: Iterable[tuple[str, bytes]] = (),
        **options: Any,
    ) -> None:
        """Produce one message; dicts are sent as JSON. The *options* are confluent-kafka's."""
        body = json.dumps(value).encode() if isinstance(value, dict) else value
        name = self._prefix + topic
        self._producer.produce(name, key=key, value=body, headers=list(headers), **options)

    def flush(self, *, within_s: float = ANSWER_S) -> None:
        """Wait until everything is acknowledged."""
        assert self._producer.flush(within_s) == 0

    def watch(self, user_id: str, video_id: str, **fields: Any) -> str:
        """Produce a watch event and return its id."""
        event_id = str(uuid.uuid4())
        event = {
            "event_id": event_id,
            "user_id": user_id,
            "video_id": video_id,
            "event_time_ms": system_clock(),
            "watch_ms": 30_000,
            "duration_ms": 30_000,
        }
        self.produce("watch-events", user_id, event | fields)
        return event_id

    def ask(self, user_id: str, **fields: Any) -> str:
        """Produce a request for a list and return its id."""
        request_id = str(uuid.uuid4())
        request = {"request_id": request_id, "user_id": user_id, "event_time_ms": system_clock()}
        self.produce("recommendation-requests", user_id, request | fields)
        return request_id

    def show(self, user_id: str, video_ids: Iterable[str]) -> None:
        """Produce the impressions of *video_ids*, from the top."""
        event = {
            "event_id": str(uuid.uuid4()),
            "user_id": user_id,
            "event_time_ms": system_clock(),
            "videos": [{"video_id": v, "position": n} for n, v in enumerate(video_ids)],
        }
        self.produce("impressions", user_id, event)

    def search(self, user_id: str, query: str) -> str:
        """Produce a search event and return its id."""
        event_id = str(uuid.uuid4())
        event = {"event_id": event_id, "user_id": user_id, "query": query}
        self.produce("search-events", user_id, event | {"event_time_ms": system_clock()})
        return event_id

    def upload(self, video_id: str, category: str = "cooking", **fields: Any) -> None:
        """Produce an upload."""
        video = {
            "video_id": video_id,
            "title": f"{category} {video_id}",
            "category": category,
            "tags": [category],
            "channel_id": f"c-{category}",
            "duration_ms": 30_000,
            "uploaded_at_ms": system_clock(),
        }
        self.produce("video-uploads", video_id, video | fields)

    def poll(self, topic: str, *, key: str = "user") -> list[Message]:
        """Read what came on *topic* since the beginning; return all of it so far."""
        if topic not in self._consumers:
            config = self._connection | {
                "group.id": f"player-{uuid.uuid4()}",
                "fetch.wait.max.ms": 10,
            }
            self._consumers[topic] = Consumer(config)
            self._consumers[topic].assign(
                [TopicPartition(self._prefix + topic, p, 0) for p in range(self._partitions[key])]
            )
            self.read[topic] = []
        for message in self._consumers[topic].consume(1000, timeout=0.1):
            assert message.error() is None
            self.read[topic].append(message)
        return self.read[topic]

    def recommendations(self) -> list[dict[str, Any]]:
        """Return every recommendation so far, decoded."""
        values = [message.value() for message in self.poll("recommendations")]
        return [json.loads(value) for value in values if value is not None]

    def answer_to(self, event_id: str, *, within_s: float = 15.0) -> dict[str, Any]:
        """Wait for the recommendation that *event_id* caused."""

        def find() -> list[dict[str, Any]]:
            return [r for r in self.recommendations() if event_id in r["caused_by"]]

        found = eventually(find, within_s=within_s)
        assert found, f"no recommendation within {within_s} s"
        return found[0]

    def close(self) -> None:
        """Send what waits, and close the consumers."""
        self.flush()
        for consumer in self._consumers.values():
            consumer.close()


@contextmanager
def player_of(stack: BrokerAddress) -> Iterator[Player]:
    """Yield a player on *stack*, and close it after."""
    player = Player(stack)
    try:
        yield player
    finally:
        player.close()
