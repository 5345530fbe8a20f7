import json

from confluent_kafka import Consumer

# A group begins at its committed offset, the first time at "earliest": nothing that came while it
# was joining is missed. Give each of your applications a group.id of its own.
settings = {"group.id": "my-application", "auto.offset.reset": "earliest"}
consumer = Consumer({"bootstrap.servers": "127.0.0.1:9092", **settings})
consumer.subscribe(["recommendations"])
try:
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() or message.value() is None:
            continue  # nothing came, the broker is away, or a user was erased
        answer = json.loads(message.value())
        videos = [item["video_id"] for item in answer["items"]]
        print(answer["user_id"], videos, "degraded:", answer["degraded"], flush=True)
except KeyboardInterrupt:
    consumer.close()  # leaves the group, which else holds the partitions for 45 s
