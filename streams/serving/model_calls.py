"""Call encoder, tree and ranker, and answer the viewer whatever they raise or return.

What fails is logged with its traceback, and the answer says `model_broken`.
"""

from collections.abc import Sequence

import numpy as np
import structlog
from jaxtyping import Bool, Float, Float32, Int

from contract.wire.events import MAX_DURATION_MS
from models.history.history import Window
from models.serving.ranking import RankingInputs
from streams.serving.candidates import CandidateSource, NearestVideos
from streams.serving.generation import Serving
from streams.serving.seen import SeenRows

log = structlog.get_logger()

# Shape legend: B = users of the batch, C = candidates (padded with row 0), D = vector width,
# S = rows that one user has seen.
LAST = -1e6
"""Where a candidate ranks that the ranker has no number for: behind all others."""


def encoded(
    serving: Serving, windows: Sequence[Window], seen: SeenRows
) -> Float32[np.ndarray, "B D"]:
    """Return the user vectors; not-a-number for all when the model raises an error."""
    newest_ms = [window.newest_ms for window in windows]
    shape = (len(windows), serving.items.outputs_ND.shape[1])
    try:
        vectors_BD = serving.encoder.encode(windows, serving.items, newest_ms, seen.look_up)
        _check(shape, vectors_BD)
    except Exception:  # whatever a model raises, the viewers get what is trending
        log.exception("encoder_failed", bundle_id=serving.bundle_id)
        return np.full(shape, np.nan, np.float32)
    return vectors_BD


def next_best(
    retrieval: CandidateSource,
    serving: Serving,
    user_ids: Sequence[str],
    vectors_BD: Float32[np.ndarray, "B D"],
    seen: Sequence[Int[np.ndarray, "S"]],
) -> NearestVideos | None:
    """Return the nearest videos without the index; None when the tree raises an error."""
    try:
        return retrieval.next_best(serving, user_ids, vectors_BD, seen)
    except Exception:  # whatever a tree raises, the viewers get what is trending
        log.exception("search_failed", bundle_id=serving.bundle_id)
        return None


def ranked(
    serving: Serving, inputs: RankingInputs
) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"], Bool[np.ndarray, "B"]]:
    """Return (expected watch time in milliseconds, score, whom the ranker fails).

    Candidates that it has no numbers for come behind the others, by their similarity.
    """
    rows_BC = inputs.rows_BC
    is_there_BC = rows_BC != 0
    try:
        expected_BC, score_BC = serving.ranker.rank(inputs)
        _check(rows_BC.shape, expected_BC, score_BC)
        is_wrong_BC = is_there_BC & ~(np.isfinite(expected_BC) & np.isfinite(score_BC))
    except Exception:  # whatever a model raises, the viewers get what is similar
        log.exception("ranker_failed", bundle_id=serving.bundle_id)
        expected_BC = score_BC = np.full(rows_BC.shape, np.nan)
        is_wrong_BC = is_there_BC
    if is_wrong_BC.any():  # as float64: at a million float32 has steps of 0.06
        score_BC = np.where(is_wrong_BC, LAST + inputs.similarity_BC.astype(np.float64), score_BC)
    score_BC = np.where(is_there_BC, score_BC, -np.inf)
    expected_BC = np.where(is_there_BC & ~is_wrong_BC, expected_BC, 0.0)
    return np.clip(expected_BC, 0, MAX_DURATION_MS), score_BC, is_wrong_BC.any(axis=1)


def _check(shape: tuple[int, ...], *arrays: np.ndarray) -> None:
    for array in arrays:
        if array.shape != shape:
            raise ValueError(f"a model returned shape {array.shape}, not {shape}")
