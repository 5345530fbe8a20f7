"""Build small logs of exposures for the evaluation of rankers."""

import dataclasses

import numpy as np

from nextwatch.evaluate.ranking.trial_log import RankLog
from tests.support.trial_logs import history, trial_log

DAY_MS = 86_400_000


def rank_log(num_rows=600, *, num_users=12, num_videos=20, days=("2022-04-30", "2022-05-01")):
    """Return a log in which a video is completed the more often the higher its number.

    It takes as long as there are *days*, and users have a history each.
    """
    rng = np.random.default_rng(0)
    every_ms = len(days) * DAY_MS // num_rows
    rows = []
    for row in range(num_rows):
        video = int(rng.integers(num_videos))
        is_completed = bool(rng.random() < (video + 1) / (num_videos + 2))
        rows.append((f"u{rng.integers(num_users)}", video, row * every_ms, is_completed))
    histories = [
        history(f"u{user}", list(range(num_videos)), range(num_videos // 2, num_videos))
        for user in range(num_users)
    ]
    log = trial_log(rows, num_videos=num_videos, histories=histories)
    log = dataclasses.replace(
        log, period=[days[row * len(days) // num_rows] for row in range(num_rows)]
    )
    user_ids = sorted({*log.user_id, *(one.user_id for one in histories)})
    user = np.array([user_ids.index(one) for one in log.user_id], np.int64)
    return RankLog(log, user_ids, user, log.is_completed.copy())
