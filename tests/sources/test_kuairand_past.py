"""KuaiRand in two parts: the publisher's files and the parquet files made of them say the same."""

from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.errors import DatasetError
from nextwatch.datasets.kuairand_past import LOG_DAYS, has_pasts, read_exposures, read_pasts
from nextwatch.evaluate.logs import kuairand
from tests.support.dataset_logs import (
    EXPOSURE,
    OFFICIAL_LOG,
    VIDEO,
    write_csv,
    write_official_kuairand,
)

DAYS = (20220409, 20220421, 20220422, 20220424, 20220425, 20220501, 20220504, 20220505)
MIDNIGHTS_MS = [1_649_433_600_000 + days * 86_400_000 for days in (0, 12, 13, 15, 16, 22, 25, 26)]
NUM_VIDEOS = 12


@pytest.fixture
def rows():
    """Rows of all days, some at one instant, in the order of users as in the official files."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(900):
        day = int(rng.integers(len(DAYS)))
        is_long = bool(rng.random() < 0.5)
        drawn.append(
            dict.fromkeys(OFFICIAL_LOG, 0)
            | EXPOSURE
            | {
                "user_id": int(rng.integers(4)),
                "video_id": int(rng.integers(NUM_VIDEOS)),
                "date": DAYS[day],
                "time_ms": MIDNIGHTS_MS[day] + 1_000 * int(rng.integers(200)),
                "play_time_ms": 20_000 if is_long else 1_000,
                "long_view": int(is_long),
                "is_like": int(rng.integers(2)),
            }
        )
    return sorted(drawn, key=lambda row: (row["user_id"], row["time_ms"]))


def write_parts(directory, rows):
    """Write the two parquet files, derived row by row."""
    directory.mkdir()
    distinct = [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in rows)]
    distinct.sort(key=lambda row: row["time_ms"])
    log = [row for row in distinct if LOG_DAYS[0] <= row["date"] <= LOG_DAYS[1]]
    pq.write_table(pa.Table.from_pylist(log), directory / "interactions.parquet")
    before = [row for row in distinct if row["date"] < LOG_DAYS[0]]
    before.sort(key=lambda row: row["user_id"])
    told = []
    for user, theirs in groupby(before, key=lambda row: row["user_id"]):
        seen = list(theirs)
        told.append(
            {
                "user_id": user,
                "history_len": len(seen),
                "last_time_ms": seen[-1]["time_ms"],
                "watch_seq": [row["video_id"] for row in seen][-50:],
                "long_watch_seq": [row["video_id"] for row in seen if row["long_view"]][-50:],
            }
        )
    pq.write_table(pa.Table.from_pylist(told), directory / "history.parquet")
    videos = [VIDEO | {"video_id": n} for n in range(NUM_VIDEOS)]
    write_csv(directory / "video_features.csv.gz", videos)
    return directory


@pytest.fixture
def official(tmp_path, rows):
    """The folder of the publisher, with each tenth row written twice."""
    repeated = [copy for n, row in enumerate(rows) for copy in [row] * (1 + (n % 10 == 0))]
    return write_official_kuairand(tmp_path / "official", repeated, num_videos=NUM_VIDEOS)


def test_the_official_files_give_the_same_histories(tmp_path, rows, official):
    """User by user; of more than 50 exposures the last 50 are told."""
    pasts = list(read_pasts(official))

    assert pasts == list(read_pasts(write_parts(tmp_path / "parts", rows)))
    assert [past.user for past in pasts] == [0, 1, 2, 3]
    assert all(len(past.watched) == 50 < past.num_exposures for past in pasts)


def test_the_official_files_give_the_same_exposures(tmp_path, rows, official):
    """Without what is written twice, and none of 5 May."""
    parts = read_exposures(write_parts(tmp_path / "parts", rows))
    exposures = read_exposures(official)

    for name, values in parts.items():
        assert np.array_equal(exposures[name], values), name
    assert set(exposures["date"].tolist()) == {20220425, 20220501, 20220504}


@pytest.mark.parametrize("window", ["tune", "test"])
def test_the_official_files_give_the_same_trial(tmp_path, rows, official, window):
    """So the figures of an evaluation do not depend on which of the two somebody has."""
    one = kuairand.read(official, window=window)
    other = kuairand.read(write_parts(tmp_path / "parts", rows), window=window)

    assert one.uploads == other.uploads
    assert one.histories == other.histories
    assert one.user_id == other.user_id
    assert one.period == other.period
    for name in ("column", "time_ms", "watch_ms", "duration_ms", "is_completed", "is_tested"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("half", ["4_08_to_4_21", "4_22_to_5_08"])
def test_a_missing_half_of_the_log_is_named(official, half):
    """Half of the log would be another protocol, with other figures."""
    (official / "data" / f"log_standard_{half}_pure.csv.gz").unlink()

    with pytest.raises(DatasetError, match=rf"holds nothing of log_standard_{half}_pure\.csv"):
        read_exposures(official)


def test_only_a_folder_with_histories_has_them(tmp_path, rows, official):
    """The log alone tells nothing of before."""
    parts = write_parts(tmp_path / "parts", rows)
    assert has_pasts(official)
    assert has_pasts(parts)

    (parts / "history.parquet").unlink()
    assert not has_pasts(parts)
