"""The worker: what it does in which order, and that crashes and repeats change nothing."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.wire.events import BundleState, Origin
from index_sync.held import HOLD_S
from models.features.ranking_features import content_codes
from tests.index_sync.doubles import EAST, NORTH, Crash, World, trained
from tests.support.builders import T0, upload


def test_a_misplaced_upload_or_tombstone_is_a_dead_letter(world):
    """The video's other records are on another partition, in no order with these."""
    worker = world.settled(world.worker())
    with capture_logs() as told:
        worker.take_uploads(
            [
                world.uploads.append(upload("v1"), num_partitions=6),
                world.uploads.append(key="old", num_partitions=6),
            ]
        )

    assert world.outbox.reasons == ["misplaced", "misplaced"]
    assert set(world.points(1)) == {"old"}
    levels = [line["log_level"] for line in told if line["event"] == "record_dead_lettered"]
    assert levels == ["warning", "error"]  # a take-down that did not happen needs a person


def test_uploads_accepted_by_an_older_version_are_reported_if_unreadable_now(world):
    """They lie before the committed offset, so there is no letter of them."""
    world.uploads.append(upload("v1"), num_partitions=6)
    world.uploads.append(key="old", num_partitions=6)
    world.uploads.append(upload("v2"), num_partitions=6)
    world.uploads.append(upload("v2"))  # it was sent again since
    world.uploads.append(key=b"\xff", value=b"{")
    world.uploads.committed[0] = len(world.uploads.records)

    with capture_logs() as told:
        world.settled(world.worker())

    [fact] = [line for line in told if line["event"] == "uploads_unreadable"]
    assert (fact["log_level"], fact["records"], fact["reasons"]) == ("error", 2, {"misplaced": 2})
    assert world.outbox.reasons == []


def test_unreadable_uploads_with_a_dead_letter_are_not_reported_twice(world):
    world.uploads.append(upload("v1"), num_partitions=6)

    with capture_logs() as told:
        world.settled(world.worker())

    assert world.outbox.reasons == ["misplaced"]
    assert "uploads_unreadable" not in {line["event"] for line in told}


def test_an_upload_is_indexed_then_published_then_committed(world):
    """The index has the point before streams hears of it, and the offset comes last."""
    worker = world.settled(world.worker())
    world.journal.done.clear()
    worker.take_uploads([world.uploads.append(upload("new"))])

    assert world.journal.done == [
        ("upsert", "test-g1", ["new"]),
        ("acknowledged", [("item-vectors", "new")]),
        ("commit", "video-uploads", {0: 2}),
    ]


def test_a_tombstone_is_applied_then_published_then_committed(world):
    """The same order as for an upload."""
    worker = world.settled(world.worker())
    world.journal.done.clear()
    worker.take_uploads([world.uploads.append(key="old")])

    assert world.journal.done == [
        ("delete", "test-g1", ["old"]),
        ("acknowledged", [("item-vectors", "old")]),
        ("commit", "video-uploads", {0: 2}),
    ]


def test_a_vector_is_written_then_committed(world):
    """Nothing is told of it: it was a record already."""
    worker = world.settled(world.worker())
    world.journal.done.clear()
    worker.take_vectors([world.vectors.append(trained("old"))])

    assert world.journal.done == [
        ("upsert", "test-g1", ["old"]),
        ("commit", "item-vectors", {0: 1}),
    ]


def test_only_the_newest_record_of_a_video_in_a_batch_is_written(world):
    """Two uploads of a video in a batch are one point; an upload and its tombstone are none."""
    worker = world.settled(world.worker())
    for event in (upload("a"), upload("b"), upload("a", category="news")):
        world.uploads.append(event)
    world.uploads.append(key="b")
    world.settled(worker)

    assert set(world.points(1)) == {"old", "a"}
    assert worker.catalogue.get("a").category == "news"


def test_a_turn_takes_few_vectors_so_that_an_upload_waits_for_few(world):
    """As many as a slice of a build has; the rest is for the next turns."""
    world.settings = world.settings.model_copy(update={"build_slice_videos": 2})
    worker = world.settled(world.worker())
    world.journal.done.clear()
    for number in range(5):
        world.vectors.append(trained(f"v{number}"))
    worker.turn()
    assert ("upsert", "test-g1", ["v0", "v1"]) in world.journal.done
    world.settled(worker)

    assert set(world.points(1)) == {"old", *(f"v{number}" for number in range(5))}


def test_a_video_without_a_finite_vector_is_left_out(world):
    """Neither stored nor told, in a batch and in a build, and it stops nothing."""
    worker = world.settled(world.worker())
    world.uploads.append(upload("not-finite"))
    world.uploads.append(upload("new"))
    world.announce(2, video_ids=["old"])
    world.settled(worker)

    assert set(world.points(1)) == set(world.points(2)) == {"old", "new"}
    assert {record.key for record in world.vectors.records} == {b"new"}


def test_a_late_vector_does_not_bring_a_video_back(world):
    """A trainer that has not heard yet of the tombstone is ignored."""
    worker = world.settled(world.worker())
    world.uploads.append(key="old")
    world.settled(worker)
    world.vectors.append(trained("old"))
    world.settled(worker)

    assert "old" not in world.points(1)


def test_a_video_that_is_uploaded_again_is_back(world):
    """The tombstone of a former upload does not outlive the new one."""
    worker = world.settled(world.worker())
    world.uploads.append(key="old")
    world.settled(worker)
    world.uploads.append(upload("old"))
    world.settled(worker)

    assert "old" in world.points(1)


def test_a_trained_vector_is_not_undone_by_an_upload(world):
    """What was learned of a video outlives a second delivery of its upload."""
    worker = world.settled(world.worker())
    again = world.uploads.append(upload("new"))
    world.settled(worker)
    world.vectors.append(trained("new", EAST))
    world.settled(worker)
    num_told = len(world.vectors.records)
    worker.take_uploads([again])
    world.settled(worker)

    assert world.points(1)["new"].vector == list(EAST)
    assert len(world.vectors.records) == num_told  # streams must not hear of it either


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        (trained(vector=(1.0, 0.0, 0.0)), "vector_dim"),
        (trained(vector=(0.0, 0.0)), "vector_norm"),
        (trained(vector=(1e5, 1e5)), "vector_norm"),
    ],
)
def test_a_vector_that_does_not_fit_is_a_dead_letter(world, vector, reason):
    """It is kept with its reason, nothing is written, and the offset moves on."""
    worker = world.settled(world.worker())
    before = dict(world.points(1))
    world.vectors.append(vector)
    world.settled(worker)

    assert world.outbox.reasons == [reason]
    assert world.points(1) == before
    assert world.vectors.committed == {0: 1}


def test_an_unreadable_record_becomes_a_dead_letter_on_each_topic(world):
    """Uploads, vectors and announcements: this process owns the bad ones of all three."""
    worker = world.settled(world.worker())
    for log in world.logs.values():
        log.append(key="v1", value=b"{")
    world.vectors.append(key=b"\xff", value=None)
    world.settled(worker)

    assert sorted(world.outbox.reasons) == ["json", "json", "json", "key_encoding"]


@pytest.mark.parametrize(
    ("key", "value", "level"),
    [("v1", b"", "error"), (b"\xff", None, "error"), ("v1", b"{", "warning")],
)
def test_a_take_down_that_did_not_happen_is_an_error_in_the_log(world, key, value, level):
    """Many clients send an empty value where none is meant; the video would stay, unnoticed."""
    worker = world.settled(world.worker())
    world.uploads.append(key=key, value=value)

    with capture_logs() as logs:
        world.settled(worker)

    [fact] = [fact for fact in logs if fact["event"] == "record_dead_lettered"]
    assert fact["log_level"] == level


def test_bad_records_are_not_sent_twice_over_a_restart(world):
    """What was dead-lettered and committed is passed over, although it is read again."""
    for log in world.logs.values():
        log.append(key="v1", value=b"{")
    world.settled(world.worker())
    world.settled(world.worker())

    assert world.outbox.reasons == []


def test_a_vector_of_an_unknown_generation_waits_for_its_bundle(world):
    """It is not committed before it is written, so a restart would see it again."""
    worker = world.settled(world.worker())
    world.vectors.append(trained("old", EAST, generation=2))
    world.vectors.append(trained("old", EAST, generation=1))
    world.settled(worker)
    assert world.vectors.committed == {0: 0}
    world.announce(2, video_ids=["old"])
    world.settled(worker)

    assert world.points(2)["old"].vector == list(EAST)
    assert world.vectors.committed == {0: 2}


def test_waiting_vectors_are_bounded(world):
    """Beyond the bound they are dead letters, and the topic goes on."""
    world.settings = world.settings.model_copy(update={"max_held_vectors": 1})
    worker = world.settled(world.worker())
    for video_id in ("a", "b"):
        world.vectors.append(trained(video_id, generation=7))
    world.settled(worker)

    assert world.outbox.reasons == ["generation_unknown"]


def _story(world):
    """Let things happen that touch everything: uploads, takedowns, training, a generation."""
    for number in range(6):
        world.uploads.append(upload(f"v{number}"))
    world.uploads.append(key="v0")
    world.vectors.append(trained("v1", EAST))
    world.uploads.append(upload("v2", category="news"))
    world.announce(2, video_ids=["old", "v1", "v3"])
    world.vectors.append(trained("v3", EAST, generation=1))


def _stored(world):
    return {
        name: {video_id: point.vector for video_id, point in points.items()}
        for name, points in world.index.points.items()
    }


def _fresh(**settings):
    world = World(batch_records=3, build_slice_videos=2, **settings)
    world.uploads.append(upload("old"))
    world.announce(1, video_ids=["old"])
    world.settled(world.worker())
    world.announce(1, BundleState.IN_SERVICE)
    _story(world)
    world.journal.done.clear()
    return world


def _undisturbed():
    world = _fresh()
    world.settled(world.worker())
    return world


def test_a_crash_at_any_point_ends_in_the_same_points():
    """Between any two effects: the restarted process brings the index where it belongs."""
    expected = _undisturbed()
    num_effects = len(expected.journal.done)
    assert num_effects > 15
    for crash_at in range(num_effects):
        world = _fresh()
        world.journal.crash_at = crash_at
        with pytest.raises(Crash):
            world.settled(world.worker())
        world.journal.crash_at = None
        world.settled(world.worker())

        assert _stored(world) == _stored(expected), f"after a crash before effect {crash_at}"
        assert world.states() == expected.states()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_repeated_vectors_in_any_order_change_nothing(crashes, random):
    """Whatever is delivered again or out of order, and however often it crashes."""
    expected = _undisturbed()
    world = _fresh()
    vectors = [trained("v1", EAST, at_ms=at_ms) for at_ms in (1, 2)]
    vectors += [trained("v1", NORTH, at_ms=9)] * 2
    random.shuffle(vectors)
    for vector in vectors:
        world.vectors.append(vector)
    for crash_after in crashes:
        world.journal.crash_at = len(world.journal.done) + crash_after
        try:
            world.settled(world.worker())
        except Crash:
            continue
    world.journal.crash_at = None
    world.settled(world.worker())

    assert world.points(1).keys() == expected.points(1).keys()
    assert world.points(1)["v1"].vector == list(NORTH)


def test_content_vectors_bear_their_origin_and_the_uploads_features(world):
    """Ranking knows length, age, channel and topic of a video nobody has watched."""
    worker = world.settled(world.worker())
    world.uploads.append(upload("new", at_ms=5))
    world.settled(worker)
    told = msgspec.json.decode(world.vectors.records[-1].value)

    assert told["origin"] == Origin.CONTENT
    codes = {name: code for name, code in content_codes(upload("new")).items() if code}
    assert told["features"] == {"duration_ms": 30_000, "uploaded_at_ms": T0 + 5, **codes}


def test_a_vector_of_a_generation_that_never_comes_is_a_dead_letter(world):
    """It would pin the committed offset: every start would read from there."""
    worker = world.settled(world.worker())
    world.vectors.append(trained("v1", generation=2**53))
    world.vectors.append(trained("old", EAST, generation=1))
    world.settled(worker)
    assert world.vectors.committed == {0: 0}

    world.monotonic_s += HOLD_S
    world.settled(worker)

    assert world.outbox.reasons == ["generation_unknown"]
    assert world.vectors.committed == {0: 2}
