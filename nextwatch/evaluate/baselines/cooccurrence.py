"""Rank by directed co-occurrence: which videos are watched soon after which.

Every video is counted with those that one user watched up to `WINDOW` places later, the nearer
the more (one over the distance), and only in that direction. A user's last `WINDOW` videos vote
with their shares of these counts, again one over how far back they lie.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from nextwatch.evaluate.contender import Case, StaticContender, TrainingData

# Shape legend: B = cases, N = videos.

WINDOW = 10
_TINY = 1e-9


class DirectedCooccurrence(StaticContender):
    """Counts once, before the log; only the user's last watches are live."""

    def __init__(self) -> None:
        self._share_NN: Float32[np.ndarray, "N N"] = np.zeros((0, 0), np.float32)

    def prepare(self, training: TrainingData) -> None:
        """Count the completed watches of the histories."""
        count_NN = np.zeros((len(training.uploads), len(training.uploads)), np.float32)
        told = [np.array(history.completed, np.intp) for history in training.histories]
        for distance in range(1, WINDOW + 1):
            earlier = np.concatenate([columns[:-distance] for columns in told])
            later = np.concatenate([columns[distance:] for columns in told])
            np.add.at(count_NN, (earlier, later), np.float32(1 / distance))
        self._share_NN = count_NN / (count_NN.sum(axis=1, keepdims=True) + _TINY)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the votes of each user's last completed watches."""
        score_BN = np.zeros((len(cases), len(self._share_NN)), np.float32)
        for place, case in enumerate(cases):
            newest_first = np.array(case.completed[-WINDOW:][::-1], np.intp)
            vote = 1 / np.arange(1, len(newest_first) + 1, dtype=np.float32)
            score_BN[place] = vote @ self._share_NN[newest_first]
        return score_BN
