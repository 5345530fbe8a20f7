"""Number the distinct keys of an array and find keys among them, in whole arrays at a time.

A hash table in numpy with linear probing. Every round of probing handles all keys that are not
settled yet; with eight places for each key there is hardly a second round. For 3,000 keys and
60,000 lookups it is five times as fast as sorting the keys and searching them.
"""

import numpy as np
from jaxtyping import Int64

# Shape legend: K = keys, with repeats, M = keys looked up, P = places.

_PLACES_PER_KEY = 8
_MIN_BITS = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing


class KeyTable:
    """The distinct keys of *key_K*; the number of a key is a position at which it stands."""

    def __init__(self, key_K: Int64[np.ndarray, "K"]) -> None:
        self.key_K = key_K
        bits = max((_PLACES_PER_KEY * len(key_K) - 1).bit_length(), _MIN_BITS)
        self._shift = np.uint64(64 - bits)
        self._mask = (1 << bits) - 1
        self._position_P = np.full(1 << bits, -1, np.int32)
        self.number_K = self._insert()

    def find(self, key_M: Int64[np.ndarray, "M"]) -> Int64[np.ndarray, "M"]:
        """Return the number of each key, -1 for keys that are not in the table."""
        place_M = self._places(key_M)
        number_M = self._position_P.take(place_M).astype(np.int64)
        open_U = np.flatnonzero(number_M >= 0)
        open_U = open_U[self.key_K[number_M[open_U]] != key_M[open_U]]
        while len(open_U):
            place_M[open_U] = (place_M[open_U] + 1) & self._mask
            number_M[open_U] = self._position_P[place_M[open_U]]
            open_U = open_U[number_M[open_U] >= 0]
            open_U = open_U[self.key_K[number_M[open_U]] != key_M[open_U]]
        return number_M

    def _insert(self) -> Int64[np.ndarray, "K"]:
        place_K = self._places(self.key_K)
        number_K = np.zeros(len(place_K), np.int64)
        open_U = np.arange(len(place_K))
        while len(open_U):
            places_U = place_K[open_U]
            is_free_U = self._position_P[places_U] < 0
            self._position_P[places_U[is_free_U]] = open_U[is_free_U]  # of several, one stays
            number_K[open_U] = self._position_P[places_U]
            open_U = open_U[self.key_K[number_K[open_U]] != self.key_K[open_U]]
            place_K[open_U] = (place_K[open_U] + 1) & self._mask
        return number_K

    def _places(self, key_K: Int64[np.ndarray, "K"]) -> Int64[np.ndarray, "K"]:
        hashed_K = key_K.view(np.uint64) * _MULTIPLIER  # wraps around, as it should
        return (hashed_K >> self._shift).view(np.int64)
