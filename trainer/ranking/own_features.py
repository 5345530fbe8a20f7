"""Compute the features of impressions that serving did not recommend, as of a replayed log.

By the function that serving has, of the user's window before the impression and the counters of
this moment. The trainer folds no impressions into windows, so that here the features of what was
shown before are 0 and unknown.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from contract.wire.events import Impressions
from models.features.examples import CompletionRule, Example
from models.features.ranking_features import (
    VERSION,
    Candidates,
    logged_history,
    ranking_features,
)
from models.history.window import until
from models.serving.candidates import request_columns
from trainer.evaluate.popularity import Popularity
from trainer.input.windows import Windows
from trainer.learn.learner import Learner
from trainer.ranking.examples import LoggedFeatures

# Shape legend: S = videos shown.

_NOT_OF_OURS = 0  # the code of no source


def own_features(
    learner: Learner,
    windows: Windows,
    popularity: Popularity,
    completion: CompletionRule,
    row_of_point: Callable[[int], int],
) -> Callable[[Impressions], LoggedFeatures | None]:
    """Return the function that the joiner calls; it returns None where no video is known."""

    def rows_of_points(points_S: Int64[np.ndarray, "S"]) -> Int64[np.ndarray, "S"]:
        return np.array([row_of_point(point) for point in points_S.tolist()], np.int64)

    def compute(event: Impressions) -> LoggedFeatures | None:
        vocabulary = learner.vocabulary
        video_ids = [one.video_id for one in event.videos if vocabulary.live_row(one.video_id)]
        if not video_ids:
            return None
        # topics are read in any order: the watch that came of it may be in the window already
        window = until(windows.get(event.user_id), event.event_time_ms - 1)
        rows = vocabulary.rows(video_ids).astype(np.int64)
        encoded = learner.encode([Example(event.user_id, window, "", event.event_time_ms)])
        vector_D = learner.user_vectors(encoded.users)[0]
        requests = request_columns(
            [window], [event.event_time_ms], vocabulary.rows(window.video_ids), rows_of_points
        )
        candidates = Candidates(
            np.zeros(len(rows), np.int64),
            rows,
            learner.output_vectors(rows) @ vector_D,
            np.full(len(rows), _NOT_OF_OURS),
        )
        values = ranking_features(requests, candidates, popularity)
        history, history_completed = logged_history(window.watches, completion)
        return LoggedFeatures(
            feature_version=VERSION,
            generation=0,
            video_ids=video_ids,
            context=values.context_BU[0].astype("<f4").tobytes(),
            user_vector=vector_D.astype("<f4").tobytes(),
            candidates=np.ascontiguousarray(values.candidate_MF, "<f4").tobytes(),
            history=history,
            history_completed=history_completed,
        )

    return compute
