"""A record on a partition where its key does not belong is a dead letter, but for an erasure."""

import pytest
from structlog.testing import capture_logs

from contract.kafka.records import Position
from contract.wire.events import encode
from contract.wire.keys import partition_of
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, fold
from streams.state.changelog import LoggedWindow
from tests.streams.worlds import POLICY, World
from tests.support.builders import asking, deletion, search, shown, watch

NUM_PARTITIONS = 8
HOMES = {f"u{n}": partition_of(b"u%d" % n, NUM_PARTITIONS) for n in range(99)}
HERE = next(user_id for user_id, home in HOMES.items() if home == 0)
"""A user whose events belong on partition 0, which the worker of these tests owns."""
ELSEWHERE = next(user_id for user_id, home in HOMES.items() if home != 0)


def take(world, *events):
    """Let the worker process *events*, each on partition 0."""
    world.pipeline.process([world.record(e, num_partitions=NUM_PARTITIONS) for e in events])


@pytest.mark.parametrize("make", [watch, search, asking], ids=lambda make: make.__name__)
def test_an_event_on_another_partition_than_its_keys_is_a_dead_letter(make):
    """Answered and remembered here it would give its user a second window."""
    world, stray = World(), make(user_id=ELSEWHERE)

    take(world, stray, make(user_id=HERE))

    [dead] = [record for record in world.outbox.sent if record.topic.endswith(".dlq")]
    assert dict(dead.headers)["dlq.reason"] == b"misplaced"
    assert (dead.key, dead.value) == (ELSEWHERE.encode(), encode(stray))
    assert [answer.user_id for answer in world.recommendations()] == [HERE]
    assert world.window(ELSEWHERE) == EMPTY
    assert world.decoder.counts["dead:misplaced"] == 1


def test_misplaced_impressions_are_counted_and_left_to_the_trainer():
    world = World()

    take(world, shown("A", user_id=ELSEWHERE))

    assert world.outbox.sent == []
    assert world.decoder.counts["skipped:misplaced"] == 1
    assert world.partitions.committable() == {Position("impressions", 0): 1}


def test_a_dead_letter_has_no_target_partition_so_a_replay_places_it_right():
    """Producers of this project place by the key; the letter keeps it, and no partition."""
    world = World()

    take(world, watch(user_id=ELSEWHERE))

    [dead] = world.outbox.to("watch-events.dlq")
    assert dead.partition == -1


def test_an_erasure_for_all_partitions_erases_what_a_misplaced_event_left():
    """And only the user's own partition tells the consumers of recommendations."""
    world = World()
    world.pipeline.process([world.record(watch(user_id=ELSEWHERE))])  # taken in by an older worker
    assert world.window(ELSEWHERE) != EMPTY
    answers = world.outbox.to("recommendations")

    take(world, deletion(user_id=ELSEWHERE, at_ms=5, everywhere=True))

    _of_the_watch, marker, change = world.outbox.to("nextwatch-streams-windows")
    assert (marker.key, marker.value is None) == (marker_key(erasure_marker(ELSEWHERE)), False)
    assert (change.key, change.value) == (ELSEWHERE.encode(), None)
    assert world.outbox.to("recommendations") == answers


def test_a_rebuild_from_the_changelog_does_not_bring_it_back():
    """The window is still in the log until it is compacted; the marker keeps it out."""
    world = World()
    world.pipeline.process([world.record(watch(user_id=ELSEWHERE))])
    take(world, deletion(user_id=ELSEWHERE, at_ms=5, everywhere=True))
    written = world.outbox.to("nextwatch-streams-windows")

    rebuilt = World(
        changelog=[LoggedWindow(0, n, one.key, one.value) for n, one in enumerate(written)]
    )

    assert rebuilt.window(ELSEWHERE).watches == ()


def test_partitions_that_know_nothing_of_a_user_keep_nothing_of_the_erasure():
    """Else every erasure would be kept as often as there are partitions."""
    world = World()

    take(world, deletion(user_id=ELSEWHERE, at_ms=5, everywhere=True))

    assert world.store.markers() == {}


def test_an_erasure_for_all_partitions_is_published_by_the_users_own_partition():
    world = World()

    take(world, deletion(user_id=HERE, at_ms=5, everywhere=True))

    [told] = world.outbox.to("recommendations")
    assert (told.key, told.value) == (HERE.encode(), None)


def test_a_misplaced_erasure_that_is_not_for_all_partitions_is_an_error():
    """Here it would erase nothing, and somebody waits for it by law."""
    world = World()
    with capture_logs() as told:
        take(world, deletion(user_id=ELSEWHERE))

    assert [(line["reason"], line["log_level"]) for line in told] == [("misplaced", "error")]
    assert len(world.outbox.to("user-deletions.dlq")) == 1


def test_a_key_where_it_belongs_is_folded():
    world = World()

    take(world, watch("A", user_id=HERE))

    assert world.window(HERE) == fold(EMPTY, [watch("A", user_id=HERE)], POLICY)
