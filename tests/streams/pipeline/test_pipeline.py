"""One micro-batch, in the order that loses nothing."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import BrokerUnavailable, WorkerPausedError
from contract.kafka.records import Position
from contract.wire.events import RecommendationRequest
from contract.wire.stages import STAGES, stages_of
from models.history import codec as history_codec
from models.history.history import EMPTY, fold
from tests.streams.worlds import POLICY, World
from tests.support.builders import T0, asking, deletion, search, shown, watch


def test_the_events_of_a_user_in_one_batch_get_one_recommendation_that_names_them_all():
    """A burst of one user is computed once, and nobody's event goes without an answer."""
    world, events = World(), [watch("A"), watch("B", at_ms=1), search(), watch("C", user_id="u2")]

    world.pipeline.process([world.record(event) for event in events])

    ids = [event.event_id for event in events]
    assert [r.caused_by for r in world.recommendations()] == [ids[:3], ids[3:]]


def test_each_event_gets_a_recommendation_of_its_own_where_that_is_wanted():
    """The switch for consumers that match answers to events one by one."""
    world, events = World(is_coalescing=False), [watch("A"), watch("B", at_ms=1), search()]

    world.pipeline.process([world.record(event) for event in events])

    assert [r.caused_by for r in world.recommendations()] == [[e.event_id] for e in events]


def test_the_window_is_in_the_store_and_in_the_changelog_alike():
    """Byte for byte: a rebuild from the changelog is the store."""
    world = World()

    world.pipeline.process([world.record(watch("A")), world.record(watch("B", at_ms=1))])

    [change] = world.outbox.to("nextwatch-streams-windows")
    assert (change.key, change.value) == (b"u1", world.store.get(["u1"])[0])


def test_offsets_become_committable_only_after_delivery():
    """What the broker has not acknowledged has not happened."""
    world = World()
    world.outbox.is_away = True

    with pytest.raises(BrokerUnavailable):
        world.pipeline.process([world.record(watch("A"))])
    assert world.partitions.committable() == {}

    world.outbox.is_away = False
    world.start()
    world.pipeline.process([world.record(watch("A"), offset=0)])
    assert world.partitions.committable() == {Position("watch-events", 0): 1}


def test_a_replay_after_a_crash_publishes_the_same_again():
    """The crash came between the local write and the delivery: the changelog catches up."""
    world = World()
    world.outbox.is_away = True
    with pytest.raises(BrokerUnavailable):
        world.pipeline.process([world.record(watch("A"))])
    before = world.window()

    world.outbox.is_away = False
    world.start()
    world.pipeline.process([world.record(watch("A"), offset=0)])

    assert world.window() == before
    assert len(world.outbox.to("nextwatch-streams-windows")) == 1


def test_a_redelivered_event_bears_the_same_recommendation_id():
    """A consumer can tell a repeat from news."""
    world = World()

    world.pipeline.process([world.record(watch("A"))])
    world.pipeline.process([world.record(watch("A"))])

    first, second = world.recommendations()
    assert first.recommendation_id == second.recommendation_id


def test_what_the_group_had_committed_is_folded_again_but_not_answered_again():
    """A rewind heals windows; the answers were acknowledged long ago."""
    world = World()
    world.start(committed=1)

    world.pipeline.process([world.record(watch("A"), offset=0)])

    assert world.window().video_ids == ("A",)
    assert world.recommendations() == []


def test_a_bad_message_is_kept_whole_with_its_reason_and_the_next_is_answered():
    """Nothing is lost, and nothing stops."""
    world = World()
    bad = world.raw("watch-events", b"u1", b"{junk", headers=(("trace", b"7"),))

    world.pipeline.process([bad, world.record(watch("A"))])

    [dead] = world.outbox.to("watch-events.dlq")
    headers = dict(dead.headers)
    assert (dead.key, dead.value, headers["trace"]) == (b"u1", b"{junk", b"7")
    assert (headers["dlq.reason"], headers["dlq.offset"]) == (b"json", b"0")
    assert len(world.recommendations()) == 1


def test_impressions_are_remembered_and_cause_no_recommendation():
    """Nobody asked; the window says what was shown, in store and changelog alike."""
    world = World()

    world.pipeline.process([world.record(shown("A", "B"))])

    [change] = world.outbox.to("nextwatch-streams-windows")
    assert change.value == world.store.get(["u1"])[0]
    assert world.window() == fold(EMPTY, [shown("A", "B")], POLICY)
    assert world.recommendations() == []
    assert world.partitions.committable() == {Position("impressions", 0): 1}


def test_impressions_that_break_a_bound_are_counted_and_left_to_the_trainer():
    """Its letter is the only one."""
    world = World()

    world.pipeline.process([world.raw("impressions", b"u1", b"{junk"), world.record(watch("A"))])

    assert world.outbox.to("impressions.dlq") == []
    assert world.pipeline._decoder.counts == {"skipped:json": 1}
    assert len(world.recommendations()) == 1


def test_an_event_from_the_future_is_a_dead_letter():
    """By the record's own time, five minutes ahead is the most."""
    world = World()

    world.pipeline.process([world.record(watch("A", at_ms=3_600_000))])

    [dead] = world.outbox.to("watch-events.dlq")
    assert dict(dead.headers)["dlq.reason"] == b"ts_future:event_time_ms"


def test_a_window_from_the_far_future_is_freed_of_it_by_the_next_event():
    """One event of next year, accepted once, would age everything that comes for a year."""
    world, day_ms = World(), 86_400_000
    stuck = fold(EMPTY, [watch("A"), watch("B", at_ms=400 * day_ms)], POLICY)
    assert fold(stuck, [watch("C", at_ms=500)], POLICY) == stuck
    world.store.write({"u1": history_codec.encode(stuck)}, {})

    world.pipeline.process([world.record(watch("C", at_ms=500))])

    assert world.window().video_ids == ("C",)
    [change] = world.outbox.to("nextwatch-streams-windows")
    assert change.value == world.store.get(["u1"])[0]


def test_a_slow_clock_removes_nothing_from_a_window():
    """The records say that it is later than that; a replay of the letters needs what is there."""
    world, day_ms = World(), 86_400_000
    known = fold(EMPTY, [watch("A", at_ms=2 * day_ms)], POLICY)
    world.store.write({"u1": history_codec.encode(known)}, {})

    record = world.record(watch("B", at_ms=500))
    world.pipeline.process([replace(record, ingested_at_ms=T0 + 2 * day_ms)])

    assert world.window().video_ids == ("B", "A")


def test_an_event_ahead_of_clock_and_record_alike_is_a_dead_letter():
    """The producer that dates an event wrongly often dates its record likewise."""
    world, far_ms = World(), 400 * 86_400_000
    record = world.record(watch("A", at_ms=far_ms))

    world.pipeline.process([replace(record, ingested_at_ms=T0 + far_ms)])

    [dead] = world.outbox.to("watch-events.dlq")
    assert dict(dead.headers)["dlq.reason"] == b"ts_future:event_time_ms"
    assert world.window() == EMPTY


def test_offsets_with_gaps_are_accepted():
    """Marks of transactions, compaction and retention leave gaps; nothing was lost."""
    #    offset   0   1   2
    #             A   -   C
    world = World()

    world.pipeline.process(
        [world.record(watch("A"), offset=0), world.record(watch("C", at_ms=2), offset=2)]
    )

    assert world.window().video_ids == ("A", "C")
    assert len(world.recommendations()) == 1
    assert world.partitions.committable() == {Position("watch-events", 0): 3}


def test_records_of_partitions_owned_by_others_are_left_alone():
    """They were queued before a rebalance took the partition away."""
    world = World()
    world.partitions.suspend()

    world.pipeline.process([world.record(watch("A"))])

    assert world.outbox.sent == []


def test_a_worker_that_stood_still_produces_nothing():
    """Its partitions may be somebody else's by now."""
    world = World()
    world.fence.beat()
    world.monotonic_s = 3.1

    with pytest.raises(WorkerPausedError):
        world.pipeline.process([world.record(watch("A"))])
    assert world.outbox.sent == []


EVENTS = st.lists(
    st.builds(
        watch,
        st.sampled_from("ABCDE"),
        user_id=st.sampled_from(["u1", "u2"]),
        at_ms=st.integers(0, 9),
    )
    | st.builds(search, st.sampled_from(["cats", "dogs"]), at_ms=st.integers(0, 9))
    | st.builds(shown, st.sampled_from("ABC"), at_ms=st.integers(0, 9))
    | st.builds(asking, at_ms=st.integers(0, 9))
    | st.builds(deletion, at_ms=st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=150)
@given(EVENTS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_however_events_are_cut_into_batches_and_repeated_the_windows_are_the_same(
    events, batch_size, rng: random.Random
):
    """The stored state is the fold of the set of events, whatever delivery did to them."""
    delivered = events + rng.choices(events, k=4) if events else []
    rng.shuffle(delivered)
    world = World()
    records = [world.record(event) for event in delivered]
    for start in range(0, len(records), batch_size):
        world.pipeline.process(records[start : start + batch_size])

    for user_id in ("u1", "u2"):
        mine = [
            event
            for event in events
            if event.user_id == user_id and not isinstance(event, RecommendationRequest)
        ]
        assert world.window(user_id) == fold(EMPTY, mine, POLICY)


def test_a_failed_write_to_the_store_ends_the_batch_before_anything_is_published():
    """A full disk: nothing is delivered, nothing may be committed, and the process is told."""
    world = World()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    world.store.write = full

    with pytest.raises(OSError, match="No space left"):
        world.pipeline.process([world.record(watch("A"))])
    assert (world.outbox.sent, world.partitions.committable()) == ([], {})


@pytest.mark.parametrize("skew_ms", [-3_600_000, 3_600_000])
def test_a_wrong_clock_changes_no_window_and_rejects_no_event(skew_ms):
    """Events are judged by their record's own time, windows by that of their events."""
    right, wrong = World(), World()
    wrong.clock.advance(ms=skew_ms)

    for world in (right, wrong):
        world.pipeline.process([world.record(watch("A")), world.record(search())])

    assert wrong.store.get(["u1"]) == right.store.get(["u1"])
    assert wrong.outbox.to("watch-events.dlq") == []


def test_a_recommendation_tells_how_long_each_stage_took():
    """The console shows a viewer where the milliseconds went."""
    world = World()

    world.pipeline.process([world.record(watch("A"))])

    [answer] = world.outbox.to("recommendations")
    assert list(stages_of(answer.headers)) == list(STAGES)
    assert world.outbox.to("nextwatch-streams-windows")[0].headers == []
