"""Candidates are ranked best first, each user's own, with what the ranker needs of the user."""

import numpy as np

from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.candidates import rank_candidates
from models.serving.items import ItemStore
from models.serving.ranking import Ranker, RankerParams
from tests.support.builders import T0, item_vector, watch

BY_SIMILARITY = RankerParams(popularity_weight=0.0)
WINDOWS = [fold(EMPTY, [watch("a", at_ms=9), watch("b", at_ms=20)], WindowPolicy()), EMPTY]
USERS_BD = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)


class RecordingRanker(Ranker):
    """Remembers what it was given."""

    def rank(self, inputs):
        self.inputs = inputs
        return super().rank(inputs)


def store_of(**vectors):
    store = ItemStore(2, 2)
    for video_id, vector in vectors.items():
        store.put(item_vector(video_id, vector))
    return store


def test_each_user_gets_the_candidates_nearest_first_and_padding_last():
    """The rows, expected times and scores stay together."""
    store = store_of(east=(1.0, 0.0), north=(0.0, 1.0), between=(0.8, 0.6))
    rows_BC = np.array(
        [store.rows(["between", "north", "east"]), [0, *store.rows(["east", "north"])]]
    )

    ranked = rank_candidates(WINDOWS, USERS_BD, rows_BC, store, Ranker(BY_SIMILARITY))

    named = [[store.video_id(row) for row in rows] for rows in ranked.rows_BC.tolist()]
    assert named == [["east", "between", "north"], ["north", "east", ""]]
    assert (np.diff(ranked.score_BC) <= 0).all()
    assert ranked.expected_ms_BC[1, 2] == 0.0
    assert ranked.score_BC[1, 2] == -np.inf


def test_the_ranker_gets_the_data_of_each_user():
    """A trained ranker reads the vector, the time of the request and what the window holds."""
    store, ranker = store_of(east=(1.0, 0.0), b=(0.0, 1.0)), RecordingRanker(BY_SIMILARITY)

    rank_candidates(WINDOWS, USERS_BD, store.rows(["east", "east"])[:, None], store, ranker)

    users = ranker.inputs.users
    assert users.requests.now_ms_B.tolist() == [T0 + 20, EMPTY.newest_ms]
    assert users.requests.watch_row_H.tolist() == [0, store.row("b")]
    assert users.vectors_BD is USERS_BD


def test_the_flat_run_leaves_padding_out_and_features_are_computed_once():
    """Whoever logs the features gets the values that were ranked by."""
    store, ranker = store_of(east=(1.0, 0.0), north=(0.0, 1.0)), RecordingRanker(BY_SIMILARITY)
    rows_BC = np.array([[1, 2], [2, 0]])

    rank_candidates(WINDOWS, USERS_BD, rows_BC, store, ranker)

    inputs = ranker.inputs
    assert inputs.candidates.request_M.tolist() == [0, 0, 1]
    assert inputs.column_M.tolist() == [0, 1, 0]
    assert inputs.candidates.row_M.tolist() == [1, 2, 2]
    assert inputs.features is inputs.features
    assert inputs.features.candidate_MF[:, 0].tolist() == [1.0, 0.0, 1.0]
