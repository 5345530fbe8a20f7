"""Rank by matrix factorisation with implicit feedback (iALS); users are folded in.

The item factors are learned once, from what users did before the test. The factor of a user is
solved for anew from all that the user has completed up to the case, which is one step of the
same alternating least squares.

Source:
    Hu, Koren, Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008,
    https://doi.org/10.1109/ICDM.2008.22
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.sparse import csr_matrix

from contract.errors import DatasetError
from nextwatch.evaluate.baselines.affinity import indicators
from nextwatch.evaluate.contender import Case, Exposure, StaticContender, TrainingData

# Shape legend: B = cases, N = videos, K = factors, n = the videos that one user completed.

NUM_FACTORS = 64
CONFIDENCE = 10.0
"""What a completed watch weighs against a video that was not completed, which weighs 1."""
REGULARIZATION = 1.0
NUM_SWEEPS = 15


class ImplicitFactors(StaticContender):
    """iALS with `NUM_FACTORS` factors, and online fold-in of users."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._completed: dict[str, set[int]] = {}
        self._num_videos = 0
        self._is_learned = False
        self._items_NK: Float32[np.ndarray, "N K"] = np.zeros((0, NUM_FACTORS), np.float32)
        self._common_KK: Float32[np.ndarray, "K K"] = np.zeros((0, 0), np.float32)

    def prepare(self, training: TrainingData) -> None:
        """Read the histories.

        Raises:
            DatasetError: implicit is not installed.
        """
        _least_squares()
        self._num_videos = len(training.uploads)
        self._completed = {one.user_id: set(one.completed) for one in training.histories}

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Read completed watches until the test begins."""
        if not self._is_learned:
            for one in exposures:
                if one.is_completed:
                    self._completed.setdefault(one.user_id, set()).add(one.column)

    def begin_test(self) -> None:
        """Learn the item factors from completed watches, once."""
        if self._is_learned:
            return
        users_UN = indicators(list(self._completed.values()), self._num_videos)
        self._completed, self._is_learned = {}, True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of BLAS threads: the caller decides on these
            model = _least_squares()(
                factors=NUM_FACTORS,
                regularization=REGULARIZATION,
                alpha=1.0,
                iterations=NUM_SWEEPS,
                num_threads=1,
                use_gpu=False,
                random_state=self._seed,
            )
            weights_UN = csr_matrix(users_UN * np.float32(CONFIDENCE))  # what implicit knows
            model.fit(weights_UN, show_progress=False)
        self._items_NK = np.asarray(model.item_factors, np.float32)
        self._common_KK = self._items_NK.T @ self._items_NK
        self._common_KK += REGULARIZATION * np.eye(NUM_FACTORS, dtype=np.float32)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products with each user's factor, solved for from the case."""
        self.begin_test()
        users_BK = np.stack([self._user(case.completed) for case in cases])
        score_BN: np.ndarray = users_BK @ self._items_NK.T
        return score_BN

    def _user(self, completed: Sequence[int]) -> Float32[np.ndarray, "K"]:
        mine_nK = self._items_NK[sorted(set(completed))]
        more_KK = (CONFIDENCE - 1.0) * (mine_nK.T @ mine_nK)
        user_K: np.ndarray = np.linalg.solve(
            self._common_KK + more_KK, CONFIDENCE * mine_nK.sum(axis=0)
        )
        return user_K.astype(np.float32)


def _least_squares() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of progress bars in notebooks
            from implicit.als import AlternatingLeastSquares  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DatasetError("iALS needs implicit: pip install 'nextwatch[evaluate]'") from error
    return AlternatingLeastSquares
