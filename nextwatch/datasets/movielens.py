"""Read MovieLens: ratings with their time, each as a completed watch.

The log knows no watch time, so every film lasts `DURATION_MS` and is watched whole, whatever
the rating: that somebody chose to see it is the signal. Tags are left out: a tag describes a
film that was seen, a search asks for one that was not.

A film comes into the catalogue in its year of release, at a moment drawn from its id (new
films trickle in instead of bursting in at New Year), yet always before its first rating.
Films of the log's first year or older are there when the service opens.

Source:
    Harper and Konstan, The MovieLens Datasets: History and Context, TiiS 5(4), 2015,
    https://doi.org/10.1145/2827872
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xxhash

from contract.errors import DatasetError
from contract.wire.events import MAX_TIME_MS, MIN_TIME_MS, VideoUpload
from contract.wire.topics import DAY_MS
from nextwatch.datasets.columns import Column, ColumnType, DataFiles
from nextwatch.datasets.files import find, find_or_raise
from nextwatch.datasets.log import ExposureLog, Ints, sift
from nextwatch.datasets.tables import read_lines

REMEDY = (
    "MovieLens is at https://grouplens.org/datasets/movielens: name ml-latest-small.zip,"
    " ml-25m.zip or ml-1m.zip, or its unpacked folder (with ratings.csv and movies.csv, or"
    " ratings.dat and movies.dat)"
)
DURATION_MS = 100 * 60_000
LEAD_MS = 60_000  # how long a film is there before its first rating, at least

_RATING_COLUMNS: Mapping[str, ColumnType] = dict.fromkeys(
    ("userId", "movieId", "timestamp"), "int64"
)
_CSV_RATINGS = DataFiles(("ratings.csv.gz", "ratings.csv"), _RATING_COLUMNS, REMEDY)
_DAT_RATINGS = DataFiles(
    ("ratings.dat.gz", "ratings.dat"),
    _RATING_COLUMNS,
    REMEDY,
    header=("userId", "movieId", "rating", "timestamp"),
)
_CSV_FILMS = DataFiles(
    ("movies.csv.gz", "movies.csv"),
    {"movieId": "int64", "title": "string", "genres": "string"},
    REMEDY,
)
_DAT_FILMS = ("movies.dat.gz", "movies.dat")
_TITLE_AND_YEAR = re.compile(r"^(?P<title>.*?)\s*\((?P<year>\d{4})(?:[-\u2013]\d{0,4})?\)\s*$")


def find_files(directory: Path) -> None:
    """Check that *directory* has the files of the log, without reading them.

    Raises:
        DatasetError: with the remedy, when one is missing.
    """
    if _is_dat(directory):
        _DAT_RATINGS.find(directory)
        find_or_raise(directory, _DAT_FILMS, REMEDY)
    else:
        _CSV_RATINGS.find(directory)
        _CSV_FILMS.find(directory)


def read(directory: Path) -> ExposureLog:
    """Return the log in *directory*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    is_dat = _is_dat(directory)
    films = _dat_films(directory) if is_dat else _CSV_FILMS.read(directory)
    ratings = (_DAT_RATINGS if is_dat else _CSV_RATINGS).read(directory)
    time_ms = ratings["timestamp"] * 1000
    first_rated_ms = _first_rated_ms(ratings["movieId"], time_ms)
    opened_ms = min(first_rated_ms.values(), default=MAX_TIME_MS)
    return sift(
        source="movielens",
        uploads=[
            film_upload(
                film,
                title,
                genres,
                _uploaded_at_ms(film, _year(title), opened_ms, first_rated_ms.get(film)),
            )
            for film, title, genres in zip(
                films["movieId"].tolist(), films["title"], films["genres"], strict=True
            )
            if film >= 0
        ],
        video_prefix="m",
        has_impressions=False,
        user=ratings["userId"],
        video=ratings["movieId"],
        time_ms=time_ms,
        watch_ms=np.full(len(time_ms), DURATION_MS),
        duration_ms=np.full(len(time_ms), DURATION_MS),
        skipped={"upload:bad_id": int(np.count_nonzero(films["movieId"] < 0))},
    )


def _is_dat(directory: Path) -> bool:
    """Return whether *directory* holds MovieLens-1M, and none of the newer sets."""
    has_csv = bool(find(directory, _CSV_RATINGS.patterns))
    return not has_csv and bool(find(directory, _DAT_RATINGS.patterns))


def read_dat_films(directory: Path, remedy: str) -> dict[int, tuple[str, str]]:
    """Return title and genres of each film in ``movies.dat``.

    Raises:
        DatasetError: the file is missing or damaged; with the *remedy*.
    """
    found, lines = read_lines(directory, _DAT_FILMS, remedy)
    films: dict[int, tuple[str, str]] = {}
    for line in lines:
        parts = line.split("::")
        if len(parts) != 3 or not parts[0].isdigit():  # noqa: PLR2004 - id, title, genres
            raise DatasetError(f"{found} holds a line that is no film. {remedy}")
        films[int(parts[0])] = (parts[1], parts[2])
    return films


def _dat_films(directory: Path) -> dict[str, Column]:
    films = read_dat_films(directory, REMEDY)
    titles, genres = ([film[place] for film in films.values()] for place in (0, 1))
    return {
        "movieId": np.array(list(films), np.int64),
        "title": np.array(titles, object),
        "genres": np.array(genres, object),
    }


def _first_rated_ms(film: Ints, time_ms: Ints) -> dict[int, int]:
    is_time = (time_ms >= MIN_TIME_MS) & (time_ms <= MAX_TIME_MS)
    films, where = np.unique(film[is_time], return_inverse=True)
    first_ms = np.full(len(films), MAX_TIME_MS)
    np.minimum.at(first_ms, where, time_ms[is_time])
    return dict(zip(films.tolist(), first_ms.tolist(), strict=True))


def film_upload(film: int, title: str, genres: str, uploaded_at_ms: int) -> VideoUpload:
    """Return a film as an upload: its first genre is the category, its year is a tag."""
    match = _TITLE_AND_YEAR.match(title.strip())
    names = [name for name in genres.split("|") if name and not name.startswith("(")]
    return VideoUpload(
        video_id=f"m{film}",
        title=(match["title"] if match else title.strip())[:256],
        category=names[0] if names else None,
        tags=[*names, *([f"year:{match['year']}"] if match else [])],
        duration_ms=DURATION_MS,
        uploaded_at_ms=uploaded_at_ms,
    )


def _year(title: str) -> int | None:
    match = _TITLE_AND_YEAR.match(title.strip())
    return int(match["year"]) if match else None


def _uploaded_at_ms(film: int, year: int | None, opened_ms: int, first_rated_ms: int | None) -> int:
    """Return when *film* came; one without a year comes just before its first rating."""
    before_opening_ms = opened_ms - DAY_MS
    latest_ms = MAX_TIME_MS if first_rated_ms is None else first_rated_ms - LEAD_MS
    if year is None:
        return before_opening_ms if first_rated_ms is None else latest_ms
    if year <= datetime.fromtimestamp(opened_ms / 1000, UTC).year:
        return before_opening_ms
    moment_ms = xxhash.xxh3_64_intdigest(b"m%d" % film) % (365 * DAY_MS)
    released_ms = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000) + moment_ms
    return min(released_ms, latest_ms)
