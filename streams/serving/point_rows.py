"""Map points of the index to rows of the item store, two hundred for each user answered.

A dictionary of a hundred thousand entries misses the processor's cache at every look. Measured for
the 200 hits of one user: 0.2 ms by a dictionary, 0.02 by a binary search in a sorted array, 0.004
by a hash table in numpy. So there is such a table, and a dictionary only for points that came since
it was made.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from models.features.growth import FIRST_CAPACITY, grown
from models.features.key_table import KeyTable

# Shape legend: P = points in the table, H = points looked up, N = rows.

MAX_NEW = 1_000
"""With so many newcomers the table is made again: 10 ms for a hundred thousand points."""


class PointRows:
    """Point id -> row of the item store, 0 for points it does not have."""

    def __init__(self) -> None:
        self._table = KeyTable(np.zeros(0, np.int64))
        self._rows_P = np.zeros(0, np.int64)
        self._new: dict[int, int] = {}
        self._point_N = np.zeros(FIRST_CAPACITY, np.int64)

    def put(self, point: int, row: int) -> None:
        """Map *point* to *row*; row 0 removes it."""
        self._point_N = grown(self._point_N, row + 1)
        self._point_N[row] = point
        place = int(self._table.find(np.array([point], np.int64))[0])
        if place >= 0:
            self._rows_P[place] = row
        else:
            self._new[point] = row
            if len(self._new) > MAX_NEW:
                self.put_many([], [])

    def put_many(self, points: Sequence[int], rows: Sequence[int]) -> None:
        """Map many points to their rows, and make the table again."""
        self._point_N = grown(self._point_N, max(rows, default=0) + 1)
        self._point_N[rows] = points
        known = dict(zip(self._table.key_K.tolist(), self._rows_P.tolist(), strict=True))
        known |= self._new | dict(zip(points, rows, strict=True))
        there = {point: row for point, row in known.items() if row}
        self._table = KeyTable(np.fromiter(there.keys(), np.int64, len(there)))
        self._rows_P = np.fromiter(there.values(), np.int64, len(there))
        self._new = {}

    def points(self, rows: Int64[np.ndarray, "H"]) -> Int64[np.ndarray, "H"]:
        """Return the point of each row, which must have a video; what row 0 has means nothing."""
        points_H: np.ndarray = self._point_N[rows]
        return points_H

    def rows(self, points: Sequence[int] | Int64[np.ndarray, "H"]) -> Int64[np.ndarray, "H"]:
        """Return the row of each point, 0 for those that the item store lacks."""
        points_H = np.asarray(points, np.int64)
        place_H = self._table.find(points_H)
        rows_H = np.zeros(len(points_H), np.int64)
        is_found_H = place_H >= 0
        rows_H[is_found_H] = self._rows_P[place_H[is_found_H]]
        if self._new:
            for missed in np.flatnonzero(rows_H == 0).tolist():
                rows_H[missed] = self._new.get(int(points_H[missed]), 0)
        return rows_H
