"""Write small data sets in the columns of the real ones; a feed without a broker."""

import gzip
import threading
import zipfile
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import KafkaError

from contract.wire.topics import Layout
from nextwatch.sources.feed import EventFeed

T0 = 1_650_812_741_436
"""When the small logs begin; tests count milliseconds from here."""

EXPOSURE = {
    "user_id": 1,
    "video_id": 1,
    "time_ms": T0,
    "tab": 1,
    "play_time_ms": 5_000,
    "duration_ms": 20_000,
    "is_click": 1,
}
VIDEO = {
    "video_id": 1,
    "author_id": 7,
    "video_type": "NORMAL",
    "upload_dt": "2022-04-10",
    "upload_type": "LongImport",
    "video_duration": "20000.0",
    "music_id": 99,
    "tag": "39",
}


OFFICIAL_LOG = (
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow"),
    *("is_comment", "is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms"),
    *("profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand", "tab"),
)
"""The columns of KuaiRand's log as its site offers it, in their order."""
OFFICIAL_VIDEO = (
    *("video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status"),
    *("video_duration", "server_width", "server_height", "music_id", "music_type", "tag"),
)


def exposure(**given):
    """Return a row of the interactions; `at_ms` counts from `T0`."""
    at_ms = given.pop("at_ms", 0)
    return EXPOSURE | {"time_ms": T0 + at_ms} | given


def write_csv(path, rows, header=None):
    """Write *rows*, dicts of text or numbers, as a table, gzipped where the name says so."""
    names = list(header or rows[0])
    lines = [",".join(names)]
    lines += [",".join(f'"{row[name]}"' for name in names) for row in rows]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def write_kuairand(directory, rows, videos=None):
    """Write the two tables of KuaiRand; without *videos*, one for each that *rows* name."""
    ids = sorted({row["video_id"] for row in rows})
    table = pa.Table.from_pylist([EXPOSURE | row for row in rows])
    pq.write_table(table, directory / "interactions.parquet")
    videos = [{"video_id": video_id} for video_id in ids] if videos is None else videos
    write_csv(directory / "video_features.csv.gz", [VIDEO | video for video in videos])
    return directory


def write_official_kuairand(directory, rows, *, num_videos, is_zipped=True):
    """Write *rows*, each with its ``date``, into ``data`` as KuaiRand-Pure.tar.gz unpacks to."""
    data = directory / "data"
    data.mkdir(parents=True)
    end = ".csv.gz" if is_zipped else ".csv"
    rows = [dict.fromkeys(OFFICIAL_LOG, 0) | EXPOSURE | row for row in rows]
    for days, part in (
        ("4_08_to_4_21", [row for row in rows if row["date"] < 20220422]),
        ("4_22_to_5_08", [row for row in rows if row["date"] >= 20220422]),
    ):
        write_csv(data / f"log_standard_{days}_pure{end}", part, OFFICIAL_LOG)
    at_random = [row | {"is_rand": 1, "video_id": 0} for row in rows]
    write_csv(data / f"log_random_4_22_to_5_08_pure{end}", at_random, OFFICIAL_LOG)
    videos = [
        dict.fromkeys(OFFICIAL_VIDEO, "0.0") | VIDEO | {"video_id": n} for n in range(num_videos)
    ]
    write_csv(data / f"video_features_basic_pure{end}", videos, OFFICIAL_VIDEO)
    counted = {"video_id": 1, "counts": 5.0, "show_cnt": 3.0}
    write_csv(data / f"video_features_statistic_pure{end}", [counted])
    write_csv(data / f"user_features_pure{end}", [{"user_id": 1, "register_days": 9}])
    return directory


def write_dat_movielens(directory, ratings, films):
    """Write ratings and films as `write_movielens` takes them, in the files of MovieLens-1M."""
    lines = [f"{user}::{film}::4::{second}" for user, film, second in ratings]
    (directory / "ratings.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")
    lines = [f"{film}::{title}::{genres}" for film, title, genres in films]
    (directory / "movies.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")
    (directory / "users.dat").write_text("1::F::1::10::48067\n", encoding="latin-1")
    return directory


def zipped(directory, archive, *, within):
    """Put the files of *directory* into *archive*, in the folder *within*, as publishers do."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in directory.iterdir():
            file.write(path, f"{within}/{path.name}")
    return archive


def write_movielens(directory, ratings, films):
    """Write ratings as (user, film, second) and films as (id, title, genres)."""
    names = ("userId", "movieId", "timestamp")
    write_csv(
        directory / "ratings.csv.gz",
        [dict(zip(names, rating, strict=True)) | {"rating": 3.5} for rating in ratings],
    )
    columns = ("movieId", "title", "genres")
    write_csv(
        directory / "movies.csv.gz", [dict(zip(columns, film, strict=True)) for film in films]
    )
    return directory


class TapedProducer:
    """Stands in for a producer: keeps what it is given, and acknowledges it at once."""

    def __init__(self, *, refuse_from=None):
        self.records = []
        self.refuse_from = refuse_from
        self.num_flushed = 0

    def __len__(self):
        return 0

    def produce(self, topic, *, key, value, on_delivery):
        self.records.append((topic, key, value))
        is_refused = self.refuse_from is not None and len(self.records) > self.refuse_from
        on_delivery(_REFUSAL if is_refused else None, SimpleNamespace(topic=lambda: topic))

    def poll(self, timeout):
        return 0

    def flush(self, timeout):
        self.num_flushed = len(self.records)
        return 0


_REFUSAL = KafkaError(KafkaError.NOT_ENOUGH_REPLICAS, "Broker: Message was refused")


def taped_feed(*, refuse_from=None):
    """Return a feed whose records stay in its producer."""
    return EventFeed(TapedProducer(refuse_from=refuse_from), Layout(), threading.Event())
