"""Count watches of each video, for the ranking features and the popularity baseline.

A decayed count is a number of watches, each worth half as much for every half-life that has
passed since. Time is event time: a replayed log gives the numbers of the day it was recorded,
and late events fall into place. Instead of ageing every counter, each watch is added with a
weight that grows with its time (forward decay), so the order of arrival does not matter and
nothing is touched but the video that was watched.

There are three clocks. The ranking features go by the live one, of hours: all watches, and
which share of them was completed, since unfinished watches, too, say how often a video comes
up, and there are more of them. The baseline that progressive validation has to beat goes by the
slow one, of a day: completed watches alone, as the field reports it. Watch rate and watch lift,
which rankers read, go by the third one, of a week: impressions and those that were watched.

The watch lift of a video is how often it was watched by how often its impressions would be watched
if every video of a surface were alike. Most surfaces have rates of their own, so that the rate of a
video says first of all where it was shown. Measured on KuaiRand, 29 and 30 April, as the order
within a user (GAUC): watch rate .616, counters by video and surface .637, lift by surface rate
.639; with a half-life of 48 hours .613, .631 and .635.
Measured on the first 60,000 watches of KuaiRand (25 April) by ``python -m
benchmarks.progressive``: recall@20 of the served order .115 with a live half-life of 24 h,
.119 with 6 h, .122 with 3 h; of the baseline .112. Tuned on these very rows.

Source:
    Cormode, Shkapenyuk, Srivastava, Xu, Forward Decay: A Practical Time Decay Model for
    Streaming Systems, ICDE 2009, https://doi.org/10.1109/ICDE.2009.65
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer

from contract.wire.events import VideoUpload
from models.features.growth import FIRST_CAPACITY, grown
from models.features.ranking_features import NUM_CODES, content_codes
from models.features.vocabulary import Vocabulary
from models.history.history import DAY_MS
from models.serving.items import RANKING_FEATURE_NAMES
from models.serving.ranking import mean_known

# Shape legend: N = rows (row 0 is the unknown video), n = some rows, F = ranking features,
# S = codes of surfaces.

SMOOTHING_WATCHES = 5.0
"""A video's mean watch time counts as if it had this many average watches besides its own."""
SMOOTHING_RECENT = 10.0
"""The same for the share of completed watches, in decayed watches."""
SMOOTHING_IMPRESSIONS = 20.0
"""The same for the share of watched impressions, in decayed impressions."""
IMPRESSIONS_HALF_LIFE_MS = 7 * DAY_MS
"""Rates need more events than counts do, so they look further back."""
SURFACE_HALF_LIFE_MS = 2 * DAY_MS
SMOOTHING_SURFACE = 5.0
"""A surface counts as if it had this many average impressions besides its own."""

_MAX_HALF_LIVES = 32.0  # beyond it the weights are scaled down: float64 has 53 bits
_CODES = ("channel", "category", "tag", "language")
_SHOWN = ("shown", "shown_watched", "shown_expected")
_SURFACES = ("surface_shown", "surface_watched")
_COLUMNS = (
    *("baseline", "recent", "recent_completed", *_SHOWN),
    *("num_watches", "watch_ms", "duration_ms", "uploaded_at_ms"),
)


class Viewing(NamedTuple):
    """One watch of a known video, as the counters need it.

    One that is not *is_first* is of a user who has counted for the video already: it counts as
    completed, and its watch time is added to that user's. *is_completed* is true of the first
    completed one alone.
    """

    video_id: str
    event_time_ms: int
    watch_ms: int
    is_completed: bool
    is_first: bool = True


class _Decay:
    """The weight of a watch relative to a landmark, which moves before a float overflows."""

    def __init__(self, half_life_ms: float) -> None:
        self._half_life_ms = half_life_ms
        self.landmark_ms = 0

    def weights(self, times_ms: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """Return the weights of watches at these times."""
        return np.exp2((times_ms - self.landmark_ms) / self._half_life_ms)

    def scale(self, now_ms: int) -> float:
        """Return by what a sum of weights is multiplied to be a decayed count at *now_ms*."""
        return float(np.exp2((self.landmark_ms - now_ms) / self._half_life_ms))

    def is_far(self, now_ms: int) -> bool:
        """Return whether the landmark should be moved to *now_ms*."""
        return now_ms - self.landmark_ms > _MAX_HALF_LIVES * self._half_life_ms


class Popularity:
    """Counters by row of *vocabulary*."""

    def __init__(
        self, vocabulary: Vocabulary, *, half_life_ms: float, live_half_life_ms: float
    ) -> None:
        self.vocabulary = vocabulary
        self._slow = _Decay(half_life_ms)
        self._live = _Decay(live_half_life_ms)
        self._shown = _Decay(IMPRESSIONS_HALF_LIFE_MS)
        self._surface = _Decay(SURFACE_HALF_LIFE_MS)
        self._surfaces = {name: np.zeros(NUM_CODES + 1) for name in _SURFACES}
        self._columns = {name: np.zeros(FIRST_CAPACITY) for name in (*_COLUMNS, *_CODES)}
        self._newest_ms = 0
        self._decays = (
            (self._slow, ("baseline",)),
            (self._live, ("recent", "recent_completed")),
            (self._shown, _SHOWN),
            (self._surface, _SURFACES),
        )
        vocabulary.when_freed(self._forget_rows)

    def add(self, upload: VideoUpload) -> None:
        """Note duration, upload time and content of a video of the vocabulary."""
        row = self.vocabulary.row(upload.video_id)
        self._column("duration_ms")[row] = upload.duration_ms
        self._column("uploaded_at_ms")[row] = upload.uploaded_at_ms
        self._note_codes(upload)

    def duration_ms(self, video_id: str) -> int:
        """Return the duration of a video by its upload, 0 where it is not known."""
        return int(self._column("duration_ms")[self.vocabulary.row(video_id)])

    def count(self, viewings: Iterable[Viewing]) -> None:
        """Count these watches; those of unknown videos are left out."""
        known = [(self.vocabulary.row(viewing.video_id), viewing) for viewing in viewings]
        known = [(row, viewing) for row, viewing in known if row]
        if not known:
            return
        rows = np.array([row for row, _ in known])
        times_ms = np.array([viewing.event_time_ms for _, viewing in known], np.float64)
        completed = np.array([float(viewing.is_completed) for _, viewing in known])
        first = np.array([float(viewing.is_first) for _, viewing in known])
        watch_ms = np.array([float(viewing.watch_ms) for _, viewing in known])
        self._move_to(int(times_ms.max()))
        recent = self._live.weights(times_ms)
        np.add.at(self._column("baseline"), rows, self._slow.weights(times_ms) * completed)
        np.add.at(self._column("recent"), rows, recent * first)
        np.add.at(self._column("recent_completed"), rows, recent * completed)
        np.add.at(self._column("num_watches"), rows, first)
        np.add.at(self._column("watch_ms"), rows, watch_ms)

    def count_impressions(
        self,
        rows: Integer[np.ndarray, "n"],
        times_ms: Integer[np.ndarray, "n"],
        surfaces: Integer[np.ndarray, "n"],
        *,
        watched: bool,
    ) -> None:
        """Count impressions, or those that were *watched*, on surfaces of these codes.

        Those of row 0 are left out. What is watched has been counted as an impression before.
        """
        is_known = rows > 0
        if not is_known.any():
            return
        rows, surfaces = rows[is_known], surfaces[is_known]
        times_ms = times_ms[is_known].astype(np.float64)
        self._move_to(int(times_ms.max()))
        weights = self._shown.weights(times_ms)
        if watched:
            np.add.at(self._column("shown_watched"), rows, weights)
        else:
            np.add.at(self._column("shown"), rows, weights)
            expected = weights * self.surface_rate_S[surfaces]
            np.add.at(self._column("shown_expected"), rows, expected)
        name = "surface_watched" if watched else "surface_shown"
        np.add.at(self._surfaces[name], surfaces, self._surface.weights(times_ms))

    def turn_back(self, now_ms: int, *, latest_ms: int) -> bool:
        """Set the clocks to *now_ms* if they stand after *latest_ms*; return whether they did.

        A count stays what it had decayed to.
        """
        if self._newest_ms <= latest_ms:
            return False
        for decay, names in self._decays:
            for name in names:
                self._counts(name)[:] *= decay.scale(self._newest_ms)
            decay.landmark_ms = now_ms
        self._newest_ms = now_ms
        return True

    @property
    def baseline_N(self) -> Float64[np.ndarray, "N"]:
        """The slowly decayed count of completed watches at the newest event time, by row."""
        return self._column("baseline") * self._slow.scale(self._newest_ms)

    @property
    def popularity_N(self) -> Float64[np.ndarray, "N"]:
        """The live decayed count of all watches at the newest event time, by row."""
        return self._column("recent") * self._live.scale(self._newest_ms)

    @property
    def mean_watch_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The smoothed mean watch time, by row; 0 where there is no watch yet.

        Before it is smoothed it is the duration at most: who watched a part and then the whole has
        two viewings, and counts once.
        """
        count_N, duration_N = self._column("num_watches"), self._column("duration_ms")
        most_N = np.where(duration_N > 0, count_N * duration_N, np.inf)
        total_N = np.minimum(self._column("watch_ms"), most_N)
        smoothed_N = _smoothed(total_N, count_N, SMOOTHING_WATCHES)
        return np.where(count_N > 0, smoothed_N, 0.0)

    @property
    def completion_rate_N(self) -> Float64[np.ndarray, "N"]:
        """The smoothed recent share of completed watches, by row; the average where none is."""
        scale = self._live.scale(self._newest_ms)
        completed_N, watches_N = self._column("recent_completed"), self._column("recent")
        return _smoothed(completed_N * scale, watches_N * scale, SMOOTHING_RECENT)

    @property
    def mean_completion_rate(self) -> float:
        """The mean of the completion rates that are known; 1 where none is."""
        return mean_known(self.completion_rate_N)

    @property
    def duration_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The length of the video, by row."""
        return self._column("duration_ms")

    @property
    def uploaded_at_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The time of the upload, by row."""
        return self._column("uploaded_at_ms")

    @property
    def impressions_N(self) -> Float64[np.ndarray, "N"]:
        """The decayed count of impressions at the newest event time, by row."""
        return self._column("shown") * self._shown.scale(self._newest_ms)

    @property
    def watch_rate_N(self) -> Float64[np.ndarray, "N"]:
        """The smoothed share of watched impressions, by row; the average where none is."""
        watched_N = self._column("shown_watched") * self._shown.scale(self._newest_ms)
        rate_N: np.ndarray = _smoothed(watched_N, self.impressions_N, SMOOTHING_IMPRESSIONS)
        bounded_N: np.ndarray = np.minimum(rate_N, 1.0)
        return bounded_N

    @property
    def watch_lift_N(self) -> Float64[np.ndarray, "N"]:
        """The smoothed watched impressions by those expected on their surfaces, by row."""
        scale = self._shown.scale(self._newest_ms)
        prior = SMOOTHING_IMPRESSIONS * self._mean_surface_rate
        watched_N, expected_N = self._column("shown_watched"), self._column("shown_expected")
        lift_N: np.ndarray = (watched_N * scale + prior) / (expected_N * scale + prior)
        return lift_N

    @property
    def surface_rate_S(self) -> Float64[np.ndarray, "S"]:
        """The smoothed watch rate of each surface, by its code."""
        scale = self._surface.scale(self._newest_ms)
        prior = SMOOTHING_SURFACE * self._mean_surface_rate
        watched_S, shown_S = (self._surfaces[name] * scale for name in reversed(_SURFACES))
        return np.minimum((watched_S + prior) / (shown_S + SMOOTHING_SURFACE), 1.0)

    @property
    def _mean_surface_rate(self) -> float:
        """The watch rate of all surfaces together, about a half while little is known."""
        scale = self._surface.scale(self._newest_ms)
        shown, watched = (self._surfaces[name].sum() * scale for name in _SURFACES)
        return float(min((watched + 1.0) / (shown + 2.0), 1.0))

    @property
    def channel_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the channel, by row; 0 where it has none."""
        return self._column("channel")

    @property
    def category_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the category, by row; 0 where it has none."""
        return self._column("category")

    @property
    def tag_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the first tag, by row; 0 where it has none."""
        return self._column("tag")

    @property
    def language_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the language, by row; 0 where it is not known."""
        return self._column("language")

    def features(self, rows: Integer[np.ndarray, "n"]) -> Float64[np.ndarray, "n F"]:
        """Return the ranking features of these rows, columns as `RANKING_FEATURE_NAMES`."""
        columns = [getattr(self, f"{name}_N")[rows] for name in RANKING_FEATURE_NAMES]
        return np.stack(columns, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Return the counters, for a checkpoint; the vocabulary is kept beside them."""
        times = [decay.landmark_ms for decay, _ in self._decays] + [self._newest_ms]
        return {"times_ms": np.array(times, np.int64)} | {
            name: self._counts(name).copy() for name in (*_COLUMNS, *_SURFACES)
        }

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned of the same vocabulary.

        Raises:
            ValueError: an array is missing, or is not of this vocabulary.
        """
        *landmarks_ms, self._newest_ms = map(int, arrays["times_ms"])
        num_missing = len(self._decays) - len(landmarks_ms)  # 0.2 counted no impressions
        landmarks_ms += [self._newest_ms] * num_missing
        for (decay, _), landmark_ms in zip(self._decays, landmarks_ms, strict=True):
            decay.landmark_ms = landmark_ms
        for name in (*_COLUMNS, *_SURFACES):
            if name in arrays or name not in _SHOWN + _SURFACES:
                self._counts(name)[:] = arrays[name]
        for upload in self.vocabulary.uploads:
            self._note_codes(upload)

    def _forget_rows(self, rows: Integer[np.ndarray, "n"]) -> None:
        for column_N in self._columns.values():
            column_N[rows[rows < len(column_N)]] = 0.0

    def _note_codes(self, upload: VideoUpload) -> None:
        row = self.vocabulary.row(upload.video_id)
        for name, code in content_codes(upload).items():
            self._column(name)[row] = code

    def _counts(self, name: str) -> Float64[np.ndarray, "n"]:
        return self._surfaces[name] if name in _SURFACES else self._column(name)

    def _column(self, name: str) -> Float64[np.ndarray, "N"]:
        num_rows = len(self.vocabulary) + 1
        self._columns[name] = grown(self._columns[name], num_rows)
        return self._columns[name][:num_rows]

    def _move_to(self, time_ms: int) -> None:
        if not self._newest_ms:
            for decay, _ in self._decays:
                decay.landmark_ms = time_ms
        self._newest_ms = max(self._newest_ms, time_ms)
        for decay, names in self._decays:
            if decay.is_far(self._newest_ms):
                for name in names:
                    self._counts(name)[:] *= decay.scale(self._newest_ms)
                decay.landmark_ms = self._newest_ms


def _smoothed(
    total_N: Float64[np.ndarray, "N"], count_N: Float64[np.ndarray, "N"], smoothing: float
) -> Float64[np.ndarray, "N"]:
    """Return totals by counts, each row with *smoothing* average counts besides its own."""
    average = total_N.sum() / max(count_N.sum(), 1e-9)
    smoothed_N: np.ndarray = (total_N + smoothing * average) / (count_N + smoothing)
    return smoothed_N
