"""What users did before a log becomes their windows, and nothing of it is later than the log."""

import pyarrow as pa
import pyarrow.parquet as pq

from contract.wire.topics import WINDOWS, Layout
from models.features.examples import CompletionRule
from models.history import codec as history_codec
from models.history.history import WindowPolicy
from nextwatch.datasets import kuairand
from nextwatch.sources.backfill import records
from tests.support.dataset_logs import T0, exposure, taped_feed, write_kuairand

NUM_VIDEOS = 40
PASTS = [
    {
        "user_id": user,
        "history_len": 30,
        "last_time_ms": T0 + 5_000 if user == 0 else T0 - 3_600_000,
        "watch_seq": [(user + place) % NUM_VIDEOS for place in range(30)],
        "long_watch_seq": [(user + place) % NUM_VIDEOS for place in range(0, 30, 3)],
    }
    for user in range(3)
]


def windows_of(directory, *, hold_back=0.0, policy=None):
    """Return the windows of the users in *directory*, by user id."""
    rows = [exposure(video_id=n, at_ms=n) for n in range(NUM_VIDEOS)]
    log = kuairand.read(write_kuairand(directory, rows))
    pq.write_table(pa.Table.from_pylist(PASTS), directory / "history.parquet")
    policy = policy or WindowPolicy()
    found = records(directory, log, policy, before_ms=T0, hold_back=hold_back)
    return {key.decode(): history_codec.decode(record) for key, record in found}


def test_each_user_has_a_window_that_ends_before_the_log(tmp_path):
    """Also the user whose last time is told as of after the log's beginning."""
    windows = windows_of(tmp_path)

    assert sorted(windows) == ["u0", "u1", "u2"]
    assert all(window.newest_ms < T0 for window in windows.values())
    assert list(windows["u1"].video_ids) == [f"v{n}" for n in range(1, 31)]


def test_completed_watches_stay_completed_in_the_window(tmp_path):
    """Each third one was viewed for long."""
    rule = CompletionRule()
    window = windows_of(tmp_path)["u0"]

    said = [rule.is_completed(one.watch_ms, one.duration_ms) for one in window.watches]
    assert said == [place % 3 == 0 for place in range(30)]


def test_held_back_videos_are_in_no_window(tmp_path):
    """It is uploaded later; nobody can have watched it."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    whole, cold = windows_of(first), windows_of(second, hold_back=0.3)

    assert 0 < len(cold["u0"].watches) < len(whole["u0"].watches)
    assert set(cold["u0"].watches) < set(whole["u0"].watches)


def test_a_window_keeps_to_the_bounds_of_the_policy(tmp_path):
    """Streams and trainer would drop what is beyond them."""
    windows = windows_of(tmp_path, policy=WindowPolicy(max_watches=5))

    assert [len(window.watches) for window in windows.values()] == [5, 5, 5]


def test_windows_go_to_the_changelog_of_streams():
    """By user id, and they count as records that the broker has to acknowledge."""
    feed = taped_feed()
    feed.backfill([(b"u1", b"one"), (b"u2", b"two")])

    name = Layout().name(WINDOWS)
    assert feed.producer.records == [(name, b"u1", b"one"), (name, b"u2", b"two")]
    assert (feed.totals.windows, feed.totals.records, feed.totals.acknowledged) == (2, 2, 2)
