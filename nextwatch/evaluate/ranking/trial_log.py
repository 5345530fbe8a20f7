"""Lay out KuaiRand-Pure for rankers: every exposure in the order of time, with what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nextwatch.datasets.log import Bools, Ints
from nextwatch.evaluate.logs import kuairand
from nextwatch.evaluate.logs.trial import TrialLog
from nextwatch.evaluate.ranking.contender import MAX_WATCH_S, Exposures, Outcomes, RankTraining

LABELS = ("is_click", "long_view")


@dataclass(frozen=True, slots=True)
class RankLog:
    """A log for a trial, with users as codes and with both labels."""

    log: TrialLog
    user_ids: Sequence[str]
    user: Ints
    is_clicked: Bools

    def __len__(self) -> int:
        return len(self.user)

    def training(self, label: str) -> RankTraining:
        """Return what is known before the log."""
        is_completed = label == "long_view"
        return RankTraining(self.log.uploads, self.log.histories, self.user_ids, is_completed)

    def exposures(self, rows: slice) -> Exposures:
        """Return the exposures at *rows* without what came of them."""
        log = self.log
        return Exposures(
            self.user[rows],
            log.column[rows],
            log.time_ms[rows],
            log.surface[rows],
            log.duration_ms[rows],
        )

    def outcomes(self, rows: slice, label: str) -> Outcomes:
        """Return what came of the exposures at *rows*."""
        is_clicked, is_completed = self.is_clicked[rows], self.log.is_completed[rows]
        return Outcomes(
            is_positive_B=is_completed if label == "long_view" else is_clicked,
            is_clicked_B=is_clicked,
            is_completed_B=is_completed,
            watch_s_B=np.clip(self.log.watch_ms[rows] / 1000, 0.0, MAX_WATCH_S),
        )


def read(directory: Path) -> RankLog:
    """Return the log in *directory*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    log, is_clicked = kuairand.read_with_clicks(directory)
    known = {history.user_id for history in log.histories}
    user_ids = sorted(known.union(log.user_id))
    code_of = {user_id: code for code, user_id in enumerate(user_ids)}
    user = np.array([code_of[user_id] for user_id in log.user_id], np.int64)
    return RankLog(log, user_ids, user, is_clicked)
