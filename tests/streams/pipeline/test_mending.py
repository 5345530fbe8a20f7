"""Erasure, and records that an owner who was paused wrote over newer ones."""

from contract.kafka.records import Position
from models.history import codec as history_codec
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, fold
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.partition import CHANGELOG
from tests.streams.worlds import POLICY, World
from tests.support.builders import deletion, shown, watch


def test_a_deletion_removes_the_window_and_publishes_tombstones():
    """Store, changelog, and whoever keeps recommendations: all forget the user."""
    world = World()
    world.pipeline.process([world.record(watch("A")), world.record(shown("B"))])

    world.pipeline.process([world.record(deletion(at_ms=5))])

    assert world.store.get(["u1"]) == [None]
    changes = {record.key: record.value for record in world.outbox.to("nextwatch-streams-windows")}
    assert changes[b"u1"] is None
    assert [(r.key, r.value) for r in world.outbox.to("recommendations")][1:] == [(b"u1", None)]


def test_an_erasure_marker_is_kept_and_holds_a_hash_not_the_id():
    """Late and replayed events from before the erasure stay out for ever, also after a restart."""
    world = World()
    world.pipeline.process([world.record(deletion(at_ms=5))])
    world.start()

    world.pipeline.process([world.record(watch("A")), world.record(watch("B", at_ms=6))])

    assert world.window().video_ids == ("B",)
    assert list(world.store.markers()) == [erasure_marker("u1")]
    keys = [record.key for record in world.outbox.to("nextwatch-streams-windows")]
    assert keys[0] == marker_key(erasure_marker("u1"))
    assert b"u1" not in keys[0]


def test_work_that_waits_for_an_erased_user_is_dropped():
    """Nobody is told what to watch because of something that must be forgotten."""
    world = World()

    world.pipeline.process([world.record(watch("A")), world.record(deletion(at_ms=5))])

    assert world.recommendations() == []


def test_a_stale_record_of_a_woken_owner_is_found_by_its_offset_and_set_right():
    """Our own records follow one another; a hole between them is somebody else's record.

    changelog   0: ours {A}   1: woken owner's {}   2: ours {A, B} of another user
    """
    world = World()
    world.pipeline.process([world.record(watch("A"))])
    stale = history_codec.encode(fold(EMPTY, [watch("Z", at_ms=-9)], POLICY))
    world.changelog = [LoggedWindow(0, 1, b"u1", stale)]
    world.outbox.ends["nextwatch-streams-windows"] = 1

    world.pipeline.process([world.record(watch("C", user_id="u2"))])
    assert world.pipeline.is_suspect
    world.pipeline.heal()

    assert not world.pipeline.is_suspect
    healed = world.outbox.to("nextwatch-streams-windows")[-1]
    assert (healed.key, healed.value) == (b"u1", world.store.get(["u1"])[0])
    assert world.window().video_ids == ("Z", "A")


def test_a_stale_record_after_our_last_one_is_found_by_looking():
    """No offset of ours gives it away; a worker looks for the end now and then."""
    world = World()
    world.pipeline.process([world.record(watch("A"))])
    stale = history_codec.encode(fold(EMPTY, [], POLICY))
    world.changelog = [LoggedWindow(0, 1, b"u1", stale)]
    at = Position(CHANGELOG, 0)
    world.partitions.note_changelogs({at: Log(0, 2)}, marks=world.partitions.marks())

    world.pipeline.heal()

    healed = world.outbox.to("nextwatch-streams-windows")[-1]
    assert (healed.key, healed.value) == (b"u1", world.store.get(["u1"])[0])


def test_nothing_is_set_right_where_nothing_is_wrong():
    """Our own records, read again, ask for no new ones."""
    world = World()
    world.pipeline.process([world.record(watch("A"))])
    [change] = world.outbox.to("nextwatch-streams-windows")
    world.changelog = [LoggedWindow(0, 0, change.key, change.value)]
    world.partitions.get(0).suspect_from = 0

    world.pipeline.heal()

    assert len(world.outbox.to("nextwatch-streams-windows")) == 1
