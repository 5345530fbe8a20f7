# A player: asks for a list, watches its first video, asks again.
import json
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

BROKER = {"bootstrap.servers": "127.0.0.1:9092"}
USER = "u2"
producer = Producer({**BROKER, "partitioner": "murmur2_random"})
# Assigned by hand, at the end: no group has to be joined, and nothing of the past is read.
consumer = Consumer({**BROKER, "group.id": "none", "enable.auto.commit": False})
partitions = [
    TopicPartition("recommendations", number)
    for number in consumer.list_topics("recommendations", timeout=10)
    .topics["recommendations"]
    .partitions
]
for partition in partitions:
    _, partition.offset = consumer.get_watermark_offsets(partition, timeout=10)
consumer.assign(partitions)


def now_ms() -> int:
    return int(time.time() * 1000)


def send(topic: str, fields: dict) -> None:
    producer.produce(topic, key=USER, value=json.dumps({"user_id": USER, **fields}))
    if producer.flush(10):
        raise SystemExit("not acknowledged within 10 s: does a broker listen there?")


def answer_to(cause: str) -> dict:
    """Return the recommendation that names *cause*; others on the topic are for others."""
    give_up_s = time.monotonic() + 10
    while time.monotonic() < give_up_s:
        message = consumer.poll(1.0)
        if message is not None and not message.error() and message.value() is not None:
            answer = json.loads(message.value())
            if cause in answer["caused_by"]:
                return answer
    raise SystemExit("no answer within 10 s: does Nextwatch run, or is it a dead letter?")


for _ in range(3):
    request_id = str(uuid.uuid4())
    request = {"request_id": request_id, "event_time_ms": now_ms(), "number": 5}
    send("recommendation-requests", request)
    answer = answer_to(request_id)
    videos = [item["video_id"] for item in answer["items"]]
    print(USER, videos, "degraded:", answer["degraded"], flush=True)
    if videos:
        event_id = str(uuid.uuid4())
        watch = {"event_id": event_id, "video_id": videos[0], "event_time_ms": now_ms()}
        send("watch-events", {**watch, "watch_ms": 30_000, "duration_ms": 30_000})
        answer_to(event_id)
