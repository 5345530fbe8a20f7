"""The job that every peer does, without a framework: from an event to a recommendation.

A user of another framework has the models, the bundle and the index's client of this project
as a library, and writes what is here: fold the event into the window, encode it, ask the
index for the nearest videos, leave out what was seen, rank, keep the best. One event at a
time, as these frameworks hand them over.

Where there was a choice it fell in the peers' favour: windows are kept in the project's compact
records rather than as JSON, events are decoded without the checks a production worker owes,
nothing is degraded, and no candidates are added to those of the index.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from contract.process.clock import Clock
from contract.wire.events import Recommendation, RecommendedVideo, Watch, encode
from contract.wire.words import ANN, DEFAULT_ARM
from models.bundle import bundle as bundles
from models.history import codec as history_codec
from models.history import history
from models.history.history import Window, WindowPolicy
from models.serving.candidates import encode as encode_windows
from models.serving.candidates import rank_candidates
from streams.serving import generation as serving_module
from streams.serving.generation import Serving
from streams.serving.index import IndexClient
from streams.serving.recommend import recommendation_id

# Shape legend: C = candidates of the one user, D = width of a vector.

NUM_CANDIDATES = 200
NUM_RECOMMENDED = 20
_POLICY = WindowPolicy()
_EVENT = msgspec.json.Decoder(Watch)


@dataclass(frozen=True, slots=True)
class Job:
    """The loaded bundle and the index client; keeps no state of users."""

    serving: Serving
    index: IndexClient
    clock: Clock

    @classmethod
    def of(
        cls,
        bundle_url: str,
        manifest_sha256: str,
        *,
        index: IndexClient,
        collection_prefix: str,
        clock: Clock,
    ) -> "Job":
        """Load the bundle at *bundle_url*."""
        bundle = bundles.load(bundle_url, manifest_sha256=manifest_sha256)
        return cls(serving_module.load(bundle, collection_prefix=collection_prefix), index, clock)

    def answer(self, event: Watch, window: Window) -> bytes:
        """Return the recommendation for the user of *event*, as it goes on the wire."""
        serving, items = self.serving, self.serving.items
        vector_1D = encode_windows([window], serving.encoder, items)
        (points,) = self.index.nearest(serving.collection, vector_1D, NUM_CANDIDATES)
        rows_1C = self._unseen(points, window)[None]
        ranked = rank_candidates([window], vector_1D, rows_1C, items, serving.ranker)
        videos = [
            RecommendedVideo(
                video_id=items.video_id(row),
                expected_watch_ms=round(expected_ms, 1),
                score=round(score, 6),
                source=ANN,
            )
            for row, expected_ms, score in zip(
                ranked.rows_BC[0, :NUM_RECOMMENDED].tolist(),
                ranked.expected_ms_BC[0, :NUM_RECOMMENDED].tolist(),
                ranked.score_BC[0, :NUM_RECOMMENDED].tolist(),
                strict=True,
            )
        ]
        return self._encoded(event, videos)

    def _unseen(self, points: list[int], window: Window) -> np.ndarray:
        seen = set(window.video_ids)
        items = self.serving.items
        rows = self.serving.points.rows(points).tolist()
        return np.array([row for row in rows if row and items.video_id(row) not in seen])

    def _encoded(self, event: Watch, videos: list[RecommendedVideo]) -> bytes:
        bundle_id = self.serving.bundle_id
        return encode(
            Recommendation(
                recommendation_id=recommendation_id(event.user_id, [event.event_id], bundle_id),
                user_id=event.user_id,
                generated_at_ms=self.clock(),
                caused_by=[event.event_id],
                bundle_id=bundle_id,
                generation=self.serving.generation,
                arm=DEFAULT_ARM,
                items=videos,
            )
        )


def event_of(value: bytes) -> Watch:
    """Return the watch event in *value*."""
    return _EVENT.decode(value)


def folded(record: bytes | None, event: Watch) -> Window:
    """Return the window in *record*, if there is one, with *event* folded in."""
    window = history_codec.decode(record) if record else history.EMPTY
    return history.fold(window, [event], _POLICY)
