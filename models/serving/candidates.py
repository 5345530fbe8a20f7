"""Rank the candidates that retrieval found, for many users at once: encode, search, rank.

The three stages are one call each: `encode` gives the user vectors, any search of the item vectors
gives rows of the item store, and `rank_candidates` puts those in the order of their scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer

from contract.wire.words import ANN
from models.features.ranking_features import RequestColumns, small_code
from models.history.history import Window
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from models.serving.ranking import RankedUsers, RankingInputs

# Shape legend: B = users, C = candidates of one user, D = width of a vector, H = watches of all
# windows, S = videos shown to all users.


@runtime_checkable
class CandidateRanker(Protocol):
    """Orders candidates; implemented by `ranking.Ranker` and `trained_ranker.TrainedRanker`."""

    def rank(
        self, inputs: RankingInputs
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


def request_columns(
    windows: Sequence[Window],
    now_ms: Sequence[int],
    watch_row_H: Integer[np.ndarray, "H"],
    rows_of_points: Callable[[Int64[np.ndarray, "S"]], Integer[np.ndarray, "S"]],
) -> RequestColumns:
    """Return *windows* as columns; *watch_row_H* are the rows of all their watched videos."""
    shown = b"".join(entry.points for window in windows for entry in window.impressions)
    points_S = np.frombuffer(shown, "<i8")
    shown_row_S = rows_of_points(points_S) if len(points_S) else points_S
    return RequestColumns(windows, np.array(now_ms, np.int64), watch_row_H, shown_row_S)


def ranking_inputs(
    requests: RequestColumns,
    vectors_BD: Float32[np.ndarray, "B D"],
    rows_BC: Integer[np.ndarray, "B C"],
    source_BC: Integer[np.ndarray, "B C"],
    items: ItemStore,
) -> RankingInputs:
    """Return what rankers read, with the similarity of each candidate to its user."""
    item_BCD = items.outputs_ND.take(rows_BC, axis=0)  # ten times as fast as [rows_BC]
    similarity_BC: np.ndarray = (item_BCD @ vectors_BD[:, :, None])[:, :, 0]
    users = RankedUsers(vectors_BD, requests)
    return RankingInputs(similarity_BC, rows_BC, source_BC, items, users)


def rank_candidates(
    windows: Sequence[Window],
    vectors_BD: Float32[np.ndarray, "B D"],
    rows_BC: Integer[np.ndarray, "B C"],
    items: ItemStore,
    ranker: CandidateRanker,
) -> RankedCandidates:
    """Rank the candidates *rows_BC*, all of the index, of the users with these windows.

    The time is that of the newest event of each window. Impressions are not looked up.
    """
    watched = items.rows([video_id for window in windows for video_id in window.video_ids])
    now_ms = [window.newest_shown_ms for window in windows]
    requests = request_columns(windows, now_ms, watched, np.zeros_like)
    source_BC = np.full(rows_BC.shape, small_code(ANN))
    inputs = ranking_inputs(requests, vectors_BD, rows_BC, source_BC, items)
    expected_ms_BC, score_BC = ranker.rank(inputs)
    order_BC = np.argsort(-score_BC, axis=1, kind="stable")
    return RankedCandidates(
        np.take_along_axis(rows_BC, order_BC, axis=1),
        np.take_along_axis(expected_ms_BC, order_BC, axis=1),
        np.take_along_axis(score_BC, order_BC, axis=1),
    )
