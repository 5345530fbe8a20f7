# A creator: puts four videos into the catalogue. Each can be recommended within a second.
import json
import time

from confluent_kafka import Producer

producer = Producer({"bootstrap.servers": "127.0.0.1:9092", "partitioner": "murmur2_random"})
videos = {
    "v42": ("Fingerstyle guitar for beginners", "music"),
    "v43": ("Three guitar chords, a hundred songs", "music"),
    "v44": ("Guitar solo in one take", "music"),
    "v45": ("Paella for six", "cooking"),
}
for video_id, (title, category) in videos.items():
    video = {
        "video_id": video_id,
        "title": title,
        "channel_id": f"{category}-channel",
        "category": category,
        "duration_ms": 30_000,
        "uploaded_at_ms": int(time.time() * 1000),
    }
    producer.produce("video-uploads", key=video_id, value=json.dumps(video))
if producer.flush(10):
    raise SystemExit("not acknowledged within 10 s: does a broker listen there?")
