"""Learn to rank from what the joiner found: score each batch first, then learn, then count.

The features of an example are those that serving logged, so nothing is computed twice; only rows
of videos are looked up here. For impressions without a recommendation, as of a replayed log,
`trainer.ranking.own_features` computes them with the same function.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Bool, Float64, Int64

from contract.points import point_id
from contract.wire.events import VideoUpload
from models.features.examples import CompletionRule
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    NUM_CODES,
    VERSION,
    content_codes,
)
from models.features.vocabulary import Vocabulary
from models.ranking.batch import (
    MAX_HISTORY,
    RankerCandidates,
    RankerLabels,
    RankerRequests,
    padded_histories,
)
from models.ranking.config import RankerConfig
from models.ranking.ranker import LabelledHistory, RankerModel
from models.serving.ranking import blended_score
from trainer.evaluate.popularity import Popularity
from trainer.learn.histories import PastWatches
from trainer.ranking.examples import RankingExample

# Shape legend: n = examples, T = watches, B = requests, U = users, R = runs of equal scores.

MAX_STEP = 512
MIN_EXAMPLES, MIN_OF_EACH = 2_000, 200
"""With fewer joined examples, and of either label, a ranker is not yet served."""
NUM_RECENT = 20_000
"""Over so many of the newest examples the measures are taken."""
_SURFACE = CONTEXT_FEATURES.index("surface")
_SIMILARITY = CANDIDATE_FEATURES.index("similarity")
_LEAST_S = 1e-3


class RankingLearner:
    """A ranker of the trainer, with the measures of what it predicted before it learned."""

    def __init__(
        self,
        config: RankerConfig,
        vocabulary: Vocabulary,
        popularity: Popularity,
        completion: CompletionRule,
        *,
        temperature: float,
        seed: int,
    ) -> None:
        """Learn with the videos of *vocabulary*; *temperature* is that of retrieval's logit."""
        self.model = RankerModel(config, seed=seed)
        self._vocabulary = vocabulary
        self._popularity = popularity
        self._completion = completion
        self._temperature = temperature
        self._num_described = 0
        self._row_of_point: dict[int, int] = {}
        self._num_by_label = [0, 0]
        self._recent: deque[tuple[Any, ...]] = deque(maxlen=NUM_RECENT)
        self._loss = 0.0
        vocabulary.when_freed(self._forget_rows)

    @property
    def is_ready(self) -> bool:
        """Whether enough was learned, and it orders what was shown as well as similarity does."""
        if min(self._num_by_label) < MIN_OF_EACH or sum(self._num_by_label) < MIN_EXAMPLES:
            return False
        measured = self.metrics()
        if "ranker_served_gauc" not in measured:  # resumed from before 0.3: it was served before
            return True
        return measured["ranker_served_gauc"] >= measured["ranker_similarity_gauc"]

    def upload(self, upload: VideoUpload) -> None:
        """Note what the upload says of a video of the vocabulary."""
        row = self._vocabulary.row(upload.video_id)
        self._row_of_point[point_id(upload.video_id)] = row
        codes = content_codes(upload)
        self.model.describe(
            np.array([row]),
            channel=np.array([codes["channel"]]),
            category=np.array([codes["category"]]),
            tag=np.array([codes["tag"]]),
            duration_ms=np.array([float(upload.duration_ms)]),
        )

    def _forget_rows(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the videos that had *rows*."""
        freed = set(rows.tolist())
        self._row_of_point = {
            point: row for point, row in self._row_of_point.items() if row not in freed
        }
        self.model.forget(rows)

    def forget(self, user_id: str) -> None:
        """Erase the measures of what was shown to a user."""
        erased = _hashed(user_id)
        self._recent = deque((row for row in self._recent if row[0] != erased), maxlen=NUM_RECENT)

    def row_of_point(self, point: int) -> int:
        """Return the row of the video with this point, 0 when it is unknown."""
        return self._row_of_point.get(point, 0)

    def learn_histories(self, histories: Sequence[PastWatches]) -> None:
        """Learn which watches of the past were completed."""
        self.model.learn_histories(
            [
                LabelledHistory(
                    self._vocabulary.rows(one.video_ids).astype(np.int64),
                    np.array(one.is_completed, np.bool_),
                )
                for one in histories
            ]
        )

    def learn(self, examples: Sequence[RankingExample]) -> None:
        """Score *examples*, learn from them, and count them; those that do not fit are left out.

        At most `MAX_STEP` at once: after a pause there may be thousands, and the memory of a step
        grows with them.
        """
        known = [one for one in examples if self._fits(one)]
        for start in range(0, len(known), MAX_STEP):
            self._learn(known[start : start + MAX_STEP])

    def _learn(self, known: Sequence[RankingExample]) -> None:
        requests, candidates = self._inputs(known)
        watch_s_n = np.array([one.watch_ms / 1_000 for one in known], np.float32)
        labels = RankerLabels(
            np.array([one.is_watched for one in known], np.bool_),
            np.array(
                [self._completion.is_completed(one.watch_ms, one.duration_ms) for one in known],
                np.bool_,
            ),
            watch_s_n,
        )
        scores = self.model.score(requests, candidates)
        first_n = np.array([not one.is_late for one in known], np.bool_)
        similarity_n = candidates.features_MF[:, _SIMILARITY].astype(np.float64)
        expected_s_n = np.maximum(scores.expected_s_M, _LEAST_S)
        served_n = blended_score(
            expected_s_n,
            similarity_n,
            temperature=self._temperature,
            retrieval_weight=self.model.config.retrieval_weight,
        )
        columns = (
            scores.p_watched_M,
            labels.is_watched_M,
            scores.expected_s_M,
            watch_s_n,
            similarity_n,
            served_n,
        )
        users = [_hashed(one.user_id) for one in known]
        rows = zip(users, *(column.tolist() for column in columns), strict=True)
        self._recent.extend(row for row, is_first in zip(rows, first_n, strict=True) if is_first)
        self._loss = self.model.learn(requests, candidates, labels)
        surface_B = np.clip(requests.context_BU[:, _SURFACE], 0, NUM_CODES).astype(np.int64)
        self._count(known, candidates.row_M, surface_B[candidates.request_M])

    def metrics(self) -> dict[str, float]:
        """Return the measures over the newest examples: GAUC, log loss, predicted to watched."""
        if not self._recent:
            return {"ranker_examples": 0.0}
        users, p, is_watched, expected_s, watch_s, similarity, served = (
            np.array(column) for column in zip(*self._recent, strict=True)
        )
        p = np.clip(p, 1e-6, 1 - 1e-6)
        log_loss = -np.where(is_watched, np.log(p), np.log(1 - p)).mean()
        return {
            "ranker_examples": float(sum(self._num_by_label)),
            "ranker_gauc": _gauc(users, p, is_watched),
            "ranker_served_gauc": _gauc(users, served, is_watched),
            "ranker_similarity_gauc": _gauc(users, similarity, is_watched),
            "ranker_log_loss": float(log_loss),
            "ranker_predicted_to_watched": float(expected_s.sum() / max(watch_s.sum(), 1e-9)),
            "ranker_loss": self._loss if np.isfinite(self._loss) else 0.0,
        }

    def bundle_files(self, rows: Int64[np.ndarray, "n"]) -> dict[str, bytes]:
        """Return the files of the ranker for a bundle whose snapshot has the videos of *rows*.

        Raises:
            BundleError: what was exported does not compute what torch computes.
        """
        from models.bundle import ranker_export  # noqa: PLC0415

        return ranker_export.export(self.model, rows) if self.is_ready else {}

    def state(self) -> dict[str, np.ndarray]:
        """Return everything a restart needs."""
        return {f"model.{name}": array for name, array in self.model.state().items()} | {
            "num_by_label": np.array(self._num_by_label, np.int64),
            "loss": np.array([self._loss if np.isfinite(self._loss) else 0.0]),
            "recent_user": np.array([row[0] for row in self._recent], np.uint64),
            "recent": np.array([row[1:] for row in self._recent], np.float64).reshape(-1, 6),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned; in checkpoints of before 0.3 measures begin anew.

        Raises:
            ValueError: it is of another configuration.
        """
        self.model.load_state(
            {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}
        )
        self._num_by_label = arrays["num_by_label"].tolist()
        self._loss = float(arrays["loss"][0])
        if "recent" in arrays:
            users, values = arrays["recent_user"].tolist(), arrays["recent"].tolist()
            self._recent.extend(
                (user, p, bool(is_watched), *rest)
                for user, (p, is_watched, *rest) in zip(users, values, strict=True)
            )
        for upload in self._vocabulary.uploads:
            self.upload(upload)

    def _fits(self, example: RankingExample) -> bool:
        sizes = len(example.context), len(example.candidate)
        wanted = 4 * len(CONTEXT_FEATURES), 4 * len(CANDIDATE_FEATURES)
        is_known = self._vocabulary.live_row(example.video_id) > 0
        return is_known and example.feature_version == VERSION and sizes == wanted

    def _inputs(
        self, examples: Sequence[RankingExample]
    ) -> tuple[RankerRequests, RankerCandidates]:
        keys = [(one.context, one.history, one.history_completed) for one in examples]
        number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        row_of = self._row_of_point
        row_BT, completed_BT = padded_histories(
            [
                np.array([row_of.get(p, 0) for p in np.frombuffer(h, "<i8").tolist()], np.int64)
                for _, h, _ in number_of
            ],
            [np.frombuffer(is_completed, np.uint8) > 0 for _, _, is_completed in number_of],
            most=MAX_HISTORY,
        )
        context_BU = np.stack([np.frombuffer(context, "<f4") for context, _, _ in number_of])
        request_M = np.array([number_of[key] for key in keys], np.int64)
        features_MF = np.stack([np.frombuffer(one.candidate, "<f4") for one in examples])
        rows = self._vocabulary.rows([one.video_id for one in examples]).astype(np.int64)
        position_M = np.array([one.position for one in examples], np.float32)
        return (
            RankerRequests(row_BT, completed_BT, _finite(context_BU)),
            RankerCandidates(request_M, rows, _finite(features_MF), position_M),
        )

    def _count(
        self,
        examples: Sequence[RankingExample],
        row_n: Int64[np.ndarray, "n"],
        surface_n: Int64[np.ndarray, "n"],
    ) -> None:
        time_ms_n = np.array([one.event_time_ms for one in examples], np.int64)
        is_watched_n = np.array([one.is_watched for one in examples], np.bool_)
        is_first_n = np.array([not one.is_late for one in examples], np.bool_)
        count = self._popularity.count_impressions
        for which, watched in ((is_first_n, False), (is_watched_n, True)):
            count(row_n[which], time_ms_n[which], surface_n[which], watched=watched)
        for is_watched in is_watched_n.tolist():
            self._num_by_label[is_watched] += 1


def _hashed(user_id: str) -> int:
    return xxhash.xxh3_64_intdigest(user_id.encode())


def _finite(values: np.ndarray) -> np.ndarray:
    """Return *values* bounded, as a new array: nothing from the wire is trusted."""
    bounded: np.ndarray = np.clip(np.nan_to_num(values, nan=-1.0), -1e12, 1e12).astype(np.float32)
    return bounded


def _gauc(users: np.ndarray, p: np.ndarray, is_watched: Bool[np.ndarray, "n"]) -> float:
    """Return the area under the curve within users, by their examples; 0.5 where there is none.

    Without a loop over users: 5 ms for 20,000 examples of 10,000 users, with one 119.
    """
    _, user_n = np.unique(users, return_inverse=True)
    order = np.lexsort((p, user_n))
    user_n, p_n, is_watched_n = user_n[order], p[order], is_watched[order]
    num_U = np.bincount(user_n)
    watched_U = np.bincount(user_n, is_watched_n)
    rank_n = _ranks(user_n, p_n) - (np.cumsum(num_U) - num_U)[user_n]
    won_U = np.bincount(user_n, rank_n * is_watched_n) - watched_U * (watched_U + 1) / 2
    has_both_U = (watched_U > 0) & (watched_U < num_U)
    num, watched, won = num_U[has_both_U], watched_U[has_both_U], won_U[has_both_U]
    if not num.size:
        return 0.5
    return float(np.average(won / (watched * (num - watched)), weights=num))


def _ranks(user_n: Int64[np.ndarray, "n"], p_n: np.ndarray) -> Float64[np.ndarray, "n"]:
    """Return ranks, from 1, of scores in the order of user and score; equal ones share theirs."""
    is_new_n = (np.diff(user_n, prepend=-1) != 0) | (np.diff(p_n, prepend=np.nan) != 0)
    start_R = np.flatnonzero(is_new_n)
    end_R = np.append(start_R[1:], len(p_n))
    rank_R = (start_R + 1 + end_R) / 2
    return np.repeat(rank_R, end_R - start_R)
