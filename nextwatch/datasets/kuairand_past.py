"""Read KuaiRand-Pure in two parts: histories before 25 April 2022, and the log from then on.

The publisher offers one log in two files, ``log_standard_4_08_to_4_21_pure.csv`` and
``log_standard_4_22_to_5_08_pure.csv``. Where a folder holds the parts instead, they are read:
``interactions.parquet``, the exposures of `LOG_DAYS` in the order of time, and
``history.parquet``, one row a user. From the publisher's files the same is derived:

* exact repetitions of a row are dropped, the rest is put in the order of time; rows of one
  instant stay in the order of the files;
* rows whose ``date`` is in `LOG_DAYS` are the log, rows of days before it the history;
* of a user's history are told how many exposures it has, the time of the last one, the last
  `MOST_TOLD` exposed videos, and the last `MOST_TOLD` of those viewed for long.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contract.errors import DatasetError
from models.features.examples import CompletionRule
from nextwatch.datasets.columns import Column, ColumnType, DataFiles
from nextwatch.datasets.files import find
from nextwatch.datasets.kuairand import LOG_FILES, REMEDY
from nextwatch.datasets.tables import read_rows

OPENED_MS = 1_649_433_600_000
"""9 April 2022 in China, when the first of these videos came and the histories begin."""
LOG_STARTS = "2022-04-24T16:00:00"
"""Midnight before 25 April in China, in UTC: where the log is replayed from after its histories."""
LOG_DAYS = (20220425, 20220504)
SECOND_FILE_STARTS = 20220422
MOST_TOLD = 50

UNFINISHED_MS = 2_800
"""About the median of played exposures without a long view (docs/experiments.md)."""

HISTORY_COLUMNS = ("user_id", "history_len", "last_time_ms", "watch_seq", "long_watch_seq")
_HISTORIES = "history.parquet"
_LOG = "interactions.parquet"
_RULE = CompletionRule()
_READ: Mapping[str, ColumnType] = dict.fromkeys(
    (
        *("user_id", "video_id", "time_ms", "date", "tab"),
        *("play_time_ms", "duration_ms", "long_view"),
    ),
    "int64",
)
_COMPARED: Mapping[str, ColumnType] = {
    **_READ,
    **dict.fromkeys(
        (
            *("hourmin", "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate"),
            *("profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand"),
        ),
        "int64",
    ),
}


class Past(NamedTuple):
    """What one user did before the log; ``watched`` and ``completed`` are videos, oldest first.

    ``num_exposures`` counts all, also those that ``watched`` no longer tells.
    """

    user: int
    num_exposures: int
    last_ms: int
    watched: Sequence[int]
    completed: Sequence[int]

    def bounds_ms(self, before_ms: int) -> tuple[int, int]:
        """Return the times assumed for the first and the last of ``watched``.

        Evenly over all that the user did from the opening on, and before *before_ms*.
        """
        last_ms = max(min(self.last_ms, before_ms - 1), OPENED_MS)
        gap_ms = (last_ms - OPENED_MS) // max(self.num_exposures, 1)
        return last_ms - gap_ms * max(len(self.watched) - 1, 0), last_ms

    def is_completed(self) -> list[bool]:
        """Return which of ``watched`` are the ``completed``: both end with the newest.

        How many find their place: docs/experiments.md, "Completed watches among the histories of
        KuaiRand".
        """
        flags = [False] * len(self.watched)
        waiting = len(self.completed) - 1
        for place in range(len(self.watched) - 1, -1, -1):
            if waiting >= 0 and self.watched[place] == self.completed[waiting]:
                flags[place] = True
                waiting -= 1
        return flags


def evenly(count: int, first_ms: int, last_ms: int) -> list[int]:
    """Return *count* times, evenly spaced, the last one at *last_ms*."""
    gap_ms = (last_ms - first_ms) // max(count - 1, 1)
    return [last_ms - gap_ms * (count - 1 - place) for place in range(count)]


def assumed_watch_ms(duration_ms: int, *, is_completed: bool) -> int:
    """Return the watch time assumed for a watch that is known only as completed or not."""
    too_short_ms = min(_RULE.min_watch_ms, duration_ms) - 1
    return duration_ms if is_completed else min(UNFINISHED_MS, too_short_ms)


def read_exposures(directory: Path, *, also: Sequence[str] = ()) -> dict[str, Column]:
    """Return the exposures of `LOG_DAYS`, in the order of time; *also* names further columns.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    if find(directory, [_LOG]):
        columns: Mapping[str, ColumnType] = {**_READ, **dict.fromkeys(also, "int64")}
        exposures = DataFiles((_LOG,), columns, REMEDY).read(directory)
        return _in_order(exposures)
    whole = _whole_log(directory, instead_of=_LOG)
    return _rows(whole, (whole["date"] >= LOG_DAYS[0]) & (whole["date"] <= LOG_DAYS[1]))


def read_pasts(directory: Path) -> Iterator[Past]:
    """Yield what each user did before `LOG_DAYS`, by user.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    if found := find(directory, [_HISTORIES]):
        for row in read_rows(found[0].path, HISTORY_COLUMNS, REMEDY):
            yield Past(*(row[name] for name in HISTORY_COLUMNS))
        return
    whole = _whole_log(directory, instead_of=_HISTORIES)
    yield from _pasts(_rows(whole, whole["date"] < LOG_DAYS[0]))


def has_pasts(directory: Path) -> bool:
    """Return whether *directory* has what users did before `LOG_DAYS`."""
    first = ("log_standard_4_08*.csv", "log_standard_4_08*.csv.gz")
    return any(find(directory, [pattern]) for pattern in (_HISTORIES, *first))


def _whole_log(directory: Path, *, instead_of: str) -> dict[str, Column]:
    if not find(directory, LOG_FILES):
        raise DatasetError(f"{directory} holds no log_standard_*.csv and no {instead_of}. {REMEDY}")
    whole = _in_order(_without_repetitions(DataFiles(LOG_FILES, _COMPARED, REMEDY).read(directory)))
    days = whole["date"]
    for name, is_there in (
        ("log_standard_4_08_to_4_21_pure.csv", days < SECOND_FILE_STARTS),
        ("log_standard_4_22_to_5_08_pure.csv", days >= SECOND_FILE_STARTS),
    ):
        if not is_there.any():
            raise DatasetError(f"{directory} holds nothing of {name}. {REMEDY}")
    return whole


def _without_repetitions(columns: dict[str, Column]) -> dict[str, Column]:
    """Return the rows without exact repetitions of an earlier one, in their order."""
    order = np.lexsort((columns["time_ms"], columns["video_id"], columns["user_id"]))
    is_alike = np.ones(max(len(order) - 1, 0), np.bool_)
    for name in ("user_id", "video_id", "time_ms"):
        is_alike &= columns[name][order][1:] == columns[name][order][:-1]
    suspects = np.unique(np.concatenate([order[1:][is_alike], order[:-1][is_alike]]))
    rows = np.stack([columns[name][suspects] for name in columns], axis=1)
    _, first = np.unique(rows, axis=0, return_index=True)
    kept = np.ones(len(order), np.bool_)
    kept[suspects] = False
    kept[suspects[first]] = True
    return _rows(columns, kept)


def _in_order(columns: dict[str, Column]) -> dict[str, Column]:
    return _rows(columns, np.argsort(columns["time_ms"], kind="stable"))


def _rows(columns: dict[str, Column], which: Column) -> dict[str, Column]:
    return {name: values[which] for name, values in columns.items()}


def _pasts(history: dict[str, Column]) -> Iterator[Past]:
    order = np.argsort(history["user_id"], kind="stable")
    user = history["user_id"][order]
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        video = history["video_id"][rows]
        yield Past(
            int(history["user_id"][rows[0]]),
            len(rows),
            int(history["time_ms"][rows[-1]]),
            video[-MOST_TOLD:].tolist(),
            video[history["long_view"][rows] > 0][-MOST_TOLD:].tolist(),
        )
