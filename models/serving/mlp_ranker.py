"""Rank by expected watch time with a small ReLU network over (user, candidate) pairs.

Trained as weighted logistic regression, where a positive weighs the seconds it was watched
and a negative weighs one, the odds e^logit are close to the expected watch time. So the
logit orders, and e^logit is told as seconds, never more than the video has.

All candidates of all users of a batch go through the network together, without padding, in
slices that stay in the processor's cache. Their features are gathered from the matrices of the item
store when they are needed: live
counters change some videos with every batch, and a table of features kept beside would have
to be kept right.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
"""

import numpy as np
from jaxtyping import Float, Float32, Integer

from contract.errors import BundleError
from contract.wire.events import MAX_DURATION_MS
from models.bundle.bundle import Bundle
from models.history.history import DAY_MS
from models.serving.encoder import check_golden, session
from models.serving.items import ItemStore
from models.serving.ranking import RankedUsers, RankingInputs

# Shape legend: B = users, C = candidates of one user (padded with row 0), M = candidates of all
# users together, D = width of a vector, F = features of a pair.

MODEL = "ranker.onnx"
GOLDEN = "ranker_golden.safetensors"
INPUT, OUTPUT = "features", "logit"
PAIR_FEATURES = (
    *("similarity", "similarity_squared", "completion_rate", "log_num_watches"),
    *("log_popularity", "log_popularity_squared", "log_popularity_root"),
    *("log_mean_watch", "log_mean_watch_squared", "log_mean_watch_root"),
    *("log_duration", "log_duration_squared", "log_duration_root"),
    *("log_age", "log_age_squared", "log_age_root"),
)
"""What follows the D products of user and item vector; each about within 0 to 1."""

_MAX_LOG_POPULARITY = float(np.log1p(1e6))
_MAX_LOG_SECONDS = float(np.log1p(3_600))
_MAX_LOG_DAYS = float(np.log1p(3_650))
_MAX_LOG_WATCHES = float(np.log1p(50))
_FIRST_LOG_COLUMN = 4
_SLICE_PAIRS = 2_048
"""Measured 2026-11-22 for 64 users of 200 candidates, on a 2-core machine: 0.39 ms for a user in
one run of 12,800 pairs, 0.30 in slices of 1,600 to 3,200, 0.37 in slices of 200."""


class MlpRanker:
    """The ranking network of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the session and hold it against the golden outputs of the bundle.

        Raises:
            BundleError: the network is missing, has another width than the vectors of the
                bundle ask for, or does not compute here what it computed where it was exported.
        """
        self._session = session(bundle.file(MODEL))
        golden = bundle.tensors(GOLDEN)
        width = bundle.manifest.output_dim + len(PAIR_FEATURES)
        features_MF = golden.get(INPUT)
        if features_MF is None or features_MF.shape[1:] != (width,):
            raise BundleError(f"{GOLDEN} has no features of width {width}")
        check_golden("the ranker", self._session, golden, OUTPUT)

    def rank(
        self, inputs: RankingInputs
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf."""
        similarity_BC, rows_BC, items = inputs.similarity_BC, inputs.rows_BC, inputs.items
        assert isinstance(items, ItemStore)
        users = inputs.users
        user_M, column_M = np.nonzero(rows_BC)
        row_M = rows_BC[user_M, column_M]
        similarity_M = similarity_BC[user_M, column_M]
        logit_M = np.empty(len(row_M), np.float32)
        for start in range(0, len(row_M), _SLICE_PAIRS):
            part = slice(start, start + _SLICE_PAIRS)
            features = pair_features(similarity_M[part], row_M[part], user_M[part], items, users)
            logit_M[part] = self._session.run([OUTPUT], {INPUT: features})[0][:, 0]
        duration_ms_M = items.duration_ms_N[row_M]
        longest_ms_M = np.where(duration_ms_M > 0, duration_ms_M, MAX_DURATION_MS)
        longest_logit_M = np.log(longest_ms_M / 1_000)
        score_BC = np.full(rows_BC.shape, -np.inf, np.float32)
        score_BC[user_M, column_M] = logit_M
        expected_BC = np.zeros(rows_BC.shape)
        expected_BC[user_M, column_M] = 1_000 * np.exp(np.minimum(logit_M, longest_logit_M))
        return expected_BC, score_BC


def pair_features(
    similarity_M: Float[np.ndarray, "M"],
    row_M: Integer[np.ndarray, "M"],
    user_M: Integer[np.ndarray, "M"],
    items: ItemStore,
    users: RankedUsers,
) -> Float32[np.ndarray, "M F"]:
    """Return what the network reads of each pair: D products, then `PAIR_FEATURES`.

    Times and counts are logarithms of one more than seconds, days or watches. Age counts from
    the upload to the newest event of the user's window, never to the wall clock, and is 0 where it
    is not known.
    """
    width = users.vectors_BD.shape[1]
    features_MF = np.empty((len(row_M), width + len(PAIR_FEATURES)), np.float32)
    # `take`, since indexing a matrix by rows was measured ten times slower
    item_MD = items.outputs_ND.take(row_M, axis=0)
    np.multiply(item_MD, users.vectors_BD.take(user_M, axis=0), out=features_MF[:, :width])
    pairs_MF = features_MF[:, width:]
    pairs_MF[:, 0] = similarity_M
    pairs_MF[:, 1] = similarity_M * similarity_M
    pairs_MF[:, 2] = items.completion_rate_N[row_M]
    pairs_MF[:, 3] = (
        np.log1p([len(window.watches) for window in users.requests.windows]) / _MAX_LOG_WATCHES
    )[user_M]
    uploaded_ms_M = items.uploaded_at_ms_N[row_M]
    age_ms_M = np.where(uploaded_ms_M > 0, users.requests.now_ms_B[user_M] - uploaded_ms_M, 0.0)
    for number, (value_M, scale, most) in enumerate(
        (
            (items.popularity_N[row_M], 1.0, _MAX_LOG_POPULARITY),
            (items.mean_watch_ms_N[row_M], 1e-3, _MAX_LOG_SECONDS),
            (items.duration_ms_N[row_M], 1e-3, _MAX_LOG_SECONDS),
            (np.maximum(age_ms_M, 0.0), 1 / DAY_MS, _MAX_LOG_DAYS),
        )
    ):
        # float32 and without log1p: as exact as the network needs, and six times faster
        log_M = np.log((value_M * scale + 1.0).astype(np.float32)) / np.float32(most)
        first = _FIRST_LOG_COLUMN + 3 * number
        pairs_MF[:, first] = log_M
        pairs_MF[:, first + 1] = log_M * log_M
        pairs_MF[:, first + 2] = np.sqrt(log_M)
    return features_MF
