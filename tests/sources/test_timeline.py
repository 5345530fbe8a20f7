"""The timeline: uploads and exposures in one order, and videos held back to be cold."""

import pytest

from contract.wire.events import VideoUpload
from nextwatch.datasets import kuairand
from nextwatch.sources.timeline import is_held_back, lay_out
from tests.support.dataset_logs import T0, exposure, write_kuairand


@pytest.fixture
def log(tmp_path):
    """Forty videos, each exposed twice: at its number and at 1000 ms more."""
    rows = [exposure(video_id=v, at_ms=v + late) for late in (0, 1000) for v in range(40)]
    return kuairand.read(write_kuairand(tmp_path, rows))


def ids(uploads):
    """Return the video ids of *uploads*."""
    return [upload.video_id for upload in uploads]


def test_all_of_a_closed_catalogue_is_uploaded_first(log):
    """Without holding back, the timeline has no upload in it."""
    timeline = lay_out(log)

    assert len(timeline.catalogue) == 40
    assert not timeline.uploads


def test_a_video_that_is_held_back_is_uploaded_at_its_first_exposure(log):
    """Right before the impression that shows it for the first time, and only once."""
    timeline = lay_out(log, hold_back=0.3)
    told = [event for moment in timeline for event in moment.events]
    held = ids(timeline.uploads)

    assert 0 < len(held) < 40
    assert set(held).isdisjoint(ids(timeline.catalogue))
    for upload in timeline.uploads:
        assert upload.uploaded_at_ms == T0 + int(upload.video_id[1:])
        first = next(event for event in told if upload.video_id in str(event))
        assert first == upload
    assert sum(isinstance(event, VideoUpload) for event in told) == len(held)


def test_two_processes_hold_back_the_same(log):
    """One loads the catalogue, another feeds: together they upload every video once."""
    loaded, fed = (lay_out(log, hold_back=0.3) for _ in range(2))

    assert sorted(ids(loaded.catalogue) + ids(fed.uploads)) == sorted(f"v{v}" for v in range(40))


def test_about_the_share_that_was_asked_for_is_held_back():
    """The hash is even: of ten thousand ids, two in a hundred, give or take."""
    held = sum(is_held_back(f"v{number}", 0.02) for number in range(10_000))

    assert 150 <= held <= 250


def test_the_held_back_videos_are_the_same_in_every_process():
    """Pinned: neither another process nor another release may choose differently."""
    held = [number for number in range(300) if is_held_back(f"v{number}", 0.02)]

    assert held == [22, 91, 116, 200, 212, 272]


def test_a_timeline_starts_at_the_given_time(log):
    """What happened before is left out, and holding back goes by what is left."""
    timeline = lay_out(log, from_ms=T0 + 500, hold_back=0.3)

    assert next(moment.event_time_ms for moment in timeline) == T0 + 1000
    assert all(upload.uploaded_at_ms >= T0 + 1000 for upload in timeline.uploads)


def test_everything_is_in_the_order_of_time(log):
    """Uploads and exposures alike, and the share that is done grows to 1."""
    moments = list(lay_out(log, hold_back=0.3))
    times_ms = [moment.event_time_ms for moment in moments]

    assert times_ms == sorted(times_ms)
    assert moments[-1].done == 1


def test_nothing_happens_after_the_end_of_the_log(log):
    """From a time past the last exposure, only the catalogue is left."""
    timeline = lay_out(log, from_ms=T0 + 10_000)

    assert len(timeline.catalogue) == 40
    assert not list(timeline)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_holding_back_everything_is_refused(log, share):
    """A catalogue must be left."""
    with pytest.raises(ValueError, match="hold_back must be from 0 to below 1"):
        lay_out(log, hold_back=share)
