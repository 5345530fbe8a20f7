"""Rank the candidates that retrieval found, for many users at once: encode, search, rank.

The three stages are one call each: `encode` gives the user vectors, any search of the item vectors
gives rows of the item store, and `rank_candidates` puts those in the order of their scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Integer

from models.history.history import Window
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from models.serving.ranking import RankedUsers

# Shape legend: B = users, C = candidates of one user, D = width of a vector.


@runtime_checkable
class CandidateRanker(Protocol):
    """Orders candidates; implemented by `ranking.Ranker` and `mlp_ranker.MlpRanker`."""

    def rank(
        self,
        similarity_BC: Float[np.ndarray, "B C"],
        rows_BC: Integer[np.ndarray, "B C"],
        items: ItemStore,
        users: RankedUsers,
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf."""
        ...


@dataclass(frozen=True, slots=True)
class RankedCandidates:
    """The candidates of each user, best first; row 0 is padding and comes last."""

    rows_BC: Integer[np.ndarray, "B C"]
    expected_ms_BC: Float[np.ndarray, "B C"]
    score_BC: Float[np.ndarray, "B C"]


def encode(
    windows: Sequence[Window], encoder: UserEncoder, items: ItemStore
) -> Float32[np.ndarray, "B D"]:
    """Return the user vectors of *windows*, with ages as of the newest event of each."""
    return encoder.encode(windows, items, [window.newest_ms for window in windows])


def ranker_inputs(
    windows: Sequence[Window],
    vectors_BD: Float32[np.ndarray, "B D"],
    rows_BC: Integer[np.ndarray, "B C"],
    items: ItemStore,
) -> tuple[Float32[np.ndarray, "B C"], RankedUsers]:
    """Return the similarity of each candidate to its user, and what rankers read of the users."""
    item_BCD = items.outputs_ND.take(rows_BC, axis=0)  # ten times as fast as [rows_BC]
    similarity_BC: np.ndarray = (item_BCD @ vectors_BD[:, :, None])[:, :, 0]
    users = RankedUsers(
        vectors_BD,
        newest_ms_B=np.array([window.newest_ms for window in windows]),
        num_watches_B=np.array([len(window.watches) for window in windows]),
    )
    return similarity_BC, users


def rank_candidates(
    windows: Sequence[Window],
    vectors_BD: Float32[np.ndarray, "B D"],
    rows_BC: Integer[np.ndarray, "B C"],
    items: ItemStore,
    ranker: CandidateRanker,
) -> RankedCandidates:
    """Rank the candidates *rows_BC* of the users with these windows and vectors."""
    similarity_BC, users = ranker_inputs(windows, vectors_BD, rows_BC, items)
    expected_ms_BC, score_BC = ranker.rank(similarity_BC, rows_BC, items, users)
    order_BC = np.argsort(-score_BC, axis=1, kind="stable")
    return RankedCandidates(
        np.take_along_axis(rows_BC, order_BC, axis=1),
        np.take_along_axis(expected_ms_BC, order_BC, axis=1),
        np.take_along_axis(score_BC, order_BC, axis=1),
    )
