"""KuaiRand: rows of exposures become impressions and watches, features become uploads."""

import msgspec
import pytest

from contract.errors import DatasetError
from contract.wire.events import Impressions, Watch
from nextwatch.datasets import kuairand
from tests.support.dataset_logs import (
    T0,
    VIDEO,
    exposure,
    write_csv,
    write_kuairand,
    write_official_kuairand,
)


def events_of(log):
    """Return all events of *log*, in its order."""
    return [event for index in range(len(log)) for event in log.events(index)]


def test_a_played_row_is_an_impression_and_a_watch(tmp_path):
    """Both at the time of the exposure, the impression first."""
    log = kuairand.read(write_kuairand(tmp_path, [exposure(user_id=3, video_id=4, tab=6)]))
    shown, watched = events_of(log)

    assert isinstance(shown, Impressions)
    assert [(video.video_id, video.position) for video in shown.videos] == [("v4", 0)]
    assert isinstance(watched, Watch)
    assert (watched.user_id, watched.video_id, watched.watch_ms) == ("u3", "v4", 5_000)
    assert watched.context.surface == "tab:6"
    assert shown.event_time_ms == watched.event_time_ms == T0


def test_a_row_that_was_not_played_is_an_impression_only(tmp_path):
    """Shown and swiped away in the same instant is no watch."""
    log = kuairand.read(write_kuairand(tmp_path, [exposure(play_time_ms=0)]))

    assert [type(event) for event in events_of(log)] == [Impressions]


def test_a_loop_counts_as_one_whole_watch(tmp_path):
    """The log's players loop; nobody watches more than the whole video."""
    log = kuairand.read(write_kuairand(tmp_path, [exposure(play_time_ms=61_000)]))

    assert events_of(log)[1].watch_ms == 20_000


def test_rows_come_in_the_order_of_time(tmp_path):
    """Rows of one instant stay in the order of the log, which may itself be in disorder."""
    # row      0    1    2    3
    # at_ms  200  100  100    0
    rows = [exposure(video_id=v, at_ms=ms) for v, ms in ((1, 200), (2, 100), (3, 100), (4, 0))]
    log = kuairand.read(write_kuairand(tmp_path, rows))

    assert [log.video_id(index) for index in range(4)] == ["v4", "v2", "v3", "v1"]


def test_event_ids_are_the_same_at_every_replay(tmp_path):
    """A log replayed twice says the same twice, and no two events share an id."""
    directory = write_kuairand(tmp_path, [exposure(user_id=u, at_ms=u) for u in range(5)])
    first, second = (events_of(kuairand.read(directory)) for _ in range(2))

    assert first == second
    assert len({event.event_id for event in first}) == len(first)


def test_rows_that_the_contract_cannot_express_are_counted(tmp_path):
    """A picture has no duration, one exposure is written twice, a time is in seconds."""
    rows = [
        exposure(user_id=1),
        exposure(user_id=1),
        exposure(user_id=2, duration_ms=0),
        exposure(user_id=-3),
        exposure(user_id=4, time_ms=1_650_812_741),
        exposure(user_id=5, at_ms=9),
    ]
    log = kuairand.read(write_kuairand(tmp_path, rows))

    assert [int(user) for user in log.user] == [1, 5]
    assert {reason: count for reason, count in log.skipped.items() if count} == {
        "row:repeated": 1,
        "row:bad_duration": 1,
        "row:bad_id": 1,
        "row:bad_time": 1,
    }


def test_features_become_an_upload(tmp_path):
    """Topics, making and music are tags; the day of upload is a day in China."""
    video = {"video_id": 8, "author_id": 5, "tag": "39,9", "upload_dt": "2022-04-10"}
    (upload,) = kuairand.read(write_kuairand(tmp_path, [exposure()], [video])).uploads

    assert msgspec.structs.asdict(upload) == {
        "video_id": "v8",
        "title": "",
        "channel_id": "a5",
        "category": "NORMAL",
        "tags": ["tag:39", "tag:9", "upload:LongImport", "music:99"],
        "language": None,
        "duration_ms": 20_000,
        "uploaded_at_ms": 1_649_520_000_000,  # 2022-04-09T16:00:00Z
    }


def test_unknown_features_are_left_out_not_made_up(tmp_path):
    """No music, no tag: no such tags. No duration: no upload, and it is counted."""
    videos = [{"music_id": 0, "tag": ""}, {"video_id": 2, "video_duration": ""}]
    log = kuairand.read(write_kuairand(tmp_path, [exposure()], videos))

    assert [upload.tags for upload in log.uploads] == [["upload:LongImport"]]
    assert log.skipped["upload:bad_duration"] == 1


def test_the_files_of_the_publisher_are_read_too(tmp_path):
    """As downloaded, the log comes in several plain tables."""
    write_kuairand(tmp_path, [exposure()])
    (tmp_path / "interactions.parquet").unlink()
    write_csv(tmp_path / "log_standard_2.csv.gz", [exposure(video_id=2, at_ms=5)])
    write_csv(tmp_path / "log_standard_1.csv.gz", [exposure(video_id=1, at_ms=9)])

    log = kuairand.read(tmp_path)
    assert [log.video_id(index) for index in range(len(log))] == ["v2", "v1"]


@pytest.mark.parametrize("is_zipped", [True, False])
@pytest.mark.parametrize("named", ["", "data"])
def test_the_official_folder_is_read_by_either_name(tmp_path, named, is_zipped):
    """Both halves of the standard log, and nothing of the one at random."""
    rows = [
        exposure(video_id=1, date=20220409, at_ms=0),
        exposure(video_id=2, date=20220501, at_ms=9),
    ]
    write_official_kuairand(tmp_path, rows, num_videos=3, is_zipped=is_zipped)
    log = kuairand.read(tmp_path / named)

    assert [log.video_id(index) for index in range(len(log))] == ["v1", "v2"]
    assert [upload.video_id for upload in log.uploads] == ["v0", "v1", "v2"]


def test_a_missing_folder_is_reported_with_the_source_of_the_log(tmp_path):
    """The error names the folder and the publisher's page."""
    with pytest.raises(DatasetError, match=r"no folder .*nowhere.*https://kuairand\.com"):
        kuairand.read(tmp_path / "nowhere")


def test_a_missing_file_is_named(tmp_path):
    """An empty folder lacks the first table that is looked for."""
    with pytest.raises(DatasetError, match=r"holds no video_features\.csv\.gz or"):
        kuairand.read(tmp_path)


@pytest.mark.parametrize("lost", ["tag", "play_time_ms"])
def test_a_missing_column_is_named(tmp_path, lost):
    """Of either table; the error says which file and which column."""
    video = {name: value for name, value in VIDEO.items() if name != lost}
    write_kuairand(tmp_path, [exposure()])
    write_csv(tmp_path / "video_features.csv.gz", [video])
    row = {name: value for name, value in exposure().items() if name != lost}
    (tmp_path / "interactions.parquet").unlink()
    write_csv(tmp_path / "log_standard_1.csv.gz", [row])

    with pytest.raises(DatasetError, match=rf"lacks a column: .*{lost}"):
        kuairand.read(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    """What is no table is an error with the remedy, not a crash."""
    write_kuairand(tmp_path, [exposure()])
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1, but not really")

    with pytest.raises(DatasetError, match=r"interactions\.parquet cannot be read"):
        kuairand.read(tmp_path)
