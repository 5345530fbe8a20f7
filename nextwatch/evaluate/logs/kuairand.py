"""KuaiRand-Pure as a trial: all 7,583 videos, all exposures, and what users did before.

A case belongs to the day that the log's own ``date`` names (a day in China). 55 cases of 1 May
bear a time of some minutes before midnight there: they are ranked in the order of time like
all others, and count as 1 May, as in the published figures of this protocol (n = 23,994).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from contract.errors import DatasetError
from contract.events import MAX_DURATION_MS, MAX_TIME_MS, VideoUpload
from nextwatch.evaluate.logs.tables import read_rows
from nextwatch.evaluate.logs.trial import UNKNOWN_DURATION_MS, History, Ints, TrialLog
from nextwatch.sources.columns import Column, DataFiles
from nextwatch.sources.kuairand import REMEDY, VIDEOS, uploads_of

OPENED_MS = 1_649_433_600_000
"""9 April 2022 in China, when the first of these videos came and the histories begin."""

WINDOWS: Mapping[str, tuple[int, int]] = {
    "tune": (20220425, 20220430),
    "test": (20220501, 20220504),
}
"""The first and the last day of each window. Nothing may be tuned on the test window."""

_EXPOSURES = DataFiles(
    ("interactions.parquet",),
    {
        "user_id": "int64",
        "video_id": "int64",
        "time_ms": "int64",
        "date": "int64",
        "tab": "int64",
        "play_time_ms": "int64",
        "duration_ms": "int64",
        "long_view": "int64",
    },
    REMEDY,
)
HISTORY_COLUMNS = ("user_id", "history_len", "last_time_ms", "watch_seq", "long_watch_seq")


def read(directory: Path, *, window: str = "test") -> TrialLog:
    """Return the log in *directory*; tests are in *window*, one of `WINDOWS`.

    The log goes on no further than the window does.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    uploads = _uploads(directory)
    column_of = {upload.video_id: column for column, upload in enumerate(uploads)}
    exposures = _EXPOSURES.read(directory)
    first_day, last_day = WINDOWS[window]
    exposures = _until(exposures, last_day)
    column = _columns(exposures["video_id"], column_of)
    upload_ms = np.array([upload.duration_ms for upload in uploads])
    has_duration = (exposures["duration_ms"] > 0) & (exposures["duration_ms"] <= MAX_DURATION_MS)
    started_ms = int(exposures["time_ms"].min(initial=MAX_TIME_MS))
    return TrialLog(
        name="kuairand",
        uploads=uploads,
        histories=_histories(directory, column_of, before_ms=started_ms),
        user_id=[f"u{user}" for user in exposures["user_id"].tolist()],
        column=column,
        time_ms=exposures["time_ms"],
        watch_ms=np.minimum(exposures["play_time_ms"], MAX_DURATION_MS),
        duration_ms=np.where(has_duration, exposures["duration_ms"], upload_ms[column]),
        surface=exposures["tab"],
        is_completed=exposures["long_view"] > 0,
        is_tested=exposures["date"] >= first_day,
        period=[_day(date) for date in exposures["date"].tolist()],
    )


def _until(exposures: dict[str, Column], last_day: int) -> dict[str, Column]:
    order = np.argsort(exposures["time_ms"], kind="stable")
    kept = order[exposures["date"][order] <= last_day]
    return {name: values[kept] for name, values in exposures.items()}


def _uploads(directory: Path) -> Sequence[VideoUpload]:
    videos = VIDEOS.read(directory)
    duration_ms = videos["video_duration"]
    is_known = (duration_ms >= 1) & (duration_ms <= MAX_DURATION_MS)
    uploads, skipped = uploads_of(
        videos | {"video_duration": np.where(is_known, duration_ms, UNKNOWN_DURATION_MS)}
    )
    if skipped:
        raise DatasetError(f"some videos cannot be told: {dict(skipped)}. {REMEDY}")
    return uploads


def _columns(video: Ints, column_of: Mapping[str, int]) -> Ints:
    column = np.array([column_of.get(f"v{one}", -1) for one in video.tolist()], np.int64)
    if (column < 0).any():
        missing = int(video[column < 0][0])
        raise DatasetError(f"video {missing} is exposed but is not among the videos. {REMEDY}")
    return column


def _day(date: int) -> str:
    return f"{date // 10_000}-{date // 100 % 100:02}-{date % 100:02}"


def _histories(
    directory: Path, column_of: Mapping[str, int], *, before_ms: int
) -> Sequence[History]:
    return [
        _history(row, column_of, before_ms)
        for row in read_rows(directory / "history.parquet", HISTORY_COLUMNS, REMEDY)
    ]


def _history(row: Mapping[str, object], column_of: Mapping[str, int], before_ms: int) -> History:
    user, length, last_ms, watched, completed = (row[name] for name in HISTORY_COLUMNS)
    assert isinstance(watched, list)
    assert isinstance(completed, list)
    last_ms = max(min(int(str(last_ms)), before_ms - 1), OPENED_MS)
    # evenly over all that the user did since the opening, of which the last 50 are told
    gap_ms = (last_ms - OPENED_MS) // max(int(str(length)), 1)
    return History(
        user_id=f"u{user}",
        columns=[column_of[f"v{video}"] for video in watched],
        is_completed=_aligned(watched, completed),
        completed=[column_of[f"v{video}"] for video in completed],
        first_ms=last_ms - gap_ms * max(len(watched) - 1, 0),
        last_ms=last_ms,
    )


def _aligned(watched: Sequence[int], completed: Sequence[int]) -> list[bool]:
    """Return which of *watched* are the *completed*: both end with the newest.

    Measured: all completed watches of the 17,814 users with at most 50 exposures find their place.
    """
    flags = [False] * len(watched)
    waiting = len(completed) - 1
    for place in range(len(watched) - 1, -1, -1):
        if waiting >= 0 and watched[place] == completed[waiting]:
            flags[place] = True
            waiting -= 1
    return flags
