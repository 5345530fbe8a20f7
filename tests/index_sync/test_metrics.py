"""What index_sync shows is what it did: refusals by reason, letters by reason, staleness."""

from contract.metrics.metric import MetricSample
from contract.wire.topics import VIDEO_UPLOADS
from tests.support.builders import upload


def shown(worker):
    """Return the samples of *worker* by name and labels."""
    samples = worker.metrics.samples(
        worker.counts.copy(),
        catalogue=worker.catalogue,
        held=worker.held,
        is_building=lambda: worker.building is not None,
        num_failed=lambda: 3,
    )
    return {(one.metric.name, tuple(one.labels)): one.value for one in samples}


def test_uploads_and_bad_records_are_counted_after_their_acknowledgement(world):
    """A letter by its topic and the word of its reason."""
    worker = world.settled(world.worker())
    worker.take_uploads(
        [
            world.uploads.append(upload("v2")),
            world.uploads.append(upload("v1"), num_partitions=6),
            world.uploads.append(key="v3", value=b"{"),
        ]
    )
    page = shown(worker)

    letters = {
        reason: count
        for (name, labels), count in page.items()
        if name == "nextwatch_dead_letters_total" and count
        for topic, reason in [labels]
        if topic == VIDEO_UPLOADS.name
    }
    assert letters == {"misplaced": 1, "json": 1}
    assert page["nextwatch_index_uploads_total", ()] == 1
    assert page["nextwatch_index_failed_requests_total", ()] == 3


def test_a_bundle_that_is_not_there_is_counted_as_refused(world):
    """By the word of the fault: its text would be a series of its own each time."""
    worker = world.settled(world.worker())
    world.announce(2)
    world.settled(worker)

    assert shown(worker)["nextwatch_bundles_refused_total", ("misfit",)] == 1


def test_a_store_that_is_away_is_counted_apart_from_damage(world):
    """It is tried again."""
    worker = world.settled(world.worker())
    world.num_failures = 1
    world.announce(2, video_ids=["v1"])
    world.settled(worker)

    assert shown(worker)["nextwatch_bundles_refused_total", ("store_unavailable",)] == 1


def test_uploads_that_wait_make_the_index_stale_until_they_are_in(world):
    """By how long they have waited since the index was current."""
    worker = world.settled(world.worker())
    world.monotonic_s += 1
    worker.turn()
    world.uploads.append(upload("v1"))
    worker.metrics.note_lag(worker.uploads.num_behind(), worker.uploads.newest_ms)
    world.monotonic_s += 30
    stale = shown(worker)["nextwatch_index_staleness_seconds", ()]
    worker.turn()
    world.monotonic_s += 1
    worker.turn()

    assert stale == 30
    assert shown(worker)["nextwatch_index_staleness_seconds", ()] == 0
    assert all(isinstance(one, MetricSample) for one in worker.metrics.lag.samples())
