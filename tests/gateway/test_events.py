"""Events through HTTP into Kafka, and the recommendations that they cause back again."""

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from uuid import uuid4

import pytest

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.wire.events import HottestVideos, HotVideo, SimilarVideo, SimilarVideos, encode
from models.history import codec
from tests.support.web import running_gateway, watch

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

CHANGELOG = "nextwatch-streams-windows"


def window_of(player, user_id):
    """Return what the changelog's newest record says of a user; None if it says nothing."""
    records = [m.value() for m in player.poll(CHANGELOG) if m.key() == user_id.encode()]
    return codec.decode(records[-1]) if records and records[-1] else None


def test_a_viewer_reads_the_list_that_the_event_just_posted_has_caused(gateway):
    for number in range(5):
        accepted = gateway.post_watch("reader", f"v{number}")
        answer = gateway.client.get(accepted.json()["recommendations"])

        assert accepted.status_code == 202
        assert answer.status_code == 200
        assert answer.headers["nextwatch-answers-event"] == "true"
        assert accepted.json()["event_id"] in answer.json()["caused_by"]


def test_without_an_event_the_latest_list_comes_at_once(gateway):
    event = gateway.post_watch("latest").json()
    gateway.client.get(event["recommendations"])

    answer = gateway.recommendations("latest", wait_ms=0)

    assert answer.json()["caused_by"] == [event["event_id"]]


def test_an_event_that_never_came_is_waited_for_no_longer_than_asked_or_allowed(gateway):
    """The viewer sees the list of before, and the header says so."""
    gateway.client.get(gateway.post_watch("waiter").json()["recommendations"])

    answer = gateway.recommendations("waiter", event_id="never", wait_ms=200)

    assert answer.status_code == 200
    assert answer.headers["nextwatch-answers-event"] == "false"
    assert 0.2 <= answer.elapsed.total_seconds() < 1.2


def test_an_earlier_event_is_answered_by_a_later_list(gateway):
    first, second = (gateway.post_watch("twice", f"v{n}").json() for n in range(2))
    gateway.client.get(second["recommendations"])

    answer = gateway.client.get(first["recommendations"])

    assert answer.headers["nextwatch-answers-event"] == "true"


def test_a_user_of_whom_nothing_is_known_is_given_a_list(gateway, player):
    """By a request on Kafka, which changes no window."""
    answer = gateway.recommendations("stranger")

    assert answer.status_code == 200
    assert answer.json()["user_id"] == "stranger"
    assert window_of(player, "stranger") is None


def test_without_a_list_and_without_time_there_is_none(gateway):
    answer = gateway.recommendations("hasty", wait_ms=0)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_repeated_event_is_answered_alike_and_has_one_effect(gateway, player):
    event = watch("repeater", "v1")

    def post(_):
        return gateway.client.post("/v1/events/watch", json=event)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, range(8)))
    last = gateway.post_watch("repeater", "v2").json()
    gateway.client.get(last["recommendations"])

    assert {(one.status_code, one.content) for one in answers} == {(202, answers[0].content)}

    def both_watched():
        window = window_of(player, "repeater")
        return window and len(window.video_ids) == 2 and window

    assert eventually(both_watched).video_ids == ("v1", "v2")
    assert both_watched().repeats == ()


@pytest.mark.parametrize(
    ("path", "topic", "fields"),
    [
        ("search", "search-events", {"query": "guitar <b>chords</b>"}),
        ("impressions", "impressions", {"videos": [{"video_id": "v1", "position": 0}]}),
    ],
)
def test_what_is_posted_comes_to_kafka_byte_for_byte(gateway, player, path, topic, fields):
    event = {
        "event_id": str(uuid4()),
        "user_id": "précis",
        "event_time_ms": system_clock(),
        "more": [1, {"of": "this"}],
    }
    body = json.dumps(event | fields, indent=1).encode()
    answer = gateway.client.post(
        f"/v1/events/{path}", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 202, answer.text
    found = eventually(lambda: [m for m in player.poll(topic) if m.value() == body])
    assert found[0].key() == "précis".encode()


def test_an_event_belongs_to_the_trace_of_its_request(gateway, player):
    """Anything else that calls itself a trace is left out."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for name, header in (("traced", trace), ("untraced", "00-x-01")):
        event = watch(name)
        gateway.client.post("/v1/events/watch", json=event, headers={"traceparent": header})

    def both():
        found = {m.key(): m.headers() for m in player.poll("watch-events")}
        return found if found.keys() >= {b"traced", b"untraced"} else None

    found = eventually(both)
    assert found[b"traced"] == [("traceparent", trace.encode())]
    assert found[b"untraced"] is None


def test_a_video_is_uploaded_and_taken_down(gateway, player):
    video_id = "show/1 ü%2F?"
    upload = {"video_id": video_id, "title": "a", "uploaded_at_ms": system_clock()}

    uploaded = gateway.client.post("/v1/videos", json=upload)
    deleted = gateway.client.delete(f"/v1/videos/{quote(video_id, safe='')}")

    assert [uploaded.status_code, deleted.status_code] == [202, 202]
    assert deleted.json()["video_id"] == video_id

    def records():
        of_it = [
            m for m in player.poll("video-uploads", key="video") if m.key().decode() == video_id
        ]
        return of_it if len(of_it) == 2 else None

    assert [m.value() is None for m in eventually(records)] == [False, True]


def test_a_wrong_method_on_the_list_of_a_video_takes_no_other_video_down(gateway):
    assert gateway.client.delete("/v1/videos/v1/similar").status_code == 405


def test_an_erased_user_is_forgotten(gateway, player):
    gateway.client.get(gateway.post_watch("erased").json()["recommendations"])
    player.produce("recommendations", "erased", None)
    player.flush()

    assert eventually(lambda: gateway.recommendations("erased", wait_ms=0).status_code == 404)


def test_a_gateway_that_starts_knows_the_latest_lists(stack, gateway):
    """It reads the end of the topic; the lists of whoever came before that are asked for."""
    event = gateway.post_watch("restarted").json()
    gateway.client.get(event["recommendations"])
    with running_gateway(stack, name="second") as second:
        answer = second.recommendations("restarted", wait_ms=0)

    assert answer.json()["caused_by"] == [event["event_id"]]


def test_published_lists_are_served_as_long_as_asked_for(gateway, player):
    at_ms = system_clock()
    videos = [SimilarVideo(video_id=f"s{n}", score=1 / (n + 1)) for n in range(30)]
    hot = [HotVideo(video_id="h1", num_watches=3.0), HotVideo(video_id="h2", num_watches=1.0)]
    similar = SimilarVideos(video_id="a/b", videos=videos, updated_at_ms=at_ms)
    hottest = HottestVideos(list_name="hottest:24h:all", videos=hot, updated_at_ms=at_ms)
    player.produce("similar-videos", "a/b", encode(similar))
    player.produce("hottest-videos", "hottest:24h:all", encode(hottest))
    player.flush()

    def both():
        found = gateway.client.get("/v1/videos/a%2Fb/similar?number=2")
        of_country = gateway.client.get("/v1/hottest?country=DE&number=1")
        is_there = found.status_code == of_country.status_code == 200
        return (found.json(), of_country.json()) if is_there else None

    of_video, of_country = eventually(both)
    assert (of_video["source"], [v["video_id"] for v in of_video["videos"]]) == (
        "similar-videos",
        ["s0", "s1"],
    )
    assert [v["video_id"] for v in of_country["videos"]] == ["h1"]


def test_where_no_list_is_published_there_is_a_problem_that_says_so(gateway):
    assert gateway.client.get("/v1/hottest?window=7d").status_code == 404
    assert gateway.client.get("/v1/videos/unknown/similar").status_code == 404
