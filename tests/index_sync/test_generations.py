"""Generations of collections: built beside what serves, announced, kept, and deleted."""

import msgspec
import pytest

from contract.errors import ContractError
from contract.kafka import retries
from contract.wire.events import BundleState
from index_sync.collections.collections import GenerationCollections
from tests.index_sync.doubles import EAST, World, trained
from tests.support.builders import upload


def serve_generations(world, worker):
    """Have generations 2 to 7 come into service, one after another."""
    for generation in range(2, 8):
        world.announce(generation, video_ids=["old"])
        world.settled(worker)
        world.announce(generation, BundleState.IN_SERVICE)
        world.settled(worker)


def test_an_offered_bundle_is_indexed_announced_and_named(world):
    """Snapshot and catalogue are all there before the word is given, and the alias follows."""
    world = World()
    for video_id in ("a", "b", "c"):
        world.uploads.append(upload(video_id))
    worker = world.settled(world.worker())
    world.announce(1, video_ids=["a", "z"])
    world.settled(worker)

    assert set(world.points(1)) == {"a", "b", "c", "z"}
    assert world.states() == {"b1": "indexed"}
    assert world.index.aliases == {"test": "test-g1"}
    written = [record.key.decode() for record in world.vectors.records]
    assert written == ["b", "c"]  # what the snapshot has needs no record


def test_an_upload_during_a_build_is_in_both_generations(world):
    """While generation 2 is built, a new video goes into 1 and 2, with vectors of each."""
    world.settings = world.settings.model_copy(update={"build_slice_videos": 1})
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old", "x", "y"])
    worker.turn()
    assert worker.building is not None
    world.uploads.append(upload("new"))
    worker.turn()
    assert worker.building is not None
    assert "new" in world.points(1)
    assert "new" in world.points(2)
    world.settled(worker)

    assert set(world.points(2)) == {"old", "x", "y", "new"}
    assert world.points(1)["new"].vector != world.points(2)["new"].vector
    told = [msgspec.json.decode(r.value)["generation"] for r in world.vectors.records]
    assert told == [1, 2]


def test_an_upload_goes_into_the_old_generation_until_the_new_one_serves(world):
    """Between `indexed` and `in_service` the old one still answers."""
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old"])
    world.settled(worker)
    world.uploads.append(upload("new"))
    world.settled(worker)

    assert "new" in world.points(1)
    assert "new" in world.points(2)


def test_an_upload_does_not_wait_for_a_bundle_that_is_being_opened(world):
    """Opening one, and creating its collection, takes longer than an upload may wait."""
    worker = world.settled(world.worker())
    world.background.is_held = True
    world.announce(2, video_ids=["old"])
    worker.turn()
    assert worker.building is None
    world.uploads.append(upload("new"))
    world.uploads.append(key="old")
    worker.turn()
    assert set(world.points(1)) == {"new"}

    world.background.finish()
    world.settled(worker)
    assert set(world.points(2)) == {"new"}
    assert world.states()["b2"] == "indexed"


def test_one_bundle_is_opened_at_a_time(world):
    """The newest of those offered meanwhile is next; the one passed over is forgotten."""
    worker = world.settled(world.worker())
    world.background.is_held = True
    for generation in (2, 3, 4):
        world.announce(generation, video_ids=["old"])
        worker.turn()
    assert worker.background.opening.announcement.generation == 2
    world.background.is_held = False
    world.background.finish()
    world.settled(worker)

    assert world.states() == {"b1": "in_service", "b2": "indexed", "b3": None, "b4": "indexed"}


def test_vectors_wait_while_their_bundle_is_being_opened(world):
    """They are written once there is a collection, and committed then."""
    worker = world.settled(world.worker())
    world.background.is_held = True
    world.announce(2, video_ids=["old"])
    world.vectors.append(trained("old", EAST, generation=2))
    worker.turn()
    assert world.vectors.committed == {0: 0}
    world.background.finish()
    world.settled(worker)

    assert world.points(2)["old"].vector == list(EAST)
    assert world.vectors.committed == {0: 1}


def test_an_upload_does_not_wait_for_old_collections_to_be_deleted(world):
    """They are written to no longer, and deleted in the background."""
    world.settings = world.settings.model_copy(update={"kept_generations": 1})
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old"])
    world.settled(worker)
    world.announce(2, BundleState.IN_SERVICE)
    world.announce(3, video_ids=["old"])
    worker.turn()
    world.background.is_held = True
    world.settled(worker)
    assert world.states()["b3"] == "indexed"
    world.uploads.append(upload("new"))
    world.uploads.append(key="old")
    worker.turn()
    assert set(world.points(3)) == {"new"}
    assert set(world.points(1)) == {"old"}

    world.background.finish()
    worker.turn()
    assert world.index.collections() == {"test-g2", "test-g3"}


def test_a_failure_in_the_background_ends_the_process(world):
    """It is raised by a later turn, not lost."""
    worker = world.settled(world.worker())
    world.snapshots[2] = None  # no bundle of this kind can be opened
    world.announce(2)
    with pytest.raises(AttributeError):
        world.settled(worker)


def test_a_bundle_withdrawn_during_its_build_is_not_announced(world):
    """Its collection is as good as unbuilt."""
    world.settings = world.settings.model_copy(update={"build_slice_videos": 1})
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old", "x", "y"])
    worker.turn()
    world.announce(2, BundleState.WITHDRAWN)
    world.settled(worker)

    assert world.states()["b2"] == "withdrawn"


def test_a_collection_that_lost_points_is_not_announced(world):
    """The count is taken before the word is given; a start builds it again."""
    world.settings = world.settings.model_copy(update={"build_slice_videos": 1})
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old", "x"])
    worker.turn()
    world.points(2).clear()
    with pytest.raises(ContractError, match="points"):
        world.settled(worker)

    assert world.states()["b2"] == "offered"


def test_a_video_taken_down_during_a_build_is_in_neither(world):
    """Also when the new bundle still has it."""
    worker = world.settled(world.worker())
    world.uploads.append(key="old")
    world.announce(2, video_ids=["old", "x"])
    world.settled(worker)

    assert set(world.points(1)) == set()
    assert set(world.points(2)) == {"x"}


def test_a_damaged_bundle_changes_nothing(world):
    """It is not indexed and not tried again, and the old generation goes on."""
    worker = world.settled(world.worker())
    world.announce(2)  # there is no such bundle
    world.uploads.append(upload("new"))
    world.settled(worker)

    assert worker.counts["bundles_refused"] == 1
    assert set(world.points(1)) == {"old", "new"}
    assert world.states()["b2"] == "offered"


def test_only_the_last_generations_are_kept(world):
    """With the one in service, however old it is."""
    worker = world.settled(world.worker())
    for generation in (2, 3, 4, 5):
        world.announce(generation, video_ids=["old"])
        world.settled(worker)

    assert world.index.collections() == {"test-g1", "test-g3", "test-g4", "test-g5"}


def test_a_repeated_offer_does_not_rebuild_what_serves(world):
    """The collection in service is never emptied because a record came twice."""
    worker = world.settled(world.worker())
    world.announce(1, BundleState.OFFERED)
    world.settled(worker)

    assert not [entry for entry in world.journal.done if entry[0] == "create"]


def test_a_lost_collection_is_made_anew_with_what_was_learned(world):
    """The bundle, the catalogue and all of `item-vectors` are read again."""
    world.uploads.append(upload("new"))
    world.vectors.append(trained("old", EAST))
    world.settled(world.worker())
    before = dict(world.points(1))
    world.index.points.clear()
    world.settled(world.worker())

    assert world.points(1).keys() == before.keys()
    assert world.points(1)["old"].vector == list(EAST)
    assert world.states()["b1"] == "in_service"


def test_without_bundle_and_collection_a_start_waits_for_the_next_bundle(world):
    """Both volumes were lost: an alias to nothing was refused by the index, at each start."""
    del world.snapshots[1]
    world.index.points.clear()
    worker = world.settled(world.worker())
    world.announce(2, video_ids=["old"])
    world.settled(worker)

    assert set(world.points(2)) == {"old"}
    assert world.states()["b2"] == "indexed"


def test_a_bundle_whose_store_is_away_is_indexed_once_it_is_back(world):
    """A storage error is no damage: the bundle is tried again, and nothing else waits for it."""
    worker = world.settled(world.worker())
    world.num_failures = 3
    world.announce(2, video_ids=["old"])
    world.uploads.append(upload("new"))
    for _ in range(20):
        world.monotonic_s += 1.0
        world.settled(worker)

    assert set(world.points(1)) == set(world.points(2)) == {"old", "new"}
    assert world.states()["b2"] == "indexed"
    assert worker.counts["bundles_refused"] == 0


def test_a_start_waits_for_the_store_of_the_bundles(world, monkeypatch):
    """A generation that was not opened would get no uploads until the next start."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)
    world.num_failures = 5
    world.uploads.append(upload("new"))
    world.settled(world.worker())

    assert set(world.points(1)) == {"old", "new"}


def test_bundles_that_are_no_longer_needed_get_a_tombstone(world):
    """The topic is compacted: without tombstones it grows by a bundle a minute, for ever."""
    worker = world.settled(world.worker())
    serve_generations(world, worker)

    states = world.states()
    assert [states[f"b{n}"] for n in (5, 6, 7)] == ["in_service"] * 3
    assert [states[f"b{n}"] for n in (1, 2, 3)] == [None] * 3


def test_a_restart_after_tombstones_keeps_what_serves(world):
    """What was forgotten is missed by nobody."""
    worker = world.settled(world.worker())
    serve_generations(world, worker)
    world.settled(world.worker())

    assert world.index.collections() == {"test-g5", "test-g6", "test-g7"}
    assert world.index.aliases == {"test": "test-g7"}


def test_a_prefix_that_another_deployment_uses_stops_the_start(world):
    """Two deployments with one prefix would drop each other's collections."""
    world.index.owners["test-g1"] = "them"

    with pytest.raises(ContractError, match="NEXTWATCH_QDRANT_COLLECTION_PREFIX"):
        GenerationCollections(world.index, "test").claim()


def test_a_collection_of_another_owner_is_never_dropped(world):
    """Whoever came later, with our prefix, keeps its collections."""
    worker = world.settled(world.worker())
    world.index.points |= {"test-g0": {}, "test-g7": {}, "test-goal": {}, "other-g0": {}}
    world.index.owners["test-g0"] = "them"
    worker.collections.drop_all_but({1})

    assert world.index.collections() == {"test-g0", "test-g1", "test-goal", "other-g0"}


def test_collections_from_before_there_were_marks_are_claimed(world):
    """An upgrade needs no step by hand."""
    world.index.owners.clear()
    GenerationCollections(world.index, "test").claim()

    assert world.index.owners == {"test-g1": "us"}


def test_uploads_since_go_into_the_generation_that_serves_again(world):
    """They went into the later generation alone, which was withdrawn."""
    worker = world.settled(world.worker())
    for generation in (2, 3):
        world.announce(generation, video_ids=["old"])
        world.settled(worker)
        world.announce(generation, BundleState.IN_SERVICE)
        world.settled(worker)
    world.uploads.append(upload("new"))
    world.settled(worker)
    assert "new" not in world.points(2)

    world.announce(3, BundleState.WITHDRAWN)
    world.settled(worker)
    for _ in range(3):
        worker.turn()

    assert set(world.points(2)) == {"old", "new"}
