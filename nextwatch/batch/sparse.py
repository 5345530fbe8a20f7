"""Sum weights under keys, of which there may be many millions, in bounded memory.

Keys and weights are collected in arrays, and summed when the arrays are full. When there are more
distinct keys than the bound, all but half of the bound are forgotten, the lightest first: what is
asked for afterwards is the heaviest keys, and what a sum lacks is at most what was light.
"""

import numpy as np
from jaxtyping import Float64, Int64

# Shape legend: n = some keys, K = distinct keys, C = columns of weights.

MAX_KEYS = 20_000_000
"""480 MB with one column; summing needs as much again."""
_COLLECTED = 2_000_000


class SparseSums:
    """Sums of *num_columns* weights for each key; the first column says what is light."""

    def __init__(self, num_columns: int, *, max_keys: int = MAX_KEYS) -> None:
        self._num_columns = num_columns
        self._max_keys = max_keys
        self._keys: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._num_collected = 0
        self._num_summed = 0
        self.num_forgotten = 0

    def add(self, key_n: Int64[np.ndarray, "n"], weight_nC: Float64[np.ndarray, "n C"]) -> None:
        """Add the weights to those of their keys."""
        self._keys.append(key_n)
        self._weights.append(weight_nC)
        self._num_collected += len(key_n)
        if self._num_collected - self._num_summed > max(_COLLECTED, self._num_summed):
            self._sum()

    def scale(self, factor_C: Float64[np.ndarray, "C"]) -> None:
        """Multiply all sums by the factor of their column."""
        self._weights = [weight_nC * factor_C for weight_nC in self._weights]

    def items(self) -> tuple[Int64[np.ndarray, "K"], Float64[np.ndarray, "K C"]]:
        """Return the distinct keys, ascending, and their sums."""
        self._sum()
        return self._keys[0], self._weights[0]

    def _sum(self) -> None:
        key_n = np.concatenate([np.zeros(0, np.int64), *self._keys])
        weight_nC = np.concatenate([np.zeros((0, self._num_columns)), *self._weights])
        order_n = np.argsort(key_n, kind="stable")
        key_n = key_n[order_n]
        is_first_n = np.ones(len(key_n), bool)
        is_first_n[1:] = key_n[1:] != key_n[:-1]
        key_K, starts_K = key_n[is_first_n], np.flatnonzero(is_first_n)
        sums = np.add.reduceat(weight_nC[order_n], starts_K, axis=0) if len(key_K) else weight_nC
        if len(key_K) > self._max_keys:
            heaviest = np.sort(
                np.argpartition(-sums[:, 0], self._max_keys // 2)[: self._max_keys // 2]
            )
            self.num_forgotten += len(key_K) - len(heaviest)
            key_K, sums = key_K[heaviest], sums[heaviest]
        self._keys, self._weights = [key_K], [sums]
        self._num_collected = self._num_summed = len(key_K)
