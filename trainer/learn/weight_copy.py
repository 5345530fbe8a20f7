"""Copy the weights of one moment, and score with them later.

An evaluation compares weights of different ages on the same cases. A bundle for each of them would
cost an export; this copy computes what the exported towers compute, since an export is checked
against them. Live signals are no part of it: how fresh they are is another question.
"""

import numpy as np
from jaxtyping import Float32

from models.features.features import UserBatch
from models.features.vocabulary import Vocabulary
from models.training.two_tower import TwoTowerModel
from trainer.learn.catalogue_vectors import CHUNK, dense_half, watched_rows, with_padding

# Shape legend: N = videos, B = users, D = width of a taste, E = width of a served user vector.


class WeightCopy:
    """The towers of one moment, and the vectors of all videos by them."""

    def __init__(self, model: TwoTowerModel, vocabulary: Vocabulary) -> None:
        self._half = dense_half(model)
        num_videos, dim = len(vocabulary), model.config.dim
        self._input_ND = np.zeros((num_videos, dim), np.float32)
        self.taste_ND: Float32[np.ndarray, "N D"] = np.zeros((num_videos, dim), np.float32)
        for start in range(1, num_videos + 1, CHUNK):
            rows = np.arange(start, min(start + CHUNK, num_videos + 1))
            vectors = model.item_vectors(vocabulary.content(rows), rows)
            self._input_ND[rows - 1], self.taste_ND[rows - 1] = vectors

    def users(self, users: UserBatch) -> Float32[np.ndarray, "B E"]:
        """Return the user vectors that these towers serve."""
        rows, of_watched = watched_rows(users)
        return self._half.served_users(of_watched, with_padding(self._input_ND[rows - 1]))
