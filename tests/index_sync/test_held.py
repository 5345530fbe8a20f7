"""Vectors that came before their bundle wait, and not for ever."""

from contract.kafka.records import Received
from contract.wire.events import encode
from contract.wire.topics import ITEM_VECTORS
from index_sync.held import HOLD_S, HeldVectors
from tests.support.builders import item_vector

AT = 2**53


def record(offset, *, generation=AT):
    """Return a record of a vector."""
    vector = item_vector("v1", (1.0, 0.0), generation=generation)
    return Received(ITEM_VECTORS.name, 0, offset, b"v1", encode(vector))


class World:
    def __init__(self):
        self.now_s = 0.0
        self.held = HeldVectors(10, monotonic=lambda: self.now_s)

    def late(self, *announced):
        return [bad.record.offset for bad in self.held.take_late(set(announced).__contains__)]


def test_a_vector_of_a_generation_that_never_comes_lets_the_offsets_go():
    """Otherwise one bad record would have every start read from there, for ever."""
    world = World()
    world.held.add([record(3)])
    assert world.held.bounded({0: 9}) == {0: 3}

    world.now_s = HOLD_S
    assert world.held.is_any_late
    assert world.late() == [3]
    assert world.held.bounded({0: 9}) == {0: 9}
    assert world.held.room == 10


def test_a_record_that_is_held_again_keeps_its_time():
    """A new generation every minute must not start the clock anew."""
    world = World()
    world.held.add([record(3)])
    for _ in range(10):
        world.now_s += HOLD_S / 10
        world.held.add(world.held.take())

    assert world.late() == [3]


def test_a_vector_whose_bundle_is_announced_waits_on():
    """Its store may be away, or its index slow."""
    world = World()
    world.held.add([record(3, generation=7), record(4, generation=8)])
    world.now_s = HOLD_S

    assert world.late(7) == [4]
    assert len(world.held) == 1
    world.now_s *= 2
    assert world.late() == [3]
