"""What each record does, and what becomes of the bad ones."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from contract.process.clock import ManualClock
from contract.wire.decoding import MAX_SKEW_MS
from contract.wire.events import MAX_AHEAD_MS, BundleState, ImpressedVideo, Impressions, encode
from contract.wire.topics import (
    IMPRESSIONS,
    MODEL_BUNDLES,
    RANKING_LOG,
    SEARCH_EVENTS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    Layout,
)
from tests.support.builders import T0, deletion, event_id, search, upload, watch
from tests.trainer.doubles import JournalOutbox, RecordingRanker, announcement, received, state_of
from tests.trainer.ranking import facts
from tests.trainer.ranking.facts import WINDOW_MS, Delivery
from trainer.input.dispatch import Intake
from trainer.publish.generations import Generations


class Room:
    """An intake with all that it hands on to."""

    def __init__(self):
        self.state = state_of(upload("v1"))
        self.generations = Generations()
        self.outbox = JournalOutbox()
        layout = Layout(prefix="test-")
        clock = ManualClock(T0)
        self.intake = Intake(self.state, self.generations, self.outbox, layout, clock)

    def take(self, topic, event=None, **record):
        """Take one record."""
        self.intake.take(received(topic, event, **record))


@pytest.fixture
def room():
    return Room()


IMPRESSION = Impressions(
    event_id=event_id("shown"),
    user_id="u1",
    event_time_ms=T0,
    videos=[ImpressedVideo(video_id="v1", position=0)],
)


def test_the_records_of_each_topic_are_applied(room):
    room.take(WATCH_EVENTS, watch("v1", at_ms=0))
    room.take(SEARCH_EVENTS, search(at_ms=1))
    room.take(IMPRESSIONS, IMPRESSION)
    room.take(VIDEO_UPLOADS, upload("v2"))
    room.take(USER_DELETIONS, deletion(user_id="u9"))
    room.take(MODEL_BUNDLES, announcement(3, BundleState.IN_SERVICE))

    assert room.state.counts == {
        "watches": 1, "searches": 1, "impressions": 1, "uploads": 2, "erasures": 1
    }  # fmt: skip
    assert room.generations.in_service == 3


def test_what_was_shown_and_watched_is_handed_to_the_ranker_when_its_window_has_passed(room):
    """Without a duration in the watch, that of the upload counts."""
    delivery = Delivery()
    room.state.joiner, room.state.ranker = delivery.joiner, RecordingRanker()
    room.take(RANKING_LOG, facts.logged("r", "v1", "v2"))
    room.take(IMPRESSIONS, facts.shown("r", "v1", "v2"))
    room.take(WATCH_EVENTS, facts.watched("r", "v1", at_ms=5))
    for topic, record in zip(
        (IMPRESSIONS, WATCH_EVENTS), facts.passing(3 * WINDOW_MS), strict=True
    ):
        room.take(topic, record)

    room.state.join()
    room.state.learn()

    learned = room.state.ranker.learned
    found = sorted((one.video_id, one.is_watched, one.duration_ms) for one in learned)
    assert found == [("v1", True, 30_000), ("v2", False, 0)]
    assert room.state.pending_ranking == []
    assert room.state.counts["ranking_logs"] == 1


def test_an_erased_user_is_not_handed_to_the_ranker(room):
    delivery = Delivery()
    room.state.joiner, room.state.ranker = delivery.joiner, RecordingRanker()
    room.take(RANKING_LOG, facts.logged("r", "v1"))
    room.take(IMPRESSIONS, facts.shown("r", "v1"))
    for topic, record in zip(
        (IMPRESSIONS, WATCH_EVENTS), facts.passing(3 * WINDOW_MS), strict=True
    ):
        room.take(topic, record)
    room.state.join()
    assert len(room.state.pending_ranking) == 1

    room.take(USER_DELETIONS, deletion(user_id="u1", at_ms=1))
    room.state.learn()

    assert room.state.ranker.learned == []


def test_a_tombstone_takes_a_video_down(room):
    room.take(VIDEO_UPLOADS, key=b"v1")

    assert not room.state.is_live("v1")


def test_a_bad_impression_is_kept_whole_with_its_reason(room):
    bad = encode(IMPRESSION).replace(b'"user_id":"u1"', b'"user_id":"u2"')

    room.take(IMPRESSIONS, key=b"u1", value=bad, offset=9, headers=(("trace", b"x"),))

    [dead] = room.outbox.sent
    headers = dict(dead.headers)
    assert (dead.topic, dead.key, dead.value) == ("test-impressions.dlq", b"u1", bad)
    assert headers["trace"] == b"x"
    assert headers["dlq.reason"] == b"key_mismatch"
    assert (headers["dlq.topic"], headers["dlq.offset"]) == (b"impressions", b"9")


@pytest.mark.parametrize(
    "topic", [WATCH_EVENTS, SEARCH_EVENTS, VIDEO_UPLOADS, USER_DELETIONS, MODEL_BUNDLES]
)
def test_bad_records_of_others_are_counted_and_left_to_them(room, topic):
    """Each topic has one process that keeps its bad records, so that none is kept twice."""
    room.take(topic, key=b"x", value=b"{")

    assert room.intake.refused == {f"{topic.name}:json": 1}
    assert room.outbox.sent == []


def test_a_watch_in_the_future_of_its_record_does_nothing(room):
    """The verdict depends on the record alone."""
    record = received(WATCH_EVENTS, watch("v1", at_ms=MAX_SKEW_MS + 1))

    for ingested_at_ms in (T0, T0 + 1):
        room.intake.take(replace(record, ingested_at_ms=ingested_at_ms))

    assert room.intake.refused == {"watch-events:ts_future:event_time_ms": 1}
    assert room.state.counts["watches"] == 1


def test_a_record_in_the_wrong_partition_is_refused(room):
    """Its user's other events are on another partition."""
    for topic, event in (
        (WATCH_EVENTS, watch("v1")),
        (SEARCH_EVENTS, search()),
        (IMPRESSIONS, IMPRESSION),
        (VIDEO_UPLOADS, upload("v1")),
        (USER_DELETIONS, deletion()),
    ):
        room.take(topic, event, num_partitions=5)
    room.take(VIDEO_UPLOADS, key=b"v1", num_partitions=5)

    reasons = {f"{topic}:misplaced" for topic in ("watch-events", "search-events", "impressions")}
    reasons |= {"video-uploads:misplaced", "user-deletions:misplaced"}
    assert set(room.intake.refused) == reasons
    assert room.state.is_live("v1")
    assert [record.topic for record in room.outbox.sent] == ["test-impressions.dlq"]
    assert room.state.counts == {"uploads": 1}


def test_an_erasure_for_all_partitions_is_obeyed_from_any(room):
    room.take(WATCH_EVENTS, watch("v1"))
    room.take(USER_DELETIONS, deletion(everywhere=True), num_partitions=5)

    assert room.state.windows.get("u1").watches == ()


def test_an_event_ahead_of_clock_and_record_alike_does_nothing(room):
    """The producer that dates an event wrongly often dates its record likewise."""
    record = received(WATCH_EVENTS, watch("v1", at_ms=MAX_AHEAD_MS + 1))
    room.intake.take(replace(record, ingested_at_ms=T0 + MAX_AHEAD_MS + 1))

    assert room.intake.refused == {"watch-events:ts_future:event_time_ms": 1}


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe"])
def test_a_tombstone_with_an_invalid_key_does_nothing(room, key):
    room.intake.take(replace(received(VIDEO_UPLOADS, None, key=b"v1"), key=key))

    assert room.state.is_live("v1")


def test_a_tombstone_of_a_bundle_forgets_it(room):
    """index_sync has deleted its collection: nobody can serve it any more."""
    room.take(MODEL_BUNDLES, announcement(1, BundleState.INDEXED))
    for bundle_id in (b"b1", b"unknown"):
        room.take(MODEL_BUNDLES, key=bundle_id, value=None)

    assert not room.generations.not_withdrawn
    assert not room.intake.refused


def test_misplaced_records_are_one_warning_with_their_number(room):
    """After a change of the partition count they are what was not read before it."""
    with capture_logs() as logs:
        room.intake.warn_of_misplaced()
        for _ in range(3):
            room.take(WATCH_EVENTS, watch("v1"), num_partitions=5)
        room.take(SEARCH_EVENTS, search(), num_partitions=5)
        room.take(SEARCH_EVENTS, key=b"x", value=b"{")
        for _ in range(2):
            room.intake.warn_of_misplaced()

    assert [fact for fact in logs if fact["event"] == "records_misplaced"] == [
        {
            "event": "records_misplaced",
            "log_level": "warning",
            "refused": 4,
            "topics": {"watch-events": 3, "search-events": 1},
        }
    ]
