"""The one feature encoder: windows and uploads to arrays, for training and serving alike.

Whatever a tower reads is computed here and nowhere else, so that the same window gives the
same numbers in both places. Ages count back from a time that the caller gives: the newest
event of the window. In training that is *not* the time of the watch to be predicted, which
serving cannot know.

Words are hashed into one table for titles, categories, tags and searches, so that somebody
who searches for a word is near the videos that bear it, before anything has been learned.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import xxhash
from jaxtyping import Float32, Int32, Int64

from contract.events import VideoUpload
from models.examples import USUAL_DURATION_MS, CompletionRule
from models.history import DAY_MS, Window

# Shape legend: B = windows, T = watches of the longest window, S = search tokens of the longest,
# F = features of a watch, C = context fields, A = forms of example age, N = uploads,
# M = hashed features of all uploads together.

VERSION = 2
"""Bundles say which version their towers were trained on; another one is refused."""

WATCH_FEATURES = ("completed", "fraction_watched", "log_age")
CONTEXT_FIELDS = ("country", "language", "device", "surface", "age_group", "gender")
MAX_WATCHES = 50
MAX_SEARCHES = 5
MAX_TOKENS = 32
_MAX_LOG_AGE = float(np.log1p(30 * DAY_MS / 1_000))
_WORD = re.compile(r"\w+")

Rows = Callable[[Sequence[str]], Int32[np.ndarray, "n"]]
"""Returns the row of each video id, 0 for unknown ones."""


@dataclass(frozen=True, slots=True)
class UserBatch:
    """Windows as arrays. Watches and tokens are oldest first, with padding (row 0) in front."""

    watch_rows_BT: Int32[np.ndarray, "B T"]
    watch_features_BTF: Float32[np.ndarray, "B T F"]
    token_rows_BS: Int32[np.ndarray, "B S"]
    context_rows_BC: Int32[np.ndarray, "B C"]
    example_age_BA: Float32[np.ndarray, "B 3"]

    @property
    def mask_BT(self) -> Float32[np.ndarray, "B T"]:
        """1.0 where there is a watch, 0.0 where there is padding."""
        return (self.watch_rows_BT > 0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ContentBatch:
    """Uploads as hashed features: video i owns ``starts_N[i]`` up to the next start."""

    rows_M: Int32[np.ndarray, "M"]
    weights_M: Float32[np.ndarray, "M"]
    starts_N: Int64[np.ndarray, "N"]
    log_duration_N1: Float32[np.ndarray, "N 1"]


@dataclass(frozen=True, slots=True)
class FeatureEncoder:
    """Turns windows and uploads into arrays, for tables of these sizes."""

    content_buckets: int
    context_buckets: int
    completion: CompletionRule

    def windows(
        self,
        windows: Sequence[Window],
        rows: Rows,
        now_ms: Sequence[int],
        example_age_ms: Sequence[int] | None = None,
    ) -> UserBatch:
        """Return *windows* as arrays; watches of videos that *rows* does not know are left out.

        *now_ms* is what ages count back from, one per window. *example_age_ms* is for training
        only (Covington et al. 2016, section 3.3); without it, as in serving, it is 0.
        """
        watch_rows, features = self._watches(windows, rows, now_ms)
        return UserBatch(
            watch_rows_BT=watch_rows,
            watch_features_BTF=features,
            token_rows_BS=self._tokens(windows),
            context_rows_BC=np.array(
                [_context_rows(window, self.context_buckets) for window in windows], np.int32
            ),
            example_age_BA=self.example_age(
                np.zeros(len(windows)) if example_age_ms is None else np.asarray(example_age_ms)
            ),
        )

    @staticmethod
    def example_age(age_ms_B: np.ndarray) -> Float32[np.ndarray, "B 3"]:
        """Return example ages in days: raw, squared and rooted."""
        days_B = np.maximum(age_ms_B, 0) / DAY_MS
        return np.stack([days_B, days_B**2, np.sqrt(days_B)], axis=1).astype(np.float32)

    def uploads(self, uploads: Sequence[VideoUpload]) -> ContentBatch:
        """Return the content of *uploads* as weighted rows of the content table.

        The weights of one video have the sum of squares 1, so that the content vector of a
        video does not grow with the number of its tags.
        """
        rows = [self.content_rows(upload) for upload in uploads]
        return content_batch(rows, [upload.duration_ms for upload in uploads])

    def _watches(
        self, windows: Sequence[Window], rows: Rows, now_ms: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        kept = [window.watches[-MAX_WATCHES:] for window in windows]
        entries = [entry for watches in kept for entry in watches]
        columns = tuple(zip(*entries, strict=True)) if entries else ((), (), (), (), ())
        row_M = rows(columns[2])
        user_M = np.repeat(np.arange(len(windows)), [len(watches) for watches in kept])
        is_known_M = row_M > 0
        row_M, user_M = row_M[is_known_M], user_M[is_known_M]
        at_ms, watch_ms, duration_ms = (
            np.array(columns[column], np.int64)[is_known_M] for column in (0, 3, 4)
        )
        place = _right_aligned(user_M, len(windows))
        watch_rows_BT = np.zeros((len(windows), place.width), np.int32)
        watch_rows_BT[user_M, place.column_M] = row_M
        features_BTF = np.zeros((*watch_rows_BT.shape, len(WATCH_FEATURES)), np.float32)
        age_s = np.maximum(np.asarray(now_ms, np.int64)[user_M] - at_ms, 0) / 1_000
        # the rule of CompletionRule.is_completed, for arrays
        enough_ms = self.completion.min_watch_ms
        is_known = duration_ms > 0
        features_BTF[user_M, place.column_M, 0] = watch_ms >= np.where(
            is_known, np.minimum(enough_ms, duration_ms), enough_ms
        )
        # of unknown length: the fraction of what counts as completed, so that it stays within 0..1
        whole_ms = np.where(is_known, duration_ms, np.maximum(watch_ms, max(enough_ms, 1)))
        features_BTF[user_M, place.column_M, 1] = watch_ms / whole_ms
        features_BTF[user_M, place.column_M, 2] = np.log1p(age_s) / _MAX_LOG_AGE
        return watch_rows_BT, features_BTF

    def _tokens(self, windows: Sequence[Window]) -> np.ndarray:
        each = [
            [
                row
                for search in window.searches[-MAX_SEARCHES:]
                for row in _word_rows(search.query, self.content_buckets)
            ][-MAX_TOKENS:]
            for window in windows
        ]
        width = max(1, max(map(len, each), default=1))
        return np.array([[0] * (width - len(rows)) + rows for rows in each], np.int32).reshape(
            len(windows), width
        )

    def word_rows(self, text: str) -> list[int]:
        """Return the rows of the content table for the words of *text*, in their order."""
        return list(_word_rows(text, self.content_buckets))

    def content_rows(self, upload: VideoUpload) -> list[int]:
        """Return the rows of the content table that describe *upload*, each once."""
        whole = [("duration", _duration_word(upload.duration_ms))]
        if upload.channel_id:
            whole.append(("channel", upload.channel_id))
        if upload.category:
            whole.append(("category", upload.category.lower()))
        if upload.language:
            whole.append(("language", upload.language.lower()))
        whole += [("tag", tag.lower()) for tag in upload.tags]
        rows = [_hashed(kind, value, self.content_buckets) for kind, value in whole]
        for text in (upload.title, upload.category or "", *map(_tag_text, upload.tags)):
            rows += _word_rows(text, self.content_buckets)
        return list(dict.fromkeys(rows))


def content_batch(rows: Sequence[Sequence[int]], durations_ms: Sequence[int]) -> ContentBatch:
    """Return the batch of videos with these *rows* of the content table."""
    sizes = np.array([len(of_video) for of_video in rows], np.int64)
    known_ms = [duration_ms or USUAL_DURATION_MS for duration_ms in durations_ms]
    minutes = np.array(known_ms, np.float64) / 60_000
    return ContentBatch(
        rows_M=np.fromiter(chain.from_iterable(rows), np.int32, int(sizes.sum())),
        weights_M=np.repeat(1.0 / np.sqrt(sizes), sizes).astype(np.float32),
        starts_N=np.cumsum(sizes) - sizes,
        log_duration_N1=(np.log(minutes) / 3)[:, None].astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    column_M: np.ndarray
    width: int


def _right_aligned(user_M: np.ndarray, num_users: int) -> _Places:
    """Return the column of each entry, so that the last entry of every user is in the last one."""
    count_B = np.bincount(user_M, minlength=num_users)
    width = max(1, int(count_B.max(initial=1)))
    first_B = np.cumsum(count_B) - count_B
    return _Places(np.arange(len(user_M)) - first_B[user_M] + width - count_B[user_M], width)


def _context_rows(window: Window, num_buckets: int) -> tuple[int, ...]:
    context = window.context
    if context is None:
        return (0,) * len(CONTEXT_FIELDS)
    where = (context.country, context.language.lower(), context.device, context.surface)
    values = (*where, context.age_group, context.gender)
    return tuple(
        _hashed(name, value, num_buckets) if value else 0
        for name, value in zip(CONTEXT_FIELDS, values, strict=True)
    )


def _duration_word(duration_ms: int) -> str:
    """Return a word that videos of about this length share; those of unknown length, another."""
    return str(int(np.log2(duration_ms / 1_000 + 1) * 2)) if duration_ms else "unknown"


def _tag_text(tag: str) -> str:
    """Return the part of a tag that people may search for: ``genre:Film-Noir`` -> Film-Noir."""
    text = tag.rpartition(":")[2]
    return "" if any(map(str.isdigit, text)) else text


@lru_cache(maxsize=16_384)
def _word_rows(text: str, num_buckets: int) -> list[int]:
    words: Iterable[str] = _WORD.findall(text.lower())
    return [_hashed("word", word, num_buckets) for word in words]


@lru_cache(maxsize=65_536)
def _hashed(kind: str, value: str, num_buckets: int) -> int:
    """Return a row from 1 on; row 0 means nothing."""
    return 1 + xxhash.xxh3_64_intdigest(f"{kind}={value}".encode()) % (num_buckets - 1)
