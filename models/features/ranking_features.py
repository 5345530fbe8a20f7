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
from operator import itemgetter
from typing import Protocol, runtime_checkable

import numpy as np
import xxhash
from jaxtyping import Float, Float32, Float64, Int64, Integer

from contract.points import POINT_BYTES, point_id
from contract.wire.events import MAX_HISTORY, VideoUpload
from models.features.examples import USUAL_DURATION_MS, CompletionRule
from models.features.key_table import KeyTable
from models.history.history import WatchEntry, Window

# Shape legend: B = requests, M = candidates of all requests, H = watches of all windows,
# S = videos shown to all users, once for each time, K = keys, with repeats, F (of places) =
# candidates found, N = rows of the item store, U = features of a request, F = of a candidate,
# P = of a pair.

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
    *("length_watches", "length_watch_share"),
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

UNREAD = ("weekday", "since_last_watch_s")
"""Logged, and not read by rankers: the same for all candidates of a request, so that they order
nothing, and misleading on days and after pauses of which a ranker has not yet learned."""
PLAIN_CONTEXT = tuple(name for name in CONTEXT_FEATURES if name not in (*CODED, *UNREAD))
CODED_CONTEXT = tuple(name for name in CONTEXT_FEATURES if name in CODED)
PLAIN_PAIR = tuple(name for name in PAIR_FEATURES if name not in CODED)

UNKNOWN = -1.0
NUM_LENGTHS, _SHORT_S = 16, 4.0
NUM_CODES = 1_021
"""Codes of `CODED` are 1 to this number, 0 for what is not known."""
_DAY_S, _HOUR_S = 86_400, 3_600
_THURSDAY = 3  # weekday of the epoch, from Monday
_CODE_BITS, _KIND_BIT = 32, 60
_PAST_COLUMNS: tuple[tuple[str, str | None, str | None], ...] = (
    ("channel_watches", "channel_watch_share", "since_channel_s"),
    ("category_watches", "category_watch_share", "since_category_s"),
    ("tag_watches", "tag_watch_share", "since_tag_s"),
    ("length_watches", "length_watch_share", None),
    ("video_watches", None, "since_watch_s"),
    ("video_impressions", None, "since_impression_s"),
)
"""Count, mean share watched and time since the newest, by kind of past."""
_WATCHED, _SHOWN = 4, 5
_HISTORY_FIELDS = tuple(
    WatchEntry._fields.index(name) for name in ("event_time_ms", "watch_ms", "duration_ms")
)


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
class PairValues:
    """The raw values that depend on the request, as `CONTEXT_FEATURES` and `PAIR_FEATURES`."""

    context_BU: Float32[np.ndarray, "B U"]
    pair_MP: Float32[np.ndarray, "M P"]


@dataclass(frozen=True, slots=True)
class RankingFeatureValues:
    """The raw values, columns as `CONTEXT_FEATURES` and `CANDIDATE_FEATURES`."""

    context_BU: Float32[np.ndarray, "B U"]
    candidate_MF: Float32[np.ndarray, "M F"]


def ranking_features(
    requests: RequestColumns, candidates: Candidates, items: VideoColumns
) -> RankingFeatureValues:
    """Return the raw features of *requests* and of their *candidates*."""
    return with_video_features(pair_features(requests, candidates, items), candidates, items)


def with_video_features(
    pairs: PairValues, candidates: Candidates, items: VideoColumns
) -> RankingFeatureValues:
    """Return *pairs* with the features of the videos behind those of the pairs."""
    video_MF = video_features(items, candidates.row_M)
    return RankingFeatureValues(pairs.context_BU, np.concatenate([pairs.pair_MP, video_MF], axis=1))


def pair_features(
    requests: RequestColumns, candidates: Candidates, items: VideoColumns
) -> PairValues:
    """Return the raw features of *requests*, and of the pairs with their *candidates*."""
    history = _History.of(requests)
    # column by column in memory: they are filled one by one
    pair_MP = np.empty((len(PAIR_FEATURES), len(candidates.row_M)), np.float32).T
    _fill_pairs(pair_MP, requests, history, candidates, items)
    return PairValues(_context(requests, history), pair_MP)


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


def logged_history(
    watches: Sequence[WatchEntry], completion: CompletionRule
) -> tuple[bytes, bytes]:
    """Return the newest *watches* and which were completed, as `RankingLog` has them."""
    newest = watches[-MAX_HISTORY:]
    points = b"".join(point_id(watch.video_id).to_bytes(POINT_BYTES, "little") for watch in newest)
    return points, bytes(
        completion.is_completed(watch.watch_ms, watch.duration_ms) for watch in newest
    )


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
        time_ms_H, watch_ms_H, duration_ms_H = (
            np.fromiter(map(itemgetter(field), entries), np.int64, len(entries))
            for field in _HISTORY_FIELDS
        )
        length_ms_H = np.where(duration_ms_H > 0, duration_ms_H, USUAL_DURATION_MS)
        size_B = np.array([len(window.watches) for window in requests.windows], np.int64)
        return cls(
            size_B,
            np.repeat(np.arange(len(size_B)), size_B),
            np.minimum(watch_ms_H / length_ms_H, 1.0),
            time_ms_H,
        )


@dataclass(frozen=True, slots=True)
class _Past:
    """What windows hold, kind by kind: under which key it counts, and when it was.

    A key is a kind, a request and a code, of channels, categories and tags, or a row.
    """

    key_K: Int64[np.ndarray, "K"]
    share_K: Float64[np.ndarray, "K"]
    time_ms_K: Int64[np.ndarray, "K"]

    @classmethod
    def of(cls, requests: RequestColumns, history: _History, items: VideoColumns) -> "_Past":
        watched = requests.watch_row_H.astype(np.int64)
        parts = [
            (kind, history.request_H, code_H, history.share_H, history.time_ms_H)
            for kind, code_H in enumerate(_codes(items, watched))
        ]
        parts.append((_WATCHED, history.request_H, watched, history.share_H, history.time_ms_H))
        request_S, time_ms_S = _shown(requests)
        row_S = requests.shown_row_S.astype(np.int64)
        parts.append((_SHOWN, request_S, row_S, np.zeros(len(row_S)), time_ms_S))
        code = np.concatenate([code for _, _, code, _, _ in parts]).astype(np.int64)
        key = np.concatenate([_key(kind, request, code) for kind, request, code, _, _ in parts])
        is_known = code > 0
        return cls(
            key[is_known],
            np.concatenate([share for *_, share, _ in parts])[is_known],
            np.concatenate([time_ms for *_, time_ms in parts])[is_known],
        )


def _codes(
    items: VideoColumns, rows: Integer[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n"], ...]:
    """Return what watches are summed up by, in the order of `_PAST_COLUMNS`."""
    codes = (items.channel_N, items.category_N, items.tag_N)
    return *(code_N[rows] for code_N in codes), length_of(items.duration_ms_N[rows])


def length_of(duration_ms_n: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Return the class of each duration, three for two doublings; 0 where it is not known."""
    doubled = np.log2(np.maximum(duration_ms_n, 1.0) / (1_000.0 * _SHORT_S))
    length = np.clip(np.floor(doubled * 1.5) + 2, 1, NUM_LENGTHS - 1)
    return np.where(duration_ms_n > 0, length, 0.0)


def _key(kind: int, request: np.ndarray, code: np.ndarray) -> Int64[np.ndarray, "K"]:
    key: np.ndarray = (request.astype(np.int64) << _CODE_BITS) + code.astype(np.int64)
    return key + (kind << _KIND_BIT)


def _fill_pairs(
    pairs_MP: Float32[np.ndarray, "M P"],
    requests: RequestColumns,
    history: _History,
    candidates: Candidates,
    items: VideoColumns,
) -> None:
    request_M, row_M = candidates.request_M, candidates.row_M
    columns = dict(zip(PAIR_FEATURES, pairs_MP.T, strict=True))
    columns["similarity"][:] = candidates.similarity_M
    columns["source"][:] = candidates.source_M
    past = _Past.of(requests, history, items)
    table = KeyTable(past.key_K)
    num_keys = len(past.key_K)
    count_K = np.bincount(table.number_K, minlength=num_keys)
    share_K = np.bincount(table.number_K, past.share_K, minlength=num_keys)
    newest_ms_K = np.zeros(num_keys, np.int64)
    np.maximum.at(newest_ms_K, table.number_K, past.time_ms_K)
    codes = (*_codes(items, row_M), row_M, row_M)
    for kind, (count, share, since) in enumerate(_PAST_COLUMNS):
        number_M = table.find(_key(kind, request_M, codes[kind]))
        at_F = np.flatnonzero(number_M >= 0)
        number_F = number_M[at_F]
        columns[count].fill(0.0)
        columns[count][at_F] = count_K[number_F]
        if share is not None:
            columns[share].fill(UNKNOWN)
            columns[share][at_F] = share_K[number_F] / count_K[number_F]
        if since is not None:
            columns[since].fill(UNKNOWN)
            since_ms_F = requests.now_ms_B[request_M[at_F]] - newest_ms_K[number_F]
            columns[since][at_F] = np.maximum(since_ms_F, 0) / 1_000
    uploaded_ms_M = items.uploaded_at_ms_N[row_M]
    age_s_M = np.maximum(requests.now_ms_B.take(request_M) - uploaded_ms_M, 0) / 1_000
    columns["age_s"][:] = np.where(uploaded_ms_M > 0, age_s_M, UNKNOWN)
    spoken_B = np.array([code_of(_said(window, "language")) for window in requests.windows])
    spoken_M, language_M = spoken_B.take(request_M), items.language_N[row_M]
    is_known_M = (spoken_M > 0) & (language_M > 0)
    columns["language_match"][:] = np.where(is_known_M, spoken_M == language_M, UNKNOWN)


def _shown(
    requests: RequestColumns,
) -> tuple[Int64[np.ndarray, "S"], Int64[np.ndarray, "S"]]:
    """Return of which request each shown video is, and when it was shown."""
    shown = [
        (number, entry.event_time_ms, len(entry.points) // POINT_BYTES)
        for number, window in enumerate(requests.windows)
        for entry in window.impressions
    ]
    number, time_ms, size = np.array(shown, np.int64).reshape(-1, 3).T
    return np.repeat(number, size), np.repeat(time_ms, size)


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
