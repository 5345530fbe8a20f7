"""Lay out MovieLens-1M as a trial: each user's last film among all 3,416, on a published split.

Its sequences have no times, so films are told as watched `GAP_MS` apart, each whole: the ages of
watches then say next to nothing, in learning and in the test.
The last film of every user is the test. The second last of the users in
``gsasrec_val_users.txt`` is for early stopping, and nobody learns from it.

Source:
    Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
    with Negative Sampling, RecSys 2023, https://doi.org/10.1145/3604915.3608783
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.errors import DatasetError
from contract.wire.events import VideoUpload
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.datasets.columns import Column, DataFiles
from nextwatch.datasets.movielens import film_upload, read_dat_films
from nextwatch.datasets.tables import read_lines
from nextwatch.evaluate.contender import Case
from nextwatch.evaluate.logs.trial import LoggedHistory

GAP_MS = 1
OPENED_MS = 946_684_800_000
"""The year 2000, when these ratings were given; the first of each user is told as of then."""
REMEDY = (
    "it is made from MovieLens-1M, https://grouplens.org/datasets/movielens/1m, as the"
    " evaluation page says; name the folder that holds sequences.parquet"
)
_SEQUENCES = DataFiles(
    ("sequences.parquet",),
    {"pos": "int64", "movie_id": "int64", "sas_user_id": "int64"},
    REMEDY,
)
_VALIDATION = "gsasrec_val_users.txt"


@dataclass(frozen=True, slots=True)
class Halves:
    """The training, validation and test parts of a log."""

    uploads: Sequence[VideoUpload]
    histories: Sequence[LoggedHistory]
    validation: Sequence[Case]
    tests: Sequence[Case]


def read(directory: Path, *, policy: WindowPolicy) -> Halves:
    """Return the split in *directory*, with windows bounded by *policy*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    columns = _SEQUENCES.read(directory)
    films = np.unique(columns["movie_id"])
    uploads = _uploads(directory, films.tolist())
    _, lines = read_lines(directory, (_VALIDATION,), REMEDY)
    validated = {int(line) for line in lines if line.strip()}
    histories: list[LoggedHistory] = []
    validation: list[Case] = []
    tests: list[Case] = []
    for user, watched in _sequences(columns, films).items():
        whole = _history(f"u{user}", watched)
        is_validated = user in validated
        histories.append(_history(f"u{user}", watched[: -2 if is_validated else -1]))
        tests.append(_case(whole, uploads, policy, place=len(watched) - 1))
        if is_validated:
            validation.append(_case(whole, uploads, policy, place=len(watched) - 2))
    return Halves(uploads, histories, validation, tests)


def _sequences(columns: Mapping[str, Column], films: Column) -> dict[int, list[int]]:
    order = np.lexsort((columns["pos"], columns["sas_user_id"]))
    users = columns["sas_user_id"][order]
    video = np.searchsorted(films, columns["movie_id"][order])
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    pieces = np.split(video, starts[1:])
    shortest = min(map(len, pieces), default=0)
    if shortest < 3:  # noqa: PLR2004 - one to learn from, one to stop by, one to test
        raise DatasetError(f"a user has {shortest} films, three are the least. {REMEDY}")
    return {int(user): piece.tolist() for user, piece in zip(users[starts], pieces, strict=True)}


def _history(user_id: str, watched: Sequence[int]) -> LoggedHistory:
    return LoggedHistory(
        user_id=user_id,
        columns=watched,
        is_completed=[True] * len(watched),
        completed=watched,
        first_ms=OPENED_MS,
        last_ms=OPENED_MS + GAP_MS * (len(watched) - 1),
    )


def _case(
    history: LoggedHistory, uploads: Sequence[VideoUpload], policy: WindowPolicy, *, place: int
) -> Case:
    before = history.columns[:place]
    watches = _history(history.user_id, before).watches(uploads)
    window = fold(EMPTY, watches[-policy.max_watches :], policy)
    time_ms = OPENED_MS + GAP_MS * place
    return Case(history.user_id, window, time_ms, history.columns[place], before, before)


def _uploads(directory: Path, films: Sequence[int]) -> list[VideoUpload]:
    told = read_dat_films(directory, REMEDY)
    nobody = [film for film in films if film not in told]
    if nobody:
        raise DatasetError(f"film {nobody[0]} is watched but has no title. {REMEDY}")
    return [film_upload(film, *told[film], OPENED_MS) for film in films]
