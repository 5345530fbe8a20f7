"""Small data sets on disk, in the files and columns of the real ones; and a feed without a broker."""

import gzip
import threading

import pyarrow as pa
import pyarrow.parquet as pq

from contract.topics import Layout
from nextwatch.sources.feed import Feed

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


def exposure(**given):
    """Return a row of the interactions; `at_ms` counts from `T0`."""
    at_ms = given.pop("at_ms", 0)
    return EXPOSURE | {"time_ms": T0 + at_ms} | given


def write_csv(path, rows, header=None):
    """Write *rows*, dicts of text or numbers, as a gzipped table."""
    names = list(header or rows[0])
    lines = [",".join(names)]
    lines += [",".join(f'"{row[name]}"' for name in names) for row in rows]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def write_kuairand(directory, rows, videos=None):
    """Write the two tables of KuaiRand; without *videos*, one for each that *rows* name."""
    ids = sorted({row["video_id"] for row in rows})
    table = pa.Table.from_pylist([EXPOSURE | row for row in rows])
    pq.write_table(table, directory / "interactions.parquet")
    videos = [{"video_id": video_id} for video_id in ids] if videos is None else videos
    write_csv(directory / "video_features.csv.gz", [VIDEO | video for video in videos])
    return directory


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
        on_delivery(_Refusal() if is_refused else None, None)

    def poll(self, timeout):
        return 0

    def flush(self, timeout):
        self.num_flushed = len(self.records)
        return 0


class _Refusal:
    def str(self):
        return "Broker: Message was refused"


def taped_feed(*, refuse_from=None):
    """Return a feed whose records stay in its producer."""
    return Feed(TapedProducer(refuse_from=refuse_from), Layout(), threading.Event())
