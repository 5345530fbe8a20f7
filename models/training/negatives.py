"""Draw the negatives of a step, and estimate how often each video is among them.

Every step tells the labels of its batch apart from each other and from a draw of the catalogue.
The three kinds of draw differ in which mistakes they show the model: a uniform one shows mostly
videos that nobody would watch, one by frequency the popular ones that are hard to tell from the
label, and none at all leaves the other labels of the batch. Whatever is drawn, `log_inclusion`
is what the loss takes off again.

Sources:
    Yi et al., RecSys 2019, https://doi.org/10.1145/3298689.3346996 (in-batch)
    Hidasi, Karatzoglou, CIKM 2018, https://doi.org/10.1145/3269206.3271761 (frequency^alpha)
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

# Shape legend: N = videos that may be drawn, C = candidates of a step: drawn or label, each once.

NEGATIVES = ("uniform", "in_batch", "frequency")
"""The kinds of draw that there are."""

_SMOOTHING = 0.1
"""A video counts as a label this often besides: what nobody has watched yet is drawn as well.

Measured on the completed first watches of KuaiRand, 25-30 April, counts halving in a day: the
next label costs 7.58 nats with 0.1, 7.63 with 0.3, 7.86 with 1."""


_DENSE = 4
"""With less than a quarter of the rows live, they are listed before one is drawn."""


class NegativeDraw:
    """Draws negatives from the catalogue, anew for every step.

    Args:
        kind: one of `NEGATIVES`; ``in_batch`` draws nothing.
        num_negatives: how many are drawn; fewer different ones when a video is drawn twice.
        alpha: the power of ``frequency``: 0 draws all alike, 1 by how often each is a label.

    Raises:
        ValueError: there is no such kind.
    """

    def __init__(self, kind: str, *, num_negatives: int, alpha: float) -> None:
        if kind not in NEGATIVES:
            raise ValueError(f"unknown negatives {kind!r}; known: {', '.join(NEGATIVES)}")
        self._kind = kind
        self._num_negatives = num_negatives
        self._alpha = alpha

    def rows(
        self,
        rng: np.random.Generator,
        rows_N: Integer[np.ndarray, "N"],
        count_N: Float[np.ndarray, "N"],
    ) -> Int64[np.ndarray, "n"]:
        """Return some of *rows_N*, each at most once, which were labels *count_N* times."""
        if self._kind == "in_batch":
            return np.zeros(0, np.int64)
        if self._takes_all(len(rows_N)):
            return rows_N.astype(np.int64)
        if self._kind == "uniform":
            every_N = np.ones(len(rows_N), bool)
            drawn: np.ndarray = rows_N[self.uniform_rows(rng, every_N) - 1].astype(np.int64)
            return drawn
        # by inversion: `choice` with probabilities takes three times as long
        total_N = np.cumsum(self._weights(count_N))
        at = np.searchsorted(total_N, rng.random(self._num_negatives) * total_N[-1], side="right")
        return np.unique(rows_N[at]).astype(np.int64)

    def uniform_rows(
        self, rng: np.random.Generator, is_live_N: Bool[np.ndarray, "N"]
    ) -> Int64[np.ndarray, "n"]:
        """Return some of the rows of live videos, n + 1 for *is_live_N*[n], each at most once.

        By rejection: what it takes does not grow with the catalogue.
        """
        num_live = int(np.count_nonzero(is_live_N))
        if self._takes_all(num_live) or num_live * _DENSE < len(is_live_N):
            live_N = np.flatnonzero(is_live_N) + 1
            if self._takes_all(num_live):
                return live_N
            return rng.choice(live_N, self._num_negatives, replace=False)
        drawn = np.zeros(0, np.int64)
        while len(drawn) < self._num_negatives:
            more = rng.integers(len(is_live_N), size=2 * self._num_negatives)
            drawn = np.concatenate([drawn, more[is_live_N[more]]])
            drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # in order of the draw
        return drawn[: self._num_negatives] + 1

    def log_q(
        self,
        count_C: Float[np.ndarray, "C"],
        share_C: Float[np.ndarray, "C"],
        count_N: Float[np.ndarray, "N"],
        *,
        num_labels: int,
    ) -> Float64[np.ndarray, "C"]:
        """Return the log-probability of each candidate to be drawn, or to be one of the labels.

        *count_C* and *count_N* are decayed numbers of labels, of the candidates and of all that
        might be drawn; *share_C* how likely a candidate is to be the label of an example. Of a
        `uniform` draw see `uniform_log_q`.
        """
        if self._kind == "uniform":
            return self.uniform_log_q(share_C, num_live=len(count_N), num_labels=num_labels)
        if self._kind == "in_batch":
            # a label that was never counted before is not impossible, as it is in this batch
            at_least = _SMOOTHING / (count_N.sum() + _SMOOTHING * len(count_N))
            share_C, missed_C = np.maximum(share_C, at_least), np.ones(len(count_C))
        elif self._takes_all(len(count_N)):
            missed_C = np.zeros(len(count_C))
        else:
            each_C = self._weights(count_C) / self._weights(count_N).sum()
            missed_C = (1.0 - np.clip(each_C, 0.0, 1.0)) ** self._num_negatives
        return log_inclusion(share_C, missed_C, num_labels=num_labels)

    def uniform_log_q(
        self, share_C: Float[np.ndarray, "C"], *, num_live: int, num_labels: int
    ) -> Float64[np.ndarray, "C"]:
        """Return `log_q` of a draw among *num_live* videos, all alike."""
        missed = max(1.0 - self._num_negatives / max(num_live, 1), 0.0)
        return log_inclusion(share_C, np.full(len(share_C), missed), num_labels=num_labels)

    def _takes_all(self, num_videos: int) -> bool:
        return num_videos <= self._num_negatives

    def _weights(self, count: np.ndarray) -> np.ndarray:
        weights: np.ndarray = (count + _SMOOTHING) ** self._alpha
        return weights


def log_inclusion(
    share_C: Float[np.ndarray, "C"], missed_C: Float[np.ndarray, "C"], *, num_labels: int
) -> Float64[np.ndarray, "C"]:
    """Return log q: how likely a video is a candidate, by the draw or as a label.

    *share_C* is the streaming estimate of how often each video is a label, *missed_C* how likely
    the draw leaves it out. When the draw takes the whole catalogue q is 1, and the loss is exact.
    """
    missed_as_label_C = (1.0 - np.clip(share_C, 0.0, 1.0)) ** num_labels
    q_C: np.ndarray = np.maximum(1.0 - missed_C * missed_as_label_C, 1e-12)
    log_q_C: np.ndarray = np.log(q_C)
    return log_q_C
