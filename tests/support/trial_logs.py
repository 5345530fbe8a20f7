"""Build small trial logs, and write data sets in the columns of the real ones."""

import gzip

import numpy as np

from contract.wire.events import VideoUpload
from nextwatch.evaluate.logs.trial import LoggedHistory, TrialLog

T0 = 1_650_812_741_436
"""When the small logs begin; tests count milliseconds from here."""


def uploads(count):
    """Return videos v0, v1, ... of half a minute each."""
    return [
        VideoUpload(video_id=f"v{n}", channel_id=f"a{n % 3}", duration_ms=30_000, uploaded_at_ms=T0)
        for n in range(count)
    ]


def history(user_id, columns, completed=None):
    """Return what *user_id* did before; all of it completed unless *completed* says which."""
    completed = list(columns) if completed is None else completed
    return LoggedHistory(
        user_id=user_id,
        columns=columns,
        is_completed=[column in completed for column in columns],
        completed=completed,
        first_ms=T0 - 1_000_000,
        last_ms=T0 - 1,
    )


def trial_log(rows, *, num_videos, histories=(), tested_from_ms=0):
    """Return a log of rows (user, column, ms from T0, completed)."""
    users, columns, at_ms, completed = zip(*rows, strict=True)
    time_ms = T0 + np.array(at_ms, np.int64)
    completed = np.array(completed, np.bool_)
    return TrialLog(
        name="small",
        uploads=uploads(num_videos),
        histories=histories,
        user_id=list(users),
        column=np.array(columns, np.int64),
        time_ms=time_ms,
        watch_ms=np.where(completed, 30_000, 1_000),
        duration_ms=np.full(len(rows), 30_000),
        surface=np.full(len(rows), 1),
        is_completed=completed,
        is_tested=time_ms >= T0 + tested_from_ms,
        period=[f"day {ms // 86_400_000}" for ms in at_ms],
    )


def drawn_rows(seed, *, num_rows, num_users=6, num_videos=30, every_ms=20_000):
    """Return rows of a log drawn by lot, in the order of time."""
    rng = np.random.default_rng(seed)
    return [
        (
            f"u{rng.integers(num_users)}",
            int(rng.integers(num_videos)),
            row * every_ms,
            bool(rng.random() < 0.6),
        )
        for row in range(num_rows)
    ]


def write_kuairand(directory, *, num_users=12, num_videos=150, num_rows=400):
    """Write a KuaiRand of 29 April to 2 May with its histories; video 0 has no known duration."""
    import pyarrow as pa  # noqa: PLC0415 - tests without it are skipped
    import pyarrow.parquet as pq  # noqa: PLC0415

    rng = np.random.default_rng(0)
    midnight_ms = 1_651_161_600_000  # 29 April 2022 in China
    rows = []
    for row in range(num_rows):
        day = row * 4 // num_rows
        is_long = bool(rng.random() < 0.5)
        rows.append(
            {
                "user_id": int(rng.integers(num_users)),
                "video_id": int(rng.integers(num_videos)),
                "time_ms": midnight_ms + row * (4 * 86_400_000 // num_rows),
                "date": (20220429, 20220430, 20220501, 20220502)[day],
                "tab": 1,
                "play_time_ms": 20_000 if is_long else 1_000,
                "duration_ms": 20_000,
                "long_view": int(is_long),
                "is_click": int(is_long or row % 7 == 0),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), directory / "interactions.parquet")
    told = []
    for user in range(num_users):
        watched = rng.integers(num_videos, size=8).tolist()
        told.append(
            {
                "user_id": user,
                "history_len": 20,
                # one user is known only after the log has begun, as three in the real one
                "last_time_ms": midnight_ms + (3_600_000 if user == 0 else -3_600_000),
                "watch_seq": watched,
                "long_watch_seq": watched[::2],
                "like_seq": [],
            }
        )
    pq.write_table(pa.Table.from_pylist(told), directory / "history.parquet")
    videos = [
        (n, 7 + n % 4, "NORMAL", "2022-04-10", "LongImport", "" if n == 0 else "20000.0", 99, n % 5)
        for n in range(num_videos)
    ]
    names = "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_id,tag"
    write_text(directory / "video_features.csv.gz", [names, *(_line(video) for video in videos)])
    return directory


def write_ml1m(directory, *, num_users=20, num_films=40):
    """Write sequences in which film n is mostly followed by film n + 1."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rng = np.random.default_rng(0)
    rows = []
    for user in range(1, num_users + 1):
        start = int(rng.integers(num_films))
        rows += [
            {"pos": pos, "movie_id": (start + pos) % num_films + 1, "sas_user_id": user}
            for pos in range(12)
        ]
    pq.write_table(pa.Table.from_pylist(rows), directory / "sequences.parquet")
    (directory / "gsasrec_val_users.txt").write_text("1\n2\n")
    titles = [f"{film}::Film {film} (1999)::Drama" for film in range(1, num_films + 1)]
    write_text(directory / "movies.dat.gz", titles)
    return directory


def write_text(path, lines):
    """Write gzipped lines."""
    with gzip.open(path, "wt", encoding="latin-1") as file:
        file.write("\n".join(lines) + "\n")


def _line(values):
    return ",".join(map(str, values))
