"""Lay out KuaiRand-Pure as a trial: all 7,583 videos, all exposures, and user histories.

The publisher's files and the parquet files made from them give the same trial
(nextwatch/datasets/kuairand_past.py).

A case belongs to the day that the log's own ``date`` names (a day in China). 55 cases of 1 May
bear a time of some minutes before midnight there: they are ranked in the order of time like
all others, and count as 1 May, as in the published figures of this protocol (n = 23,994).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from contract.errors import DatasetError
from contract.wire.events import MAX_DURATION_MS, MAX_TIME_MS, VideoUpload
from nextwatch.datasets.kuairand import REMEDY, VIDEOS, uploads_of
from nextwatch.datasets.kuairand_past import Past, read_exposures, read_pasts
from nextwatch.datasets.log import Bools, Ints
from nextwatch.evaluate.logs.trial import UNKNOWN_DURATION_MS, LoggedHistory, TrialLog

WINDOWS: Mapping[str, tuple[int, int]] = {
    "tune": (20220425, 20220430),
    "test": (20220501, 20220504),
}
"""The first and the last day of each window. Nothing may be tuned on the test window."""


def read(directory: Path, *, window: str = "test") -> TrialLog:
    """Return the log in *directory*; tests are in *window*, one of `WINDOWS`.

    The log goes on no further than the window does.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    return _trial(directory, read_exposures(directory), window)


def read_with_clicks(directory: Path) -> tuple[TrialLog, Bools]:
    """Return the log in *directory* as `read` does, and which of its exposures were clicked.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    exposures = read_exposures(directory, also=("is_click",))
    return _trial(directory, exposures, "test"), exposures["is_click"] > 0


def _trial(directory: Path, whole: Mapping[str, Ints], window: str) -> TrialLog:
    uploads = _uploads(directory)
    column_of = {upload.video_id: column for column, upload in enumerate(uploads)}
    first_day, last_day = WINDOWS[window]
    exposures = {name: values[whole["date"] <= last_day] for name, values in whole.items()}
    column = _columns(exposures["video_id"], column_of)
    upload_ms = np.array([upload.duration_ms for upload in uploads])
    has_duration = (exposures["duration_ms"] > 0) & (exposures["duration_ms"] <= MAX_DURATION_MS)
    started_ms = int(exposures["time_ms"].min(initial=MAX_TIME_MS))
    return TrialLog(
        name="kuairand",
        uploads=uploads,
        histories=[_history(past, column_of, started_ms) for past in read_pasts(directory)],
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


def _history(past: Past, column_of: Mapping[str, int], before_ms: int) -> LoggedHistory:
    first_ms, last_ms = past.bounds_ms(before_ms)
    return LoggedHistory(
        user_id=f"u{past.user}",
        columns=[column_of[f"v{video}"] for video in past.watched],
        is_completed=past.is_completed(),
        completed=[column_of[f"v{video}"] for video in past.completed],
        first_ms=first_ms,
        last_ms=last_ms,
    )
