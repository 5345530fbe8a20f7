"""What a user of Nextwatch writes: a plain producer and a plain consumer, nothing of ours."""

import json
import time
import uuid
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition

from contract.clock import system_clock


def eventually(find, *, within_s=15.0, every_s=0.05):
    """Return the first true value of *find*; None when there was none in time."""
    deadline = time.monotonic() + within_s
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(every_s)  # the one place that waits between two looks
    return found


class Player:
    """Produces events and reads recommendations with confluent-kafka alone."""

    def __init__(self, stack):
        settings = stack.kafka
        self._prefix = settings.topic_prefix
        self._producer = Producer(
            {"bootstrap.servers": stack.bootstrap_servers, "partitioner": "murmur2_random"}
        )
        self._consumers = {}
        self._bootstrap = stack.bootstrap_servers
        self._partitions = {
            "user": settings.user_partitions,
            "video": settings.video_partitions,
            "bundle": 1,
        }
        self.read = {}

    def produce(self, topic, key, value, headers=()):
        """Produce one message; dicts are sent as JSON."""
        body = json.dumps(value).encode() if isinstance(value, dict) else value
        self._producer.produce(self._prefix + topic, key=key, value=body, headers=list(headers))

    def flush(self):
        """Wait until everything is acknowledged."""
        assert self._producer.flush(20) == 0

    def watch(self, user_id, video_id, **fields):
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

    def ask(self, user_id, **fields):
        """Produce a request for a list and return its id."""
        request_id = str(uuid.uuid4())
        request = {"request_id": request_id, "user_id": user_id, "event_time_ms": system_clock()}
        self.produce("recommendation-requests", user_id, request | fields)
        return request_id

    def show(self, user_id, video_ids):
        """Produce the impressions of *video_ids*, from the top."""
        event = {
            "event_id": str(uuid.uuid4()),
            "user_id": user_id,
            "event_time_ms": system_clock(),
            "videos": [{"video_id": v, "position": n} for n, v in enumerate(video_ids)],
        }
        self.produce("impressions", user_id, event)

    def search(self, user_id, query):
        """Produce a search event and return its id."""
        event_id = str(uuid.uuid4())
        event = {"event_id": event_id, "user_id": user_id, "query": query}
        self.produce("search-events", user_id, event | {"event_time_ms": system_clock()})
        return event_id

    def upload(self, video_id, category="cooking", **fields):
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

    def poll(self, topic, *, key="user"):
        """Read what came on *topic* since the beginning; return all of it so far."""
        if topic not in self._consumers:
            config = {
                "bootstrap.servers": self._bootstrap,
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

    def recommendations(self):
        """Return every recommendation so far, decoded; not the words on users that were erased."""
        values = [message.value() for message in self.poll("recommendations")]
        return [json.loads(value) for value in values if value is not None]

    def answer_to(self, event_id, *, within_s=15.0):
        """Wait for the recommendation that *event_id* caused."""

        def find():
            return [r for r in self.recommendations() if event_id in r["caused_by"]]

        found = eventually(find, within_s=within_s)
        assert found, f"no recommendation within {within_s} s"
        return found[0]

    def close(self):
        """Send what waits, and close the consumers."""
        self.flush()
        for consumer in self._consumers.values():
            consumer.close()


@contextmanager
def player_of(stack):
    """A player on *stack*, closed after."""
    player = Player(stack)
    try:
        yield player
    finally:
        player.close()
