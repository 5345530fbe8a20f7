"""Tell which version of which vector an answer was made of, and so when a watch was served.

A vector says itself how many users its video had: the longest of the live counters decays so
slowly that its number of watches can be read from the component. So it is known which record of
`item-vectors` is the first with the *n*-th watch of a video.

An answer says what it was made of, too: `ranking-log` has the features that its videos were ranked
by, and those of each version are different. A worker applies the records of a partition in their
order. So an answer with the version of offset *o* was made from everything up to *o*, whichever
video it is of. Of a new generation an answer has at least what the bundle has.

Both are what the processes do by default; nothing is switched on for the measurement. What it says
is an upper bound: a version was in use a little before the first answer that shows it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from contract.wire.events import ItemVector, RankingLog
from models.features.ranking_features import VIDEO_FEATURES, video_features
from models.serving.items import ItemSnapshot, ItemStore
from models.serving.live_signals import MAX_NORM, NUM_SIGNALS, PRIORS, SCALE, SIGNALS

# Shape legend: N = videos, E = width of a served vector, n = some vectors.

_SLOWEST = SIGNALS.index("watches_720h")
_FROM_END = NUM_SIGNALS + 1 - _SLOWEST
_IN_BUNDLE = -1
"""The offset of what came with the bundle: before all records."""


def num_watches(output_nE: Float[np.ndarray, "n E"]) -> Float64[np.ndarray, "n"]:
    """Return how many users had watched each video when its vector was made."""
    signal_n = output_nE[:, -_FROM_END].astype(np.float64) * MAX_NORM / SCALE
    count_n: np.ndarray = np.round(PRIORS[-1] * np.expm1(signal_n))
    return count_n


class _Counted(NamedTuple):
    """The records of one video in one generation: their offsets, and the watches they know of."""

    offsets: list[int]
    times_ms: list[float]
    counts: list[float]

    def first_with(self, count: int) -> int | None:
        """Return the place of the first record that knows of *count* watches."""
        return next((place for place, known in enumerate(self.counts) if known >= count), None)


class ServedVersions:
    """What answers show of the vectors that there were."""

    def __init__(self) -> None:
        self._offset_by_version: dict[tuple[int, str, bytes], int] = {}
        self._records: dict[str, dict[int, _Counted]] = defaultdict(dict)
        self._in_bundle: dict[str, dict[int, float]] = defaultdict(dict)
        self._frontier: dict[int, tuple[list[int], list[float]]] = {}
        self._first_answer_ms: dict[int, float] = {}
        self._items: dict[int, ItemStore] = {}
        self.num_vectors = 0
        self.num_unknown = 0
        """Videos of answers whose version is none that is known."""

    def add_bundle(self, generation: int, snapshot: ItemSnapshot) -> None:
        """Add what came with the bundle of *generation*."""
        items = ItemStore(snapshot.input_ND.shape[1], snapshot.output_ND.shape[1])
        items.put_many(snapshot)
        features_NF = video_features(items, items.rows(snapshot.video_ids))
        counts = num_watches(snapshot.output_ND).tolist()
        for video_id, features_F, count in zip(
            snapshot.video_ids, features_NF, counts, strict=True
        ):
            self._offset_by_version[generation, video_id, features_F.tobytes()] = _IN_BUNDLE
            self._in_bundle[video_id][generation] = count

    def add_vector(self, offset: int, at_ms: float, vector: ItemVector) -> None:
        """Add a record of `item-vectors`, in the order of the offsets."""
        if vector.generation not in self._items:
            dims = len(vector.input_vector), len(vector.output_vector)
            self._items[vector.generation] = ItemStore(*dims)
        items = self._items[vector.generation]
        items.put(vector)
        row = np.array([items.row(vector.video_id)])
        key = vector.generation, vector.video_id, video_features(items, row).tobytes()
        self._offset_by_version.setdefault(key, offset)
        known = self._records[vector.video_id].setdefault(vector.generation, _Counted([], [], []))
        known.offsets.append(offset)
        known.times_ms.append(at_ms)
        known.counts.append(float(num_watches(items.outputs_ND[row])[0]))
        self.num_vectors += 1

    def add_answer(self, at_ms: float, log: RankingLog) -> None:
        """Add an answer, in the order of their times, after all vectors."""
        rows = len(log.video_ids)
        if not rows:
            return
        features_KF = np.frombuffer(log.candidates, "<f4").reshape(rows, -1)
        features_KF = features_KF[:, -len(VIDEO_FEATURES) :]
        shown = [
            self._offset_by_version.get((log.generation, video_id, features_F.tobytes()))
            for video_id, features_F in zip(log.video_ids, features_KF, strict=True)
        ]
        known = [offset for offset in shown if offset is not None]
        self.num_unknown += rows - len(known)
        self._first_answer_ms.setdefault(log.generation, at_ms)
        offsets, times_ms = self._frontier.setdefault(log.generation, ([], []))
        newest = max(known, default=_IN_BUNDLE)
        if not offsets or newest > offsets[-1]:
            offsets.append(newest)
            times_ms.append(at_ms)

    def served_ms(self, video_id: str, count: int) -> float:
        """Return when the first answer knew of the watch number *count* of a video; else inf."""
        found = [
            self._first_answer_ms.get(generation, np.inf)
            for generation, known in self._in_bundle.get(video_id, {}).items()
            if known >= count
        ]
        for generation, records in self._records.get(video_id, {}).items():
            place = records.first_with(count)
            if place is not None:
                found.append(self._reached_ms(generation, records.offsets[place]))
        return float(min(found, default=np.inf))

    def published_ms(self, video_id: str, count: int) -> float:
        """Return when the first record knew of the watch number *count* of a video; else inf."""
        records = self._records.get(video_id, {}).values()
        places = [(one, place) for one in records if (place := one.first_with(count)) is not None]
        return min((one.times_ms[place] for one, place in places), default=np.inf)

    def _reached_ms(self, generation: int, offset: int) -> float:
        offsets, times_ms = self._frontier.get(generation, ([], []))
        place = bisect_left(offsets, offset)
        return times_ms[place] if place < len(offsets) else np.inf


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return p50 and p99 of *values*, infinite ones included; None for what is infinite."""
    if not len(values):
        return {"p50": None, "p99": None}
    ordered = np.sort(np.asarray(values, np.float64))
    found = {
        name: float(ordered[min(len(ordered) - 1, int(np.ceil(share * len(ordered))) - 1)])
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    return {name: round(value, 3) if np.isfinite(value) else None for name, value in found.items()}
