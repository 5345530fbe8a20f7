import json
import time
import uuid

from confluent_kafka import Producer

# murmur2 like everyone else's: librdkafka's default would put one user's events on two partitions
producer = Producer({"bootstrap.servers": "127.0.0.1:9092", "partitioner": "murmur2_random"})
watch = {
    "event_id": str(uuid.uuid4()),
    "user_id": "u1",
    "video_id": "v42",
    "event_time_ms": int(time.time() * 1000),
    "watch_ms": 21_000,
    "duration_ms": 30_000,
}
producer.produce("watch-events", key="u1", value=json.dumps(watch))
if producer.flush(10):
    raise SystemExit("not acknowledged within 10 s: does a broker listen there?")
