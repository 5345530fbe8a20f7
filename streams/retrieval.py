"""Candidates for a batch of users: the nearest videos by the index, and what is trending.

When the index does not answer, the same question is asked of the item store in memory:
exact, slower with the size of the catalogue, and good enough until the index is back. Rows
are those of the item store; row 0 is padding and the unknown video alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog
from jaxtyping import Float32, Int, Int64

from contract.errors import IndexUnavailable
from streams.index import Hit
from streams.serving import Serving

log = structlog.get_logger()

# Shape legend: B = users of the batch, C = candidates, D = vector width, N = videos.
ANN, EXACT, TRENDING = "ann", "exact", "trending"
REST_S = 0.5
"""After a failure the index is left alone for this long, so that batches do not queue."""


class NearestIndex(Protocol):
    """Finds the nearest points of a collection."""

    def nearest(
        self, collection: str, vectors_BD: Float32[np.ndarray, "B D"], limit: int
    ) -> list[list[Hit]]:
        """Return for each vector the *limit* nearest points, best first."""
        ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """For each user the rows of distinct candidates; the first *num_near* came by the vector."""

    rows: list[Int64[np.ndarray, "C"]]
    num_near: list[int]
    source: str
    degraded: list[str]


class Retrieval:
    """Candidate sources, and what to do when one is away."""

    def __init__(
        self,
        index: NearestIndex,
        *,
        num_near: int,
        num_trending: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._index = index
        self._num_near = num_near
        self._num_trending = num_trending
        self._monotonic = monotonic
        self._rests_until = -1.0

    def candidates(
        self,
        serving: Serving,
        vectors_BD: Float32[np.ndarray, "B D"],
        seen: Sequence[Int[np.ndarray, "S"]],
    ) -> Candidates:
        """Return candidates for each user vector, without the *seen* rows of that user."""
        near = self._near(serving, vectors_BD)
        source, degraded = ANN, []
        if near is None:
            near, source, degraded = self._exact(serving, vectors_BD), EXACT, ["index_away"]
        trending = serving.items.rows(serving.items.popular(self._num_trending))
        rows, counts = [], []
        for mine, my_seen in zip(near, seen, strict=True):
            kept = without(mine, my_seen)
            others = without(without(trending, my_seen), kept)
            rows.append(np.concatenate([kept, others]))
            counts.append(len(kept))
        return Candidates(rows, counts, source, degraded)

    def _near(
        self, serving: Serving, vectors_BD: Float32[np.ndarray, "B D"]
    ) -> list[Int64[np.ndarray, "C"]] | None:
        if self._monotonic() < self._rests_until:
            return None
        try:
            found = self._index.nearest(serving.collection, vectors_BD, self._num_near)
        except IndexUnavailable as error:
            self._rests_until = self._monotonic() + REST_S
            log.warning("index_away", reason=str(error))
            return None
        row_of = serving.row_of_point.get
        return [_rows(row_of(hit.point_id, 0) for hit in hits) for hits in found]

    def _exact(
        self, serving: Serving, vectors_BD: Float32[np.ndarray, "B D"]
    ) -> list[Int64[np.ndarray, "C"]]:
        scores_BN = vectors_BD @ serving.items.outputs_ND.T
        most = min(self._num_near, scores_BN.shape[1])
        best_BC = np.argpartition(-scores_BN, most - 1, axis=1)[:, :most]
        return [_rows(row.tolist()) for row in best_BC]


def without(rows: Int[np.ndarray, "C"], unwanted: Int[np.ndarray, "S"]) -> Int[np.ndarray, "R"]:
    """Return *rows* without the *unwanted* ones and without the unknown row, in their order."""
    kept: np.ndarray = rows[(rows != 0) & ~np.isin(rows, unwanted)]
    return kept


def _rows(rows: object) -> Int64[np.ndarray, "C"]:
    return np.fromiter(rows, dtype=np.int64)  # type: ignore[call-overload,no-any-return]
