"""Predict score and expected watch time of given pairs of user and video.

Pairs are read in chunks from CSV, Parquet or JSON lines, and come out in their order. The numbers
are those of the ranker before the rules that follow it (skips, impressions), for the window that
the user has. A user who is not known is predicted by an empty window, as streams would; a video
that is not in the bundle has no prediction.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from contract.errors import DatasetError
from contract.wire.words import ANN
from models.features.ranking_features import small_code
from models.history.history import Window
from models.serving.candidates import ranking_inputs, request_columns
from nextwatch.batch.rows import JSON_LINES, PARQUET, pyarrow
from nextwatch.batch.users import Users
from streams.serving import model_calls
from streams.serving.generation import Serving
from streams.serving.seen import SeenRows

CHUNK_PAIRS = 10_000
_CELLS_IN_BATCH = 16_384
_COLUMNS = ("user_id", "video_id")
CSV = ".csv"


class Pair(msgspec.Struct, frozen=True):
    """A user and a video."""

    user_id: str
    video_id: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a pair is predicted; no numbers for a video that the bundle does not have.

    *num_watches* is how many watches the user's window has: without any the user is not known.
    """

    user_id: str
    video_id: str
    score: float | None
    expected_watch_ms: float | None
    num_watches: int


def pairs_in(path: Path) -> Iterator[Pair]:
    """Yield the pairs in a file, which has the columns or fields `user_id` and `video_id`.

    Raises:
        DatasetError: there is no such file, or it is not in one of the three forms.
    """
    readers = {CSV: _csv_pairs, JSON_LINES: _json_pairs, PARQUET: _parquet_pairs}
    if path.suffix not in readers:
        raise DatasetError(f"{path} ends in none of {', '.join(readers)}")
    if not path.is_file():
        raise DatasetError(f"there is no file {path} of pairs")
    return readers[path.suffix](path)


def predict(serving: Serving, users: Users, pairs: Iterator[Pair]) -> Iterator[list[Prediction]]:
    """Yield the predictions of *pairs*, chunk by chunk, in their order."""
    while chunk := list(islice(pairs, CHUNK_PAIRS)):
        yield _predicted(serving, users, chunk)


def _predicted(serving: Serving, users: Users, pairs: Sequence[Pair]) -> list[Prediction]:
    of_user: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        of_user.setdefault(pair.user_id, []).append(place)
    window_of = dict(zip(of_user, users.get(list(of_user)), strict=True))
    row_P = serving.items.rows([pair.video_id for pair in pairs]).astype(np.int64)
    expected_P, score_P = np.zeros(len(pairs)), np.zeros(len(pairs))
    for some in _batches(of_user):
        _rank(
            serving,
            [window_of[user_id] for user_id in some],
            [np.array(of_user[user_id]) for user_id in some],
            row_P,
            expected_P,
            score_P,
        )
    return [
        Prediction(
            user_id=pair.user_id,
            video_id=pair.video_id,
            score=round(score, 6) if row else None,
            expected_watch_ms=round(expected, 1) if row else None,
            num_watches=len(window_of[pair.user_id].watches),
        )
        for pair, row, score, expected in zip(
            pairs, row_P.tolist(), score_P.tolist(), expected_P.tolist(), strict=True
        )
    ]


def _rank(
    serving: Serving,
    windows: Sequence[Window],
    places: Sequence[np.ndarray],
    row_P: np.ndarray,
    expected_P: np.ndarray,
    score_P: np.ndarray,
) -> None:
    """Put the numbers of the pairs at *places* of each user into the two arrays."""
    width = max(map(len, places))
    rows_BC = np.zeros((len(windows), width), np.int64)
    for user, mine in enumerate(places):
        rows_BC[user, : len(mine)] = row_P[mine]
    vectors_BD = model_calls.encoded(serving, windows, SeenRows(serving.items))
    vectors_BD = np.where(np.isfinite(vectors_BD), vectors_BD, np.float32(0))
    watched = serving.items.rows([v for window in windows for v in window.video_ids])
    now_ms = [window.newest_shown_ms for window in windows]
    requests = request_columns(windows, now_ms, watched, serving.points.rows)
    source_BC = np.full(rows_BC.shape, small_code(ANN))
    inputs = ranking_inputs(requests, vectors_BD, rows_BC, source_BC, serving.items)
    expected_BC, score_BC, _ = model_calls.ranked(serving, inputs)
    for user, mine in enumerate(places):
        expected_P[mine] = expected_BC[user, : len(mine)]
        score_P[mine] = score_BC[user, : len(mine)]


def _batches(of_user: dict[str, list[int]]) -> Iterator[list[str]]:
    """Yield users with about the same number of pairs, so that little is padded."""
    some: list[str] = []
    for user_id in sorted(of_user, key=lambda one: len(of_user[one])):
        if some and (len(some) + 1) * len(of_user[user_id]) > _CELLS_IN_BATCH:
            yield some
            some = []
        some.append(user_id)
    if some:
        yield some


def _csv_pairs(path: Path) -> Iterator[Pair]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                yield Pair(row["user_id"] or "", row["video_id"] or "")
        except (csv.Error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} cannot be read: {error}") from error


def _json_pairs(path: Path) -> Iterator[Pair]:
    decoder = msgspec.json.Decoder(Pair)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DatasetError(f"{path}, line {number}: {error}") from error


def _parquet_pairs(path: Path) -> Iterator[Pair]:
    arrow = pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            for some in file.iter_batches(CHUNK_PAIRS, columns=list(_COLUMNS)):
                columns = (some.column(name).cast(arrow.string()).to_pylist() for name in _COLUMNS)
                for user_id, video_id in zip(*columns, strict=True):
                    yield Pair(user_id or "", video_id or "")
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if missing := [name for name in _COLUMNS if name not in names]:
        raise DatasetError(f"{path} has no column {' and no column '.join(missing)}")
