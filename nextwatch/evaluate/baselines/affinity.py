"""Rank by item-to-item similarity to the videos that a user has watched (scipy).

The matrix is learned once, from all that is known before the test, histories and log alike, as a
model has learned them; what keeps it alive is the history of the user, which goes on. EASE is the
ridge regression of every video on all others, solved in closed form.

Source:
    Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019,
    https://doi.org/10.1145/3308558.3313710
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from jaxtyping import Float32

from nextwatch.evaluate.baselines.popularity import PopularityBaseline
from nextwatch.evaluate.contender import Case, Exposure, TrainingData
from nextwatch.evaluate.logs.trial import LoggedHistory

# Shape legend: U = users, B = cases, N = videos.

REGULARIZATION = 500.0
_TINY = 1e-9

Matrix = Float32[np.ndarray, "N N"]
Fit = Callable[[Matrix], Matrix]
"""Takes how many users watched both of each two videos, which it may change."""


def ease(together_NN: Matrix) -> Matrix:
    """Return the weights of EASE: row i scores all videos for a watch of video i."""
    num_videos = len(together_NN)
    together_NN[np.diag_indices(num_videos)] += REGULARIZATION
    # Cholesky in float32: the ridge keeps the condition number low; half a minute for 7,583 videos
    factor, is_lower = scipy.linalg.cho_factor(together_NN, lower=True, overwrite_a=True)
    (invert,) = scipy.linalg.get_lapack_funcs(("potri",), (factor,))
    inverse_NN, failed = invert(factor, lower=is_lower, overwrite_c=True)
    assert not failed, "a Gram matrix with a ridge has an inverse"
    inverse_NN = np.tril(inverse_NN) + np.tril(inverse_NN, -1).T
    weight_NN: np.ndarray = inverse_NN / -np.diag(inverse_NN)
    np.fill_diagonal(weight_NN, 0.0)
    return weight_NN


def cosine(together_NN: Matrix) -> Matrix:
    """Return the cosine of the user sets of each two videos, 0 for a video with itself."""
    norm_N = np.sqrt(np.diag(together_NN)) + _TINY
    together_NN /= norm_N[:, None]
    together_NN /= norm_N[None, :]
    np.fill_diagonal(together_NN, 0.0)
    return together_NN


class Affinity:
    """One similarity matrix for several contenders, computed when the test begins.

    With *is_of_completed* it is about completed watches; about all exposures otherwise.
    """

    def __init__(self, fit: Fit, *, is_of_completed: bool = True) -> None:
        self._fit = fit
        self._is_of_completed = is_of_completed
        self._told: dict[str, set[int]] = {}
        self._num_videos = 0
        self._matrix_NN: Matrix | None = None

    def prepare(self, num_videos: int, histories: Sequence[LoggedHistory]) -> None:
        """Read the histories."""
        self._num_videos = num_videos
        for history in histories:
            told = history.completed if self._is_of_completed else history.columns
            self._told[history.user_id] = set(told)

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Read *exposures* until the matrix is computed."""
        if self._matrix_NN is None:
            for exposure in exposures:
                if exposure.is_completed or not self._is_of_completed:
                    self._told.setdefault(exposure.user_id, set()).add(exposure.column)

    def matrix(self) -> Matrix:
        """Return the matrix; the first call computes it, and nothing changes it after."""
        if self._matrix_NN is None:
            users_UN = indicators(list(self._told.values()), self._num_videos)
            matrix_NN = self._fit((users_UN.T @ users_UN).toarray())
            self._matrix_NN = np.ascontiguousarray(matrix_NN)  # rows are what is looked up
            self._told = {}
        return self._matrix_NN

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return for each case the sum over the different videos that the user has watched."""
        matrix_NN = self.matrix()
        told = [case.completed if self._is_of_completed else case.exposed for case in cases]
        score_BN: np.ndarray = indicators(told, len(matrix_NN)) @ matrix_NN
        return score_BN


def indicators(watched: Sequence[Collection[int]], num_videos: int) -> sp.csr_array:
    """Return which videos each has watched, as ones and zeros."""
    unique = [sorted(set(columns)) for columns in watched]
    starts = np.cumsum([0, *map(len, unique)])
    columns = np.array([column for of_user in unique for column in of_user], np.int32)
    ones = np.ones(len(columns), np.float32)
    return sp.csr_array((ones, columns, starts), shape=(len(unique), num_videos))


class ItemToItem:
    """Scores by an affinity, optionally multiplied by a live popularity."""

    def __init__(self, affinity: Affinity, *, half_life_h: float | None = None) -> None:
        self._affinity = affinity
        self._popularity = None if half_life_h is None else PopularityBaseline(half_life_h)
        self._half_life_h = half_life_h

    def prepare(self, training: TrainingData) -> None:
        """Read the histories."""
        self._affinity.prepare(len(training.uploads), training.histories)
        if self._popularity is not None:
            self._popularity.prepare(training)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the affinities; with popularity, negative ones count as 0."""
        score_BN = self._affinity.score(cases)
        if self._popularity is not None:
            score_BN = np.maximum(score_BN, 0.0) * self._popularity.weights_N
        return score_BN

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Count popularity; the matrix no longer changes once it is computed."""
        self._affinity.observe(exposures)
        if self._popularity is not None:
            self._popularity.observe(exposures)

    def begin_test(self) -> None:
        """Compute the matrix."""
        self._affinity.matrix()

    def counting(self) -> None:
        """Return None: only a model alone has weights to stop beside counters."""

    def frozen(self) -> "ItemToItem":
        """Return a copy whose popularity no longer changes; both share the matrix."""
        frozen = ItemToItem(self._affinity, half_life_h=self._half_life_h)
        frozen._popularity = self._popularity and self._popularity.frozen()
        return frozen
