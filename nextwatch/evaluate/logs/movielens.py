"""Lay out MovieLens with its times as a trial: a rating counts as a completed watch.

The last fifth of the time is the test; what comes before is learned from, in order. The whole
catalogue is ranked from the start: which film came when is not told for all.
"""

from pathlib import Path

import numpy as np

from contract.errors import DatasetError
from nextwatch.datasets import movielens
from nextwatch.evaluate.logs.trial import TrialLog

TESTED_SHARE = 0.2


def read(directory: Path) -> TrialLog:
    """Return the log in *directory*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    log = movielens.read(directory)
    if not len(log):
        raise DatasetError(f"{directory} holds no ratings. {movielens.REMEDY}")
    column_of = {upload.video_id: column for column, upload in enumerate(log.uploads)}
    column = [column_of.get(log.video_id(row), -1) for row in range(len(log))]
    if -1 in column:
        missing = log.video_id(column.index(-1))
        raise DatasetError(f"film {missing} is rated but is not there. {movielens.REMEDY}")
    first_ms, last_ms = int(log.time_ms[0]), int(log.time_ms[-1])
    tested_from_ms = last_ms - int(TESTED_SHARE * (last_ms - first_ms))
    return TrialLog(
        name="movielens",
        uploads=log.uploads,
        histories=(),
        user_id=[f"u{user}" for user in log.user.tolist()],
        column=np.array(column, np.int64),
        time_ms=log.time_ms,
        watch_ms=log.watch_ms,
        duration_ms=log.duration_ms,
        surface=log.surface,
        is_completed=np.ones(len(log), np.bool_),
        is_tested=log.time_ms >= tested_from_ms,
        period=np.datetime_as_string(log.time_ms.astype("datetime64[ms]"), unit="Y").tolist(),
    )
