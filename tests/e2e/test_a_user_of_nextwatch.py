"""What a user does: produce events, consume recommendations, upload a video, take it down."""

import json
import uuid

import httpx
import pytest

from benchmarks.stack.waiting import eventually
from contract.points import collection_name, point_id
from contract.process.settings import QdrantSettings, load

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def name(kind):
    """Return an id that no other test uses."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def in_service(stack, player):
    """Wait for a bundle in service, and return its generation."""
    user_id = name("probe")

    def find():
        answer = player.answer_to(player.watch(user_id, name("v")))
        return answer["generation"]

    generation = eventually(find, within_s=60)
    assert generation, "no bundle came into service"
    return generation


def is_retrieved(stack, generation, video_id):
    """Return whether searching the index near the video's own vector finds the video."""
    settings = load(QdrantSettings, stack.env)
    collection = collection_name(settings.prefix(stack.kafka), generation)
    response = httpx.post(
        f"{settings.url}/collections/{collection}/points",
        json={"ids": [point_id(video_id)], "with_vector": True},
    )
    points = response.json().get("result") or []
    if not points:
        return False
    found = httpx.post(
        f"{settings.url}/collections/{collection}/points/query",
        json={"query": points[0]["vector"], "limit": 10},
    ).json()
    return point_id(video_id) in [point["id"] for point in found["result"]["points"]]


def test_every_event_is_answered_with_one_recommendation(player):
    """Whoever produces watches and searches finds an answer to each on `recommendations`."""
    users = [name("u") for _ in range(20)]
    sent = {player.watch(user_id, name("v")) for user_id in users for _ in range(5)}
    for user_id in users:
        event_id = str(uuid.uuid4())
        search = {
            "event_id": event_id,
            "user_id": user_id,
            "query": "soup",
            "event_time_ms": 1_790_000_000_000,
        }
        player.produce("search-events", user_id, search)
        sent.add(event_id)
    player.flush()

    def all_answered():
        answered = [e for r in player.recommendations() for e in r["caused_by"]]
        return answered if sent <= set(answered) else None

    answered = eventually(all_answered, within_s=30)
    assert answered, "not every event was answered"
    assert all(answered.count(event_id) == 1 for event_id in sent)


def test_a_bad_message_is_kept_with_its_reason_and_the_next_event_is_answered(player):
    """The original bytes, why, and from where; the stream goes on."""
    marker = name("junk")
    player.produce("watch-events", "u1", marker.encode())
    player.answer_to(player.watch("u1", "v1"))

    def find():
        return [m for m in player.poll("watch-events.dlq") if m.value() == marker.encode()]

    [dead] = eventually(find) or [None]
    headers = dict(dead.headers())
    assert (headers["dlq.reason"], headers["dlq.topic"]) == (b"json", b"watch-events")


def test_a_video_uploaded_now_is_retrieved_and_recommended_now(stack, player):
    """By its content alone, to somebody who watches the like."""
    generation = in_service(stack, player)
    category, user_id = name("cat"), name("u")
    first, fresh = name("v"), name("v")
    player.upload(first, category)
    player.flush()
    assert eventually(lambda: is_retrieved(stack, generation, first), within_s=20)
    player.upload(fresh, category)
    player.flush()

    def recommended():
        answer = player.answer_to(player.watch(user_id, first))
        return fresh in [item["video_id"] for item in answer["items"]]

    assert eventually(recommended, within_s=20)


def test_a_video_taken_down_is_neither_retrieved_nor_recommended(stack, player):
    """A tombstone reaches the index and every worker's item store."""
    generation = in_service(stack, player)
    category, user_id = name("cat"), name("u")
    kept, gone = name("v"), name("v")
    player.upload(kept, category)
    player.upload(gone, category)
    player.flush()

    def listed():
        answer = player.answer_to(player.watch(user_id, kept))
        return gone in [item["video_id"] for item in answer["items"]]

    assert eventually(listed, within_s=20)
    player.produce("video-uploads", gone, None)
    player.flush()

    assert eventually(lambda: not listed(), within_s=20)
    assert not is_retrieved(stack, generation, gone)


def test_a_new_generation_comes_into_service_while_events_flow(stack, player):
    """Learned from the events, swapped between two batches; nobody is left unanswered."""
    first = in_service(stack, player)
    videos = [name("v") for _ in range(12)]
    for video_id in videos:
        player.upload(video_id, "swap")

    def newer():
        user_id = name("u")
        for video_id in videos[:4]:
            player.watch(user_id, video_id)
        answer = player.answer_to(player.watch(user_id, videos[5]))
        return answer["generation"] > first

    assert eventually(newer, within_s=60)
    announced = [
        json.loads(m.value()) for m in player.poll("model-bundles", key="bundle") if m.value()
    ]
    assert {"offered", "indexed", "in_service"} <= {a["state"] for a in announced}
