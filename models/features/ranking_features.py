"""Compute what rankers read of a request and of each of its candidates, for training and serving.

All values are raw: counts, shares, seconds, codes. How they are normalised belongs to the weights
of a ranker, so a logged value stays good for the next one. Whatever is not known is `UNKNOWN`.
Times count back from the time of the request, never from the wall clock.

The history with a channel, a category or a tag is that of the user's window: how many of its videos
are of it, which share of them was watched, and how long ago the newest was.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4.1,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import xxhash
from jaxtyping import Float, Float32, Float64, Int64, Integer

from contract.points import POINT_BYTES
from contract.wire.events import VideoUpload
from models.features.examples import USUAL_DURATION_MS
from models.history.history import Window

# Shape legend: B = requests, M = candidates of all requests, H = watches of all windows,
# S = videos shown to all users, once for each time, K = distinct keys, N = rows of the item
# store, U = features of a request, F = features of a candidate.

VERSION = 1
"""Logged features and rankers say which version they are of; another one is refused."""

CONTEXT_FEATURES = (
    *("hour", "weekday", "country", "language", "device", "surface"),
    *("num_watches", "watch_share", "num_shown", "since_last_watch_s"),
)
"""What is the same for all candidates of a request; the first two are of UTC."""

PAIR_FEATURES = (
    *("similarity", "source"),
    *("channel_watches", "channel_watch_share", "since_channel_s"),
    *("category_watches", "category_watch_share", "since_category_s"),
    *("tag_watches", "tag_watch_share", "since_tag_s"),
    *("video_watches", "since_watch_s", "video_impressions", "since_impression_s"),
    *("age_s", "language_match"),
)
"""What depends on request and video."""

VIDEO_FEATURES = (
    *(
        "duration_s",
        "impressions",
        "watches",
        "watch_rate",
        "watch_lift",
        "completion_rate",
        "mean_watch_s",
    ),
)
"""What depends on the video alone, at this moment."""

CANDIDATE_FEATURES = PAIR_FEATURES + VIDEO_FEATURES
CODED = ("country", "language", "device", "surface", "source")
"""Names of something: hashed codes, of which neither order nor distance means anything."""

UNKNOWN = -1.0
NUM_CODES = 1_021
"""Codes of `CODED` are 1 to this number, 0 for what is not known."""
_DAY_S, _HOUR_S = 86_400, 3_600
_THURSDAY = 3  # weekday of the epoch, from Monday
_KEY_BITS = 32


@runtime_checkable
class VideoColumns(Protocol):
    """The columns of videos that rankers read, by row; see `models.serving.items.ItemStore`."""

    @property
    def popularity_N(self) -> Float[np.ndarray, "N"]:
        """The decayed watch count."""
        ...

    @property
    def completion_rate_N(self) -> Float[np.ndarray, "N"]:
        """The share of watches that were completed, 0 where it is not known."""
        ...

    @property
    def mean_watch_ms_N(self) -> Float[np.ndarray, "N"]:
        """The mean watch time, 0 where there is no watch yet."""
        ...

    @property
    def duration_ms_N(self) -> Float[np.ndarray, "N"]:
        """The length of the video, 0 where it is not known."""
        ...

    @property
    def uploaded_at_ms_N(self) -> Float[np.ndarray, "N"]:
        """The time of the upload."""
        ...

    @property
    def impressions_N(self) -> Float[np.ndarray, "N"]:
        """The decayed count of impressions."""
        ...

    @property
    def watch_rate_N(self) -> Float[np.ndarray, "N"]:
        """The share of impressions that were watched."""
        ...

    @property
    def watch_lift_N(self) -> Float[np.ndarray, "N"]:
        """By how much that share is above the one that these surfaces have on average."""
        ...

    @property
    def channel_N(self) -> Float[np.ndarray, "N"]:
        """The code of the channel."""
        ...

    @property
    def category_N(self) -> Float[np.ndarray, "N"]:
        """The code of the category."""
        ...

    @property
    def tag_N(self) -> Float[np.ndarray, "N"]:
        """The code of the first tag."""
        ...

    @property
    def language_N(self) -> Float[np.ndarray, "N"]:
        """The code of the language."""
        ...


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """The windows of some requests as columns, with the rows of what they hold.

    *watch_row_H* are the rows of the watched videos of all windows, *shown_row_S* those of
    the points of all their impressions, in their order.
    """

    windows: Sequence[Window]
    now_ms_B: Int64[np.ndarray, "B"]
    watch_row_H: Integer[np.ndarray, "H"]
    shown_row_S: Integer[np.ndarray, "S"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of some requests in one run, those of the first request first."""

    request_M: Integer[np.ndarray, "M"]
    row_M: Integer[np.ndarray, "M"]
    similarity_M: Float[np.ndarray, "M"]
    source_M: Integer[np.ndarray, "M"]


@dataclass(frozen=True, slots=True)
class RankingFeatureValues:
    """The raw values, columns as `CONTEXT_FEATURES` and `CANDIDATE_FEATURES`."""

    context_BU: Float32[np.ndarray, "B U"]
    candidate_MF: Float32[np.ndarray, "M F"]


def ranking_features(
    requests: RequestColumns, candidates: Candidates, items: VideoColumns
) -> RankingFeatureValues:
    """Return the raw features of *requests* and of their *candidates*."""
    history = _History.of(requests)
    candidate_MF = np.empty((len(candidates.row_M), len(CANDIDATE_FEATURES)), np.float32)
    num_pair = len(PAIR_FEATURES)
    _fill_pairs(candidate_MF[:, :num_pair], requests, history, candidates, items)
    candidate_MF[:, num_pair:] = video_features(items, candidates.row_M)
    return RankingFeatureValues(_context(requests, history), candidate_MF)


def video_features(
    items: VideoColumns, rows: Integer[np.ndarray, "M"]
) -> Float32[np.ndarray, "M F"]:
    """Return `VIDEO_FEATURES` of these rows."""
    duration_ms, mean_ms = items.duration_ms_N[rows], items.mean_watch_ms_N[rows]
    columns = (
        np.where(duration_ms > 0, duration_ms / 1_000, UNKNOWN),
        items.impressions_N[rows],
        items.popularity_N[rows],
        items.watch_rate_N[rows],
        items.watch_lift_N[rows],
        items.completion_rate_N[rows],
        np.where(mean_ms > 0, mean_ms / 1_000, UNKNOWN),
    )
    return np.stack(columns, axis=1).astype(np.float32)


@lru_cache(maxsize=65_536)
def code_of(text: str) -> int:
    """Return the code of a channel, category, tag or language, from 1 on; 0 for an empty text."""
    return (xxhash.xxh32_intdigest(text.encode()) >> 1) or 1 if text else 0


def content_codes(upload: VideoUpload) -> dict[str, int]:
    """Return the codes of what *upload* says of its video, by the fields of `RankingFeatures`."""
    return {
        "channel": code_of(upload.channel_id or ""),
        "category": code_of(upload.category or ""),
        "tag": code_of(upload.tags[0] if upload.tags else ""),
        "language": code_of(upload.language or ""),
    }


def small_code(text: str) -> int:
    """Return the code of one of `CODED`, from 1 to `NUM_CODES`; 0 for an empty text."""
    return code_of(text) % NUM_CODES + 1 if text else 0


@dataclass(frozen=True, slots=True)
class _History:
    """The watches of all windows in one run, oldest first within each."""

    size_B: Int64[np.ndarray, "B"]
    request_H: Int64[np.ndarray, "H"]
    share_H: Float64[np.ndarray, "H"]
    time_ms_H: Int64[np.ndarray, "H"]

    @classmethod
    def of(cls, requests: RequestColumns) -> "_History":
        entries = [entry for window in requests.windows for entry in window.watches]
        columns = tuple(zip(*entries, strict=True)) if entries else ((), (), (), (), ())
        duration_ms = np.array(columns[4], np.float64)
        length_ms = np.where(duration_ms > 0, duration_ms, USUAL_DURATION_MS)
        size_B = np.array([len(window.watches) for window in requests.windows], np.int64)
        return cls(
            size_B,
            np.repeat(np.arange(len(size_B)), size_B),
            np.minimum(np.array(columns[3], np.float64) / length_ms, 1.0),
            np.array(columns[0], np.int64),
        )


@dataclass(frozen=True, slots=True)
class _ByKey:
    """What a window holds under each key of a request: how often, and when last."""

    key_K: Int64[np.ndarray, "K"]
    count_K: Float64[np.ndarray, "K"]
    share_K: Float64[np.ndarray, "K"]
    newest_ms_K: Int64[np.ndarray, "K"]

    @classmethod
    def of(
        cls,
        request: Int64[np.ndarray, "H"],
        code: Integer[np.ndarray, "H"],
        share: Float64[np.ndarray, "H"],
        time_ms: Int64[np.ndarray, "H"],
    ) -> "_ByKey":
        """Sum up by request and code; code 0 is of nothing. Times go up within a request."""
        is_known = code > 0
        key = (request[is_known] << _KEY_BITS) + code[is_known]
        order = np.argsort(key, kind="stable")
        key = key[order]
        is_first = np.ones(len(key), np.bool_)
        is_first[1:] = key[1:] != key[:-1]
        starts = np.flatnonzero(is_first)
        counts = np.diff(np.append(starts, len(key)))
        shares = np.add.reduceat(share[is_known][order], starts) if len(key) else np.zeros(0)
        newest = time_ms[is_known][order][starts + counts - 1]
        return cls(key[starts], counts.astype(np.float64), shares / counts, newest)

    def find(
        self, request_M: Integer[np.ndarray, "M"], code_M: Integer[np.ndarray, "M"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where each (request, code) stands, and whether it does."""
        if not len(self.key_K):
            return np.zeros(len(code_M), np.int64), np.zeros(len(code_M), np.bool_)
        wanted_M = (request_M.astype(np.int64) << _KEY_BITS) + code_M
        place_M = np.minimum(np.searchsorted(self.key_K, wanted_M), len(self.key_K) - 1)
        return place_M, self.key_K[place_M] == wanted_M


def _fill_pairs(
    pairs_MF: Float32[np.ndarray, "M F"],
    requests: RequestColumns,
    history: _History,
    candidates: Candidates,
    items: VideoColumns,
) -> None:
    request_M, row_M = candidates.request_M, candidates.row_M
    now_ms_M = requests.now_ms_B[request_M]
    columns = dict(zip(PAIR_FEATURES, pairs_MF.T, strict=True))
    columns["similarity"][:] = candidates.similarity_M
    columns["source"][:] = candidates.source_M

    def tell(kept: _ByKey, code_M: np.ndarray, count: str, share: str | None, since: str) -> None:
        place_M, is_there_M = kept.find(request_M, code_M)
        if not is_there_M.any():
            columns[count][:], columns[since][:] = 0.0, UNKNOWN
            if share is not None:
                columns[share][:] = UNKNOWN
            return
        columns[count][:] = np.where(is_there_M, kept.count_K[place_M], 0.0)
        if share is not None:
            columns[share][:] = np.where(is_there_M, kept.share_K[place_M], UNKNOWN)
        since_M = np.maximum(now_ms_M - kept.newest_ms_K[place_M], 0) / 1_000
        columns[since][:] = np.where(is_there_M, since_M, UNKNOWN)

    for name, code_N in (
        ("channel", items.channel_N),
        ("category", items.category_N),
        ("tag", items.tag_N),
    ):
        kept = _ByKey.of(
            history.request_H,
            code_N[requests.watch_row_H].astype(np.int64),
            history.share_H,
            history.time_ms_H,
        )
        code_M = code_N[row_M].astype(np.int64)
        tell(kept, code_M, f"{name}_watches", f"{name}_watch_share", f"since_{name}_s")
    watched = _ByKey.of(
        history.request_H,
        requests.watch_row_H.astype(np.int64),
        history.share_H,
        history.time_ms_H,
    )
    tell(watched, row_M, "video_watches", None, "since_watch_s")
    tell(_shown(requests), row_M, "video_impressions", None, "since_impression_s")
    uploaded_ms_M = items.uploaded_at_ms_N[row_M]
    age_s_M = np.maximum(now_ms_M - uploaded_ms_M, 0) / 1_000
    columns["age_s"][:] = np.where(uploaded_ms_M > 0, age_s_M, UNKNOWN)
    spoken_B = np.array([code_of(_said(window, "language")) for window in requests.windows])
    spoken_M, language_M = spoken_B[request_M], items.language_N[row_M]
    is_known_M = (spoken_M > 0) & (language_M > 0)
    columns["language_match"][:] = np.where(is_known_M, spoken_M == language_M, UNKNOWN)


def _shown(requests: RequestColumns) -> _ByKey:
    """Sum up the impressions of all windows by video."""
    shown = [
        (number, entry.event_time_ms, len(entry.points) // POINT_BYTES)
        for number, window in enumerate(requests.windows)
        for entry in window.impressions
    ]
    number, time_ms, size = np.array(shown, np.int64).reshape(-1, 3).T
    return _ByKey.of(
        np.repeat(number, size),
        requests.shown_row_S.astype(np.int64),
        np.zeros(len(requests.shown_row_S)),
        np.repeat(time_ms, size),
    )


def _context(requests: RequestColumns, history: _History) -> Float32[np.ndarray, "B U"]:
    now_s_B = requests.now_ms_B // 1_000
    names = ("country", "language", "device", "surface")
    said = [[small_code(_said(window, name)) for name in names] for window in requests.windows]
    share_B = np.bincount(history.request_H, history.share_H, minlength=len(now_s_B))
    last_ms_B = np.array(
        [window.watches[-1].event_time_ms if window.watches else 0 for window in requests.windows],
        np.int64,
    )
    since_s_B = np.maximum(requests.now_ms_B - last_ms_B, 0) / 1_000
    columns = (
        now_s_B % _DAY_S // _HOUR_S,
        (now_s_B // _DAY_S + _THURSDAY) % 7,
        *np.array(said, np.float64).reshape(-1, len(names)).T,
        history.size_B,
        np.where(history.size_B > 0, share_B / np.maximum(history.size_B, 1), UNKNOWN),
        np.array([len(window.impressions) for window in requests.windows]),
        np.where(last_ms_B > 0, since_s_B, UNKNOWN),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _said(window: Window, field: str) -> str:
    return getattr(window.context, field) if window.context is not None else ""
