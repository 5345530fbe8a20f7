"""The tally: records in, figures out."""

import msgspec

from nextwatch.demo.figures import tally as tally_module
from nextwatch.demo.figures.tally import Tally


def watch(event_id="e", user_id="u", video_id="v", **more):
    """Return the bytes of a watch."""
    fields = {"event_id": event_id, "user_id": user_id, "video_id": video_id}
    return msgspec.json.encode(fields | {"watch_ms": 5, "duration_ms": 10} | more)


def answer(*caused_by, user_id="u", generation=1, **more):
    """Return the bytes of a recommendation."""
    fields = {"user_id": user_id, "caused_by": caused_by, "generation": generation, "items": []}
    return msgspec.json.encode({"bundle_id": "b"} | fields | more)


def announcement(generation, state, **metrics):
    """Return the bytes of a bundle's news."""
    return msgspec.json.encode(
        {"bundle_id": f"b{generation}", "generation": generation, "state": state}
        | {"metrics": metrics}
    )


def at(offset):
    """Return the position of a record."""
    return ("watch-events", 0, offset)


def test_event_and_answer_are_counted():
    """One recommendation may answer several events."""
    tally = Tally()
    tally.event(at(0), watch("a"), 1_000)
    tally.event(at(1), watch("b"), 1_000)
    tally.recommendation(answer("a", "b"), 1_020)

    assert (tally.ledger.num_sent, tally.ledger.num_recommendations, tally.ledger.num_owed) == (
        2,
        1,
        0,
    )
    assert tally.first_recommendation_ms == 1_020


def test_rubbish_is_counted_and_harmless():
    """Events that nobody can read are sent, too; the observer survives them."""
    tally = Tally()
    for offset, value in enumerate((b"", b"\xff", b"{", b"[]", None, b'{"event_id": 7}')):
        tally.event(at(offset), value, 1_000)
        tally.recommendation(value, 1_000)
        tally.announcement(value)

    assert (tally.ledger.num_sent, tally.ledger.num_unreadable) == (6, 6)


def test_generations_are_those_that_were_served():
    """An answer made without a bundle was served by no generation."""
    tally = Tally()
    for generation in (1, 1, 2):
        tally.recommendation(answer("a", generation=generation), 1)
    tally.recommendation(answer("b", generation=0, bundle_id=None, degraded=["no_bundle"]), 1)

    assert dict(tally.generations) == {1: 2, 2: 1}
    assert dict(tally.degraded) == {"no_bundle": 1}


def test_only_videos_after_the_feeds_start_are_uploads():
    """The catalogue, updates and takedowns are not what is measured."""
    # stamped   90        100      110       120          130
    #           catalogue start    new       again        takedown
    tally = Tally()
    assert not tally.upload("v1", b'{"title": "old"}', 90)
    tally.feed_started_ms = 100
    assert not tally.upload("v1", b'{"title": "old, renamed"}', 105)
    assert tally.upload("v2", b'{"title": "new"}', 110)
    assert not tally.upload("v2", b'{"title": "new"}', 120)
    assert not tally.upload("v2", None, 130)

    assert (tally.num_catalogue, tally.num_uploads) == (1, 1)
    assert "v2" not in tally.titles


def test_the_last_bundle_announced_in_service_is_counted():
    """Offers do not change what serves; metrics come with whatever has some."""
    tally = Tally()
    tally.announcement(announcement(1, "offered", progressive_recall_at_20=0.1))
    tally.announcement(announcement(1, "in_service"))
    tally.announcement(announcement(2, "offered", progressive_recall_at_20=0.2))

    assert tally.generation == 1
    assert tally.metrics == {"progressive_recall_at_20": 0.2}


def test_states_of_old_bundles_are_forgotten():
    """Only what comes after the one in service is told, however many there were."""
    tally = Tally()
    for generation in range(1, 1_000):
        tally.announcement(announcement(generation, "offered"))
        tally.announcement(announcement(generation, "in_service"))
    assert (tally.coming(), len(tally.bundles)) == ("", 1)
    tally.announcement(announcement(1_000, "offered"))
    tally.announcement(announcement(1_000, "indexed"))

    assert tally.coming() == "1000 is indexed"


def test_dead_letter_of_an_event_is_not_lost():
    """Its source is named in the headers, and nothing is owed for it."""
    tally = Tally()
    tally.event(at(0), watch("a"), 1_000)
    tally.dead_letter("watch-events.dlq", at(0))

    assert (tally.dead_letters.total(), tally.ledger.num_owed) == (1, 0)


def test_rate_is_over_whole_seconds():
    """The second that is still running would make every rate look low."""
    tally = Tally()
    for number, stamp_ms in enumerate((1_000, 1_500, 2_000, 2_100, 2_200, 2_300, 3_000)):
        tally.event(at(number), watch(str(number)), stamp_ms)

    assert tally.events_per_s(now_ms=3_500) == 3.0


def test_the_rate_of_an_idle_source_falls():
    """The newest seconds are those of the clock, not those of the newest events."""
    tally = Tally()
    for second in range(20):
        tally.event(at(second), watch(str(second)), second * 1_000)

    assert tally.events_per_s(now_ms=20_000) == 1.0
    assert tally.events_per_s(now_ms=25_000) == 0.5
    assert tally.events_per_s(now_ms=90_000) == 0.0


def test_memory_of_rates_is_bounded():
    """Only the newest seconds are drawn."""
    tally = Tally()
    for second in range(1_000):
        tally.event(at(second), watch(str(second)), second * 1_000)

    assert len(tally.events_by_second) == tally_module.NUM_SECONDS


def test_sample_follows_one_user_until_it_is_idle():
    """Events of others don't take over; after a while without news, the next user does."""
    tally = Tally()
    tally.event(at(0), watch("a", "u1"), 1_000)
    tally.event(at(1), watch("b", "u2"), 1_001)
    tally.recommendation(answer("b", user_id="u2"), 1_010)
    assert (tally.sample.user_id, tally.sample.recommendation) == ("u1", b"")
    tally.recommendation(answer("a", user_id="u1"), 1_010)
    assert tally.sample.recommendation
    tally.event(at(2), watch("c", "u2"), 1_002 + tally_module.SAMPLE_PATIENCE_MS)

    assert tally.sample.user_id == "u2"


def test_a_record_that_is_nested_too_deep_is_counted_and_ends_nothing():
    """It once ended the observer, and with it all figures of the run."""
    tally = Tally()

    tally.event(("watch-events", 0, 0), b'{"a":' * 3_000, 1_000)
    tally.upload("v1", b"[" * 100_000, 1_000)

    assert tally.ledger.num_unreadable == 1
