"""Sorting item vectors, and which of two vectors of one video stays."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contract.kafka.records import Received
from contract.wire.events import Origin, encode
from contract.wire.topics import ITEM_VECTORS
from index_sync.collections.generation import Generation, Point, Version
from index_sync.route import route
from tests.index_sync.doubles import Tower
from tests.support.builders import T0, item_vector

NORTH, EAST = (0.0, 1.0), (1.0, 0.0)


def generation(number=1):
    """Return an empty generation of two-dimensional vectors."""
    return Generation(number, f"c-g{number}", 2, 2, Tower(number))


def record(vector=None, *, key="v1", offset=0):
    """Return a record of `item-vectors`; a tombstone without a *vector*."""
    if vector is None:
        return Received(ITEM_VECTORS.name, 0, offset, key.encode(), None)
    return Received(ITEM_VECTORS.name, 0, offset, vector.video_id.encode(), encode(vector))


def vector(video_id="v1", at=NORTH, *, at_ms=0, origin=Origin.TRAINING, number=1):
    """Return an item vector, *at_ms* after T0."""
    made = item_vector(video_id, at, generation=number)
    return msgspec.structs.replace(made, origin=origin, updated_at_ms=T0 + at_ms)


def sort(*records, numbers=(1,), taken_down=()):
    """Sort *records* against generations of these *numbers*."""
    return route(
        records,
        {number: generation(number) for number in numbers},
        is_taken_down=set(taken_down).__contains__,
        max_held=10,
    )


def test_a_vector_before_its_tombstone_is_deleted_and_one_after_it_is_kept():
    """Deletions come first, then the points."""
    # v1:  put  gone          v2:  gone  put
    result = sort(record(vector("v1")), record(key="v1"), record(key="v2"), record(vector("v2")))
    assert result.gone == {"v1", "v2"}
    assert set(result.points[1]) == {"v2"}


def test_a_trained_vector_beats_a_later_one_by_content():
    """What was learned is not undone by what is known without learning."""
    content = vector(at=EAST, at_ms=9, origin=Origin.CONTENT)
    result = sort(record(vector(at=NORTH)), record(content))
    assert result.points[1]["v1"].vector == list(NORTH)


def test_vectors_of_several_generations_do_not_mix():
    """The newest of each generation stays, in its own generation."""
    result = sort(
        record(vector(at=NORTH)), record(vector(at=EAST, number=2, at_ms=9)), numbers=(1, 2)
    )
    assert result.points[1]["v1"].vector == list(NORTH)
    assert result.points[2]["v1"].vector == list(EAST)


def test_old_generations_and_gone_videos_are_ignored_and_new_generations_wait():
    """None of them is an error."""
    result = sort(
        record(vector(number=1)),
        record(vector("gone", number=5)),
        record(vector(number=9), offset=7),
        numbers=(5,),
        taken_down=["gone"],
    )
    assert (result.num_ignored, result.points, result.bad) == (2, {}, [])
    assert [held.offset for held in result.held] == [7]


versions = st.builds(Version, st.booleans(), st.integers(0, 5))


@given(st.lists(versions, min_size=1), st.randoms(use_true_random=False))
def test_the_version_that_stays_does_not_depend_on_order_or_repeats(given_versions, random):
    """The greatest one, always."""
    delivered = given_versions + random.choices(given_versions, k=3)
    random.shuffle(delivered)
    subject = generation()
    for version in delivered:
        subject.written(subject.newer([Point("v1", [0.0, 1.0], version)]))
    assert subject.versions["v1"] == max(given_versions)
