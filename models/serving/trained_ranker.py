"""Rank by expected watch time, and by retrieval, with the trained network of a bundle.

The network has three parts, each computed as seldom as it can be. The part of the video in the
first layer is a matrix with a row for each video, computed when the generation comes and renewed
when a video changes. The part of the user is computed once for a request and added to the outputs.
What is left for each candidate are the features of the pair and the product of the user's taste
with the video, in slices that stay in the processor's cache.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer

from contract.errors import BundleError
from models.bundle.bundle import Bundle
from models.features.growth import grown
from models.features.ranking_features import (
    CODED_CONTEXT,
    CONTEXT_FEATURES,
    NUM_CODES,
    PAIR_FEATURES,
    PLAIN_CONTEXT,
    PLAIN_PAIR,
    VIDEO_FEATURES,
    length_of,
    video_features,
)
from models.ranking.surfaces import surface_logit
from models.serving import ranker_history
from models.serving.encoder import MAX_DIFFERENCE, completion_of, session
from models.serving.items import ItemStore
from models.serving.normaliser import Normaliser
from models.serving.onnx_runtime import ort
from models.serving.ranker_tables import (
    GOLDEN,
    LEAST_S,
    MODEL,
    NORMALISED,
    NUM_PRODUCTS,
    TABLES,
    USER_PART,
    VIDEO_PART,
    EmbeddingRows,
    attributes,
    card_of,
)
from models.serving.ranking import RankingInputs, blended_score

# Shape legend: B = requests, C = candidates of one request (padded with row 0), M = candidates of
# all requests together, N = rows of the item store, n = some of them, D = width of an embedding,
# H = width of the first layer, O = outputs of the network, X = inputs of the pair part,
# F = features, W = width of a table row, L = classes of duration.

SLICE_PAIRS = 2_048
_CONTEXT_AT = [CONTEXT_FEATURES.index(name) for name in PLAIN_CONTEXT]
_CODES_AT = [CONTEXT_FEATURES.index(name) for name in CODED_CONTEXT]
_PAIR_AT = [PAIR_FEATURES.index(name) for name in PLAIN_PAIR]
_SOURCE_AT = PAIR_FEATURES.index("source")
_SURFACE_AT = CODED_CONTEXT.index("surface")
_LIFT_AT, _DURATION_AT = map(VIDEO_FEATURES.index, ("watch_lift", "duration_s"))


class UserParts(NamedTuple):
    """What the candidates of a request have in common."""

    own_BO: Float32[np.ndarray, "B O"]
    taste_BD: Float32[np.ndarray, "B D"]
    surface_BD: Float32[np.ndarray, "B D"]
    bias_B: Float32[np.ndarray, "B"]
    rate_B: Float32[np.ndarray, "B"]


class VideoParts(NamedTuple):
    """What a video is, whoever sees it.

    *history_ND* is what it is in a history, *lift_N* the logarithm of its watch lift, and
    *factor_N* what calibrates its expected seconds.
    """

    first_NH: Float32[np.ndarray, "N H"]
    query_ND: Float32[np.ndarray, "N D"]
    bias_N: Float32[np.ndarray, "N"]
    history_ND: Float32[np.ndarray, "N D"]
    lift_N: Float32[np.ndarray, "N"]
    factor_N: Float32[np.ndarray, "N"]


class RankerParts:
    """The sessions, tables and quantiles of one ranker, and what each part computes."""

    def __init__(self, bundle: Bundle) -> None:
        self.card = card_of(bundle)
        arrays = bundle.tensors(TABLES)
        self._video, self._user, self._pair = (
            session(bundle.file(name)) for name in (VIDEO_PART, USER_PART, MODEL)
        )
        try:
            self.tables = EmbeddingRows(arrays["own_PW"], arrays["hashed_RW"], self.card.buckets)
            self._source_S = arrays["source_S"]
            self._factor_L, self._surface_logit_S = arrays["factor_L"], arrays["surface_logit_S"]
            self._normalisers = {
                part: _normaliser(part, arrays, has_roots=self.card.has_roots)
                for part in NORMALISED
            }
        except (KeyError, ValueError) as error:
            raise BundleError(f"{TABLES} is not that of a ranker: {error}") from error
        if len(self.tables.own_PW) != len(bundle.snapshot.video_ids):
            raise BundleError(f"{TABLES} has not a row for each video of the snapshot")
        self.num_pair = self._normalisers["pair"].num_outputs + NUM_PRODUCTS

    def video(
        self, embedding_nW: Float32[np.ndarray, "n W"], raw_nF: Float32[np.ndarray, "n F"]
    ) -> VideoParts:
        """Return the parts of videos, of their embeddings and raw features."""
        normal_nX = self._normalisers["video"].apply(np.ascontiguousarray(raw_nF.T)).T
        inputs = {"embedding": embedding_nW, "features": np.ascontiguousarray(normal_nX)}
        first_nH, query_nD, bias_n = _run(self._video, ["first", "query", "bias"], inputs)
        duration_ms_n = raw_nF[:, _DURATION_AT].astype(np.float64) * 1_000
        return VideoParts(
            first_nH,
            query_nD,
            bias_n,
            embedding_nW[:, : self.card.dim],
            surface_logit(np.zeros(len(raw_nF), np.float32), raw_nF[:, _LIFT_AT]),
            self._factor_L.take(length_of(duration_ms_n).astype(np.int64)),
        )

    def user(
        self,
        context_BU: Float32[np.ndarray, "B U"],
        pools_BP: Float32[np.ndarray, "B P"],
        stats_BS: Float32[np.ndarray, "B S"],
    ) -> UserParts:
        """Return the parts of requests, of raw context and what their histories sum up to."""
        plain_UB = np.ascontiguousarray(context_BU.T[_CONTEXT_AT])
        inputs = {
            "pools": pools_BP,
            "stats": stats_BS,
            "context": np.ascontiguousarray(self._normalisers["context"].apply(plain_UB).T),
            "codes": np.clip(context_BU[:, _CODES_AT], 0, NUM_CODES).astype(np.int64),
        }
        rate_B = self._surface_logit_S.take(inputs["codes"][:, _SURFACE_AT])
        names = ["own", "taste", "surface", "bias"]
        own_BO, taste_BD, surface_BD, bias_B = _run(self._user, names, inputs)
        return UserParts(own_BO, taste_BD, surface_BD, bias_B, rate_B)

    def outputs(
        self,
        users: UserParts,
        videos: VideoParts,
        request_M: Integer[np.ndarray, "M"],
        row_M: Integer[np.ndarray, "M"],
        pair_MP: Float32[np.ndarray, "M P"],
    ) -> tuple[Float32[np.ndarray, "M"], Float32[np.ndarray, "M"]]:
        """Return (P(watched), expected seconds as they are served) of each pair.

        Slice by slice, so that what is computed in between stays in the processor's cache.
        """
        p_M, seconds_M = np.empty((2, len(row_M)), np.float32)
        plain_PM, source_M = pair_MP.T, pair_MP[:, _SOURCE_AT].astype(np.int64)
        for start in range(0, len(row_M), SLICE_PAIRS):
            part = slice(start, start + SLICE_PAIRS)
            request_m, row_m = request_M[part], row_M[part]
            first_mH = videos.first_NH.take(row_m, axis=0)
            input_Xm = np.empty((self.num_pair, len(row_m)), np.float32)
            value_Fm = np.ascontiguousarray(plain_PM[_PAIR_AT, part])
            self._normalisers["pair"].apply_to(value_Fm, input_Xm[:-NUM_PRODUCTS])
            taste, bias, surface, lifted, position, source = input_Xm[-NUM_PRODUCTS:]
            query_mD = videos.query_ND.take(row_m, axis=0)
            np.einsum("md,md->m", users.taste_BD.take(request_m, axis=0), query_mD, out=taste)
            np.einsum("md,md->m", users.surface_BD.take(request_m, axis=0), query_mD, out=surface)
            np.add(users.bias_B.take(request_m), videos.bias_N.take(row_m), out=bias)
            np.add(users.rate_B.take(request_m), videos.lift_N.take(row_m), out=lifted)
            position[:] = 0.0
            source[:] = self._source_S.take(source_M[part], mode="clip")
            own_mO = users.own_BO.take(request_m, axis=0)
            inputs = {"first": first_mH, "pair": input_Xm, "own": own_mO}
            p_M[part], seconds_M[part] = _run(self._pair, ["p_watched", "expected_s"], inputs)
        seconds_M *= videos.factor_N.take(row_M)
        np.clip(seconds_M, LEAST_S, self.card.max_watch_s, out=seconds_M)
        return p_M, seconds_M


class TrainedRanker:
    """The ranker of one bundle, with the parts of all videos of an item store."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the sessions and hold them against the golden outputs of the bundle.

        Raises:
            BundleError: a file of the ranker is missing, was made for other features, or does
                not compute here what it computed where it was exported.
        """
        self._parts = RankerParts(bundle)
        self._completion = completion_of(bundle)
        self._temperature = bundle.manifest.ranker.temperature
        video_ids = bundle.snapshot.video_ids
        self._place_of = dict(zip(video_ids, range(len(video_ids)), strict=True))
        self._items: ItemStore | None = None
        self._num_changes = 0
        check_golden(self._parts, bundle.tensors(GOLDEN))

    def rank(
        self, inputs: RankingInputs
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf.

        The score is that of `blended_score`: expected watch time and retrieval's logit.
        """
        assert isinstance(inputs.items, ItemStore)
        self.renew(inputs.items)
        candidates, pairs = inputs.candidates, inputs.pairs
        users = self._users(inputs, pairs.context_BU)
        _, seconds_M = self._parts.outputs(
            users, self._videos, candidates.request_M, candidates.row_M, pairs.pair_MP
        )
        expected_BC = np.zeros(inputs.rows_BC.shape)
        score_BC = np.full(inputs.rows_BC.shape, -np.inf, np.float32)
        places = candidates.request_M, inputs.column_M
        expected_BC[places] = 1_000.0 * seconds_M
        score_BC[places] = blended_score(
            seconds_M,
            candidates.similarity_M,
            temperature=self._temperature,
            retrieval_weight=self._parts.card.retrieval_weight,
        )
        return expected_BC, score_BC

    def renew(self, items: ItemStore) -> None:
        """Compute the parts of the videos that have changed since the last call."""
        num_rows = len(items.outputs_ND)
        if items is not self._items:
            self._items, self._num_changes = items, -1
            self._videos = self._of_rows(items, np.zeros(1, np.int64))
        if items.num_changes == self._num_changes:
            return
        rows = np.arange(num_rows)
        if self._num_changes >= 0:
            rows = items.changed_since(self._num_changes)
        self._videos = VideoParts(*(grown(part, num_rows) for part in self._videos))
        for start in range(0, len(rows), SLICE_PAIRS):
            row_n = rows[start : start + SLICE_PAIRS]
            for part, renewed in zip(self._videos, self._of_rows(items, row_n), strict=True):
                part[row_n] = renewed
        self._num_changes = items.num_changes

    def _of_rows(self, items: ItemStore, row_n: Int64[np.ndarray, "n"]) -> VideoParts:
        video_ids = map(items.video_id, row_n.tolist())
        place_n = np.array([self._place_of.get(video_id, -1) for video_id in video_ids], np.int64)
        codes = {
            "channel": items.channel_N[row_n],
            "category": items.category_N[row_n],
            "tag": items.tag_N[row_n],
        }
        buckets = self._parts.card.buckets
        attribute_nA = attributes(codes, items.duration_ms_N[row_n], buckets)
        embedding_nW = self._parts.tables.sums(place_n, attribute_nA)
        embedding_nW[row_n == 0] = 0.0  # the unknown video and padding
        return self._parts.video(embedding_nW, video_features(items, row_n))

    def _users(self, inputs: RankingInputs, context_BU: Float32[np.ndarray, "B U"]) -> UserParts:
        requests = inputs.users.requests
        size_B = np.array([len(window.watches) for window in requests.windows], np.int64)
        row_BT, is_completed_BT = ranker_history.padded(
            requests.watch_row_H,
            ranker_history.completed_flags(requests.windows, self._completion),
            size_B,
            most=self._parts.card.max_history,
        )
        return self._parts.user(
            context_BU,
            ranker_history.pools(self._videos.history_ND, row_BT, is_completed_BT),
            ranker_history.stats(row_BT, is_completed_BT),
        )


def check_golden(parts: RankerParts, golden: dict[str, np.ndarray]) -> None:
    """Compare what *parts* compute with what the ranker computed where it was exported.

    Raises:
        BundleError: the golden file lacks an array, or the outputs differ.
    """
    try:
        embedding_nW = parts.tables.sums(golden["place"], golden["attribute"])
        videos = parts.video(embedding_nW, golden["video"])
        row_BT, is_completed_BT = golden["row_BT"], golden["is_completed_BT"].astype(np.bool_)
        history_ND = np.concatenate([np.zeros_like(videos.history_ND[:1]), videos.history_ND])
        users = parts.user(
            golden["context"],
            ranker_history.pools(history_ND, row_BT, is_completed_BT),
            ranker_history.stats(row_BT, is_completed_BT),
        )
        row_M = np.arange(len(golden["pair"])) % len(embedding_nW)
        found = parts.outputs(users, videos, golden["request"], row_M, golden["pair"])
        expected = golden["p_watched"], golden["expected_s"]
    except BundleError:
        raise
    except Exception as error:
        # onnxruntime's exceptions share no parent of their own
        raise BundleError(
            "the ranker does not take its golden inputs", word="outputs_differ"
        ) from error
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape or not one.size:
            raise BundleError(
                "the ranker has another shape than its golden outputs", word="outputs_differ"
            )
        if not np.abs(one - other).max() <= MAX_DIFFERENCE * (1.0 + np.abs(other).max()):
            raise BundleError(
                "the ranker does not reproduce its golden outputs", word="outputs_differ"
            )


def _normaliser(part: str, arrays: dict[str, np.ndarray], *, has_roots: bool) -> Normaliser:
    knots_FK = arrays[f"{part}_knots_FK"]
    if len(knots_FK) != len(NORMALISED[part]):
        raise ValueError(f"{len(knots_FK)} features of {part}, expected {len(NORMALISED[part])}")
    return Normaliser(knots_FK, has_roots=has_roots)


def _run(
    of: ort.InferenceSession, names: list[str], inputs: dict[str, np.ndarray]
) -> list[np.ndarray]:
    used = {one.name for one in of.get_inputs()}
    outputs: list[np.ndarray] = of.run(
        names, {name: one for name, one in inputs.items() if name in used}
    )
    return outputs
