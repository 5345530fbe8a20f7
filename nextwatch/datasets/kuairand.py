"""Read KuaiRand-Pure: short-video exposures with their watch time.

Each row is one impression, and a watch where anything was played. Rows of one user at one
instant (1 % of the log) are not a page of thumbnails: both were played in full screen, one
after the other, so each row keeps an impression of its own. Videos without a known duration
(3 %, mostly picture posts) cannot be told as watches, and are left out with their rows.

``history.parquet`` has no times and is not replayed (nextwatch/datasets/kuairand_past.py). The log
names neither country, language nor device, and nothing is invented in their place.

Source:
    Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
    Videos, CIKM 2022, https://doi.org/10.1145/3511808.3557624
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract.wire.events import MAX_DURATION_MS, VideoUpload
from nextwatch.datasets.columns import Column, DataFiles
from nextwatch.datasets.log import ExposureLog, sift

REMEDY = (
    "KuaiRand-Pure is at https://kuairand.com: unpack it, and name its folder (in the data folder"
    " of it are log_standard_4_08_to_4_21_pure.csv, log_standard_4_22_to_5_08_pure.csv and"
    " video_features_basic_pure.csv)"
)
LOG_FILES = ("log_standard_*.csv.gz", "log_standard_*.csv")
UTC_OFFSET = timedelta(hours=8)  # dates of the log are days in China

_EXPOSURES = DataFiles(
    ("interactions.parquet", *LOG_FILES),
    {
        "user_id": "int64",
        "video_id": "int64",
        "time_ms": "int64",
        "tab": "int64",
        "play_time_ms": "int64",
        "duration_ms": "int64",
    },
    REMEDY,
)
VIDEOS = DataFiles(
    (
        "video_features.csv.gz",
        "video_features.csv",
        "video_features_basic*.csv.gz",
        "video_features_basic*.csv",
    ),
    {
        "video_id": "int64",
        "author_id": "int64",
        "video_type": "string",
        "upload_dt": "string",
        "upload_type": "string",
        "video_duration": "float64",
        "music_id": "int64",
        "tag": "string",
    },
    REMEDY,
)


def find_files(directory: Path) -> None:
    """Check that *directory* has the files of the log, without reading them.

    Raises:
        DatasetError: with the remedy, when one is missing.
    """
    VIDEOS.find(directory)
    _EXPOSURES.find(directory)


def read(directory: Path) -> ExposureLog:
    """Return the log in *directory*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    uploads, skipped = uploads_of(VIDEOS.read(directory))
    exposures = _EXPOSURES.read(directory)
    return sift(
        source="kuairand",
        uploads=uploads,
        video_prefix="v",
        has_impressions=True,
        user=exposures["user_id"],
        video=exposures["video_id"],
        time_ms=exposures["time_ms"],
        watch_ms=exposures["play_time_ms"],
        duration_ms=exposures["duration_ms"],
        surface=exposures["tab"],
        skipped=skipped,
    )


def uploads_of(videos: dict[str, Column]) -> tuple[list[VideoUpload], Counter[str]]:
    """Return the uploads in the columns of `VIDEOS`, and the counts of skipped rows by reason."""
    uploads: list[VideoUpload] = []
    skipped: Counter[str] = Counter()
    for row in zip(*videos.values(), strict=True):
        video_id, author_id, video_type, upload_date, upload_type, duration_ms, music_id, tag = row
        uploaded_at_ms = _midnight_ms(upload_date)
        if video_id < 0 or not 1 <= duration_ms <= MAX_DURATION_MS:
            skipped["upload:bad_id" if video_id < 0 else "upload:bad_duration"] += 1
            continue
        if uploaded_at_ms is None:
            skipped["upload:bad_time"] += 1
            continue
        uploads.append(
            VideoUpload(
                video_id=f"v{video_id}",
                channel_id=f"a{author_id}" if author_id >= 0 else None,
                category=video_type or None,
                tags=_tags(tag, upload_type, music_id),
                duration_ms=int(duration_ms),
                uploaded_at_ms=uploaded_at_ms,
            )
        )
    return uploads, skipped


def _tags(tag: str, upload_type: str, music_id: int) -> list[str]:
    """Topics first; then how the video was made and its music, both content of a kind."""
    topics = [f"tag:{topic.strip()}" for topic in tag.split(",") if topic.strip()]
    made = [f"upload:{upload_type}"] if upload_type else []
    music = [f"music:{music_id}"] if music_id > 0 else []
    return topics + made + music


def _midnight_ms(date: str) -> int | None:
    try:
        midnight = datetime.fromisoformat(date).replace(tzinfo=UTC) - UTC_OFFSET
    except ValueError:
        return None
    return int(midnight.timestamp() * 1000)
