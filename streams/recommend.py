"""One event from window to recommendation. Read this file first.

A batch of users goes through the same stations as one user would: encode the history
windows, find candidates, leave out what was seen, rank, keep the best. Every station is one
call for the whole batch. Nothing here knows Kafka, and the only thing waited for is the
vector index, with bounded patience.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

import numpy as np
from jaxtyping import Float32, Int64

from contract.clock import Clock
from contract.events import Recommendation, RecommendedVideo
from models.history import Window
from streams.retrieval import TRENDING, Candidates, Retrieval
from streams.serving import Serving, Switch

# Shape legend: B = users of the batch, C = candidates (padded with row 0), D = vector width.
ARM = "default"
NO_BUNDLE = "no_bundle"


@dataclass(frozen=True, slots=True)
class Request:
    """One user whose window has changed; *event_ids* caused it, each wants an answer."""

    user_id: str
    window: Window
    event_ids: Sequence[str]


class Recommender:
    """Answers requests from the serving in use."""

    def __init__(
        self, switch: Switch, retrieval: Retrieval, *, num_recommended: int, clock: Clock
    ) -> None:
        self._switch = switch
        self._retrieval = retrieval
        self._num_recommended = num_recommended
        self._clock = clock

    def recommend(self, requests: Sequence[Request]) -> list[Recommendation]:
        """Return one recommendation for each event of each request, in order."""
        with self._switch.lock:
            return self._recommend(requests)

    def _recommend(self, requests: Sequence[Request]) -> list[Recommendation]:
        serving = self._switch.current
        if serving is None or not requests:
            return self._answers(requests, None, [[] for _ in requests], [NO_BUNDLE])
        windows = [request.window for request in requests]
        now_ms = [window.newest_ms for window in windows]
        vectors_BD = serving.encoder.encode(windows, serving.items, now_ms)
        seen = [serving.items.rows(window.video_ids) for window in windows]
        candidates = self._retrieval.candidates(serving, vectors_BD, seen)
        lists = self._ranked(serving, vectors_BD, candidates)
        return self._answers(requests, serving, lists, candidates.degraded)

    def _ranked(
        self,
        serving: Serving,
        vectors_BD: Float32[np.ndarray, "B D"],
        candidates: Candidates,
    ) -> list[list[RecommendedVideo]]:
        """Return the best of each user's candidates, best first."""
        rows_BC = _padded(candidates.rows)
        similarity_BC = (serving.items.outputs_ND[rows_BC] @ vectors_BD[:, :, None])[:, :, 0]
        expected_ms_BC, score_BC = serving.ranker.rank(similarity_BC, rows_BC, serving.items)
        order_BK = np.argsort(-score_BC, axis=1, kind="stable")[:, : self._num_recommended]
        lists = []
        for user, order in enumerate(order_BK):
            lists.append(
                [
                    RecommendedVideo(
                        video_id=video_id,
                        expected_watch_ms=round(float(expected_ms_BC[user, column]), 1),
                        score=round(float(score_BC[user, column]), 6),
                        source=(
                            candidates.source if column < candidates.num_near[user] else TRENDING
                        ),
                    )
                    for column in order.tolist()
                    if (video_id := serving.items.video_id(int(rows_BC[user, column])))
                ]
            )
        return lists

    def _answers(
        self,
        requests: Sequence[Request],
        serving: Serving | None,
        lists: list[list[RecommendedVideo]],
        degraded: list[str],
    ) -> list[Recommendation]:
        bundle_id = serving.bundle_id if serving else None
        now_ms = self._clock()
        return [
            Recommendation(
                recommendation_id=recommendation_id(request.user_id, [event_id], bundle_id),
                user_id=request.user_id,
                generated_at_ms=now_ms,
                caused_by=[event_id],
                bundle_id=bundle_id,
                generation=serving.generation if serving else 0,
                arm=ARM,
                items=items,
                degraded=degraded,
            )
            for request, items in zip(requests, lists, strict=True)
            for event_id in request.event_ids
        ]


def recommendation_id(user_id: str, event_ids: Sequence[str], bundle_id: str | None) -> str:
    """Return the id that any re-delivery of the same recommendation bears, too."""
    named = "\n".join([user_id, bundle_id or "", *sorted(event_ids)])
    return str(UUID(bytes=blake2b(named.encode(), digest_size=16).digest()))


def _padded(rows: Sequence[Int64[np.ndarray, "C"]]) -> Int64[np.ndarray, "B C"]:
    width = max((len(mine) for mine in rows), default=0)
    padded = np.zeros((len(rows), max(width, 1)), dtype=np.int64)
    for index, mine in enumerate(rows):
        padded[index, : len(mine)] = mine
    return padded
