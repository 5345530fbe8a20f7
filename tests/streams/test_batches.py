"""One micro-batch, in the order that loses nothing."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.clock import ManualClock
from contract.errors import BrokerUnavailable, WorkerPausedError
from contract.events import Recommendation, encode
from contract.records import Position, Received
from contract.topics import Layout
from models import history_codec
from models.history import EMPTY, WindowPolicy, fold
from streams.batches import MAX_SEEKS, BatchProcessor
from streams.fence import Fence
from streams.partitions import Partitions
from streams.recommend import Recommender
from streams.retrieval import Retrieval
from streams.serving import Switch
from streams.store import DictStore
from tests.builders import T0, deletion, search, watch

POLICY = WindowPolicy(max_watches=3, max_searches=2)
TOPIC_OF = {"Watch": "watch-events", "Search": "search-events", "UserDeletion": "user-deletions"}


class RecordingOutbox:
    """Acknowledges everything and remembers it, or refuses everything."""

    def __init__(self):
        self.sent = []
        self.is_away = False

    def deliver(self, records):
        if self.is_away:
            raise BrokerUnavailable("away")
        self.sent += records
        return list(range(len(self.sent) - len(records), len(self.sent)))

    def to(self, topic):
        return [record for record in self.sent if record.topic == topic]


class World:
    """A worker that owns partition 0 of every source topic."""

    def __init__(self):
        self.clock = ManualClock(T0 + 1_000)
        self.store = DictStore()
        self.outbox = RecordingOutbox()
        self.monotonic_s = 0.0
        self.fence = Fence(lambda: self.monotonic_s, limit_s=3.0)
        self.partitions = Partitions(
            lambda _number: self.store,
            lambda _start: [],
            POLICY,
            rewind_records=0,
            clock=self.clock,
        )
        self.offsets = dict.fromkeys(TOPIC_OF.values(), 0)
        self.start()

    def start(self, committed=None):
        self.partitions.assign(
            {Position(t, 0): committed for t in self.offsets},
            {Position(t, 0): 0 for t in self.offsets},
        )
        retrieval = Retrieval(None, num_near=1, num_trending=0, monotonic=lambda: 0.0)
        self.processor = BatchProcessor(
            self.partitions,
            Recommender(Switch(), retrieval, num_recommended=1, clock=self.clock),
            self.outbox,
            self.fence,
            layout=Layout(),
            policy=POLICY,
            clock=self.clock,
            app_id="test",
        )

    def record(self, event, *, offset=None):
        topic = TOPIC_OF[type(event).__name__]
        return self.raw(topic, event.user_id.encode(), encode(event), offset=offset)

    def raw(self, topic, key, value, *, offset=None, headers=()):
        if offset is None:
            offset, self.offsets[topic] = self.offsets[topic], self.offsets[topic] + 1
        return Received(topic, 0, offset, key, value, T0 + 1_000, headers)

    def window(self, user_id="u1"):
        [record] = self.store.get([user_id])
        return EMPTY if record is None else history_codec.decode(record)

    def recommendations(self):
        return [
            msgspec.json.decode(record.value, type=Recommendation)
            for record in self.outbox.to("recommendations")
        ]


def test_every_event_gets_one_recommendation():
    """Also when several of one user come in one batch."""
    world, events = World(), [watch("A"), watch("B", at_ms=1), search(), watch("C", user_id="u2")]

    world.processor.process([world.record(event) for event in events])

    caused = [r.caused_by for r in world.recommendations()]
    assert sorted(caused) == sorted([e.event_id] for e in events)


def test_the_window_is_in_the_store_and_in_the_changelog_alike():
    """Byte for byte: a rebuild from the changelog is the store."""
    world = World()

    world.processor.process([world.record(watch("A")), world.record(watch("B", at_ms=1))])

    [change] = world.outbox.to("nextwatch-streams-windows")
    assert (change.key, change.value) == (b"u1", world.store.get(["u1"])[0])


def test_offsets_become_committable_only_after_delivery():
    """What the broker has not acknowledged has not happened."""
    world = World()
    world.outbox.is_away = True

    with pytest.raises(BrokerUnavailable):
        world.processor.process([world.record(watch("A"))])
    assert world.partitions.committable() == {}

    world.outbox.is_away = False
    world.start()
    world.processor.process([world.record(watch("A"), offset=0)])
    assert world.partitions.committable() == {Position("watch-events", 0): 1}


def test_a_replay_after_a_crash_publishes_the_same_again():
    """The crash came between the local write and the delivery: the changelog catches up."""
    world = World()
    world.outbox.is_away = True
    with pytest.raises(BrokerUnavailable):
        world.processor.process([world.record(watch("A"))])
    before = world.window()

    world.outbox.is_away = False
    world.start()
    world.processor.process([world.record(watch("A"), offset=0)])

    assert world.window() == before
    assert len(world.outbox.to("nextwatch-streams-windows")) == 1


def test_a_redelivered_event_bears_the_same_recommendation_id():
    """A consumer can tell a repeat from news."""
    world = World()

    world.processor.process([world.record(watch("A"))])
    world.processor.process([world.record(watch("A"))])

    first, second = world.recommendations()
    assert first.recommendation_id == second.recommendation_id


def test_what_the_group_had_committed_is_folded_again_but_not_answered_again():
    """A rewind heals windows; the answers were acknowledged long ago."""
    world = World()
    world.start(committed=1)

    world.processor.process([world.record(watch("A"), offset=0)])

    assert world.window().video_ids == ("A",)
    assert world.recommendations() == []


def test_a_bad_message_is_kept_whole_with_its_reason_and_the_next_is_answered():
    """Nothing is lost, and nothing stops."""
    world = World()
    bad = world.raw("watch-events", b"u1", b"{junk", headers=(("trace", b"7"),))

    world.processor.process([bad, world.record(watch("A"))])

    [dead] = world.outbox.to("watch-events.dlq")
    headers = dict(dead.headers)
    assert (dead.key, dead.value, headers["trace"]) == (b"u1", b"{junk", b"7")
    assert (headers["dlq.reason"], headers["dlq.offset"]) == (b"json", b"0")
    assert len(world.recommendations()) == 1


def test_an_event_from_the_future_is_a_dead_letter():
    """By the record's own time, five minutes ahead is the most."""
    world = World()

    world.processor.process([world.record(watch("A", at_ms=3_600_000))])

    [dead] = world.outbox.to("watch-events.dlq")
    assert dict(dead.headers)["dlq.reason"] == b"ts_future"


def test_a_gap_is_sought_back_and_nothing_after_it_is_processed():
    """An offset that jumps forward means that records were skipped on the way."""
    #    offset   0   1   2
    #             A   -   C     1 is missing: seek to 1, C waits
    world = World()

    missing = world.processor.process(
        [world.record(watch("A"), offset=0), world.record(watch("C", at_ms=2), offset=2)]
    )

    assert missing == {Position("watch-events", 0): 1}
    assert world.window().video_ids == ("A",)
    assert world.partitions.committable() == {Position("watch-events", 0): 1}


def test_records_that_no_longer_exist_are_waited_for_only_so_often():
    """Retention may have deleted them; the stream must go on."""
    world = World()
    late = world.record(watch("C"), offset=2)

    for _ in range(MAX_SEEKS):
        assert world.processor.process([late])

    assert world.processor.process([late]) == {}
    assert world.window().video_ids == ("C",)


def test_records_of_partitions_owned_by_others_are_left_alone():
    """They were queued before a rebalance took the partition away."""
    world = World()
    world.partitions.suspend()

    world.processor.process([world.record(watch("A"))])

    assert world.outbox.sent == []


def test_a_worker_that_stood_still_produces_nothing():
    """Its partitions may be somebody else's by now."""
    world = World()
    world.fence.beat()
    world.monotonic_s = 3.1

    with pytest.raises(WorkerPausedError):
        world.processor.process([world.record(watch("A"))])
    assert world.outbox.sent == []


def test_a_deletion_empties_the_window_and_asks_for_no_recommendation():
    """Erasure is an event like any other, folded in."""
    world = World()

    world.processor.process([world.record(watch("A")), world.record(deletion(at_ms=5))])

    assert world.window().video_ids == ()
    assert len(world.recommendations()) == 1


EVENTS = st.lists(
    st.builds(
        watch,
        st.sampled_from("ABCDE"),
        user_id=st.sampled_from(["u1", "u2"]),
        at_ms=st.integers(0, 9),
    )
    | st.builds(search, st.sampled_from(["cats", "dogs"]), at_ms=st.integers(0, 9))
    | st.builds(deletion, at_ms=st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_however_events_are_cut_into_batches_and_repeated_the_windows_are_the_same(
    events, batch_size, chance: random.Random
):
    """The stored state is the fold of the set of events, whatever delivery did to them."""
    delivered = events + chance.choices(events, k=4) if events else []
    chance.shuffle(delivered)
    world = World()
    records = [world.record(event) for event in delivered]
    for start in range(0, len(records), batch_size):
        world.processor.process(records[start : start + batch_size])

    for user_id in ("u1", "u2"):
        mine = [event for event in events if event.user_id == user_id]
        assert world.window(user_id) == fold(EMPTY, mine, POLICY)
