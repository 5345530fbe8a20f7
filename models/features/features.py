"""Encode windows and uploads as arrays, for training and serving alike.

Whatever a tower reads is computed here and nowhere else, so that the same window gives the
same numbers in both places. Ages count back from a time that the caller gives: the newest
event of the window. In training that is *not* the time of the watch to be predicted, which
serving cannot know.

Words and their character n-grams (`models.features.text`) are hashed into one table for titles,
categories, tags and searches, so that somebody who searches for a word is near the videos that
bear it or a form of it, before anything has been learned.

A watch that `CompletionRule` calls a skip is no input at all: what somebody left at once must not
draw the user vector towards it. `streams.serving.skips` turns away from it what is like it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain

import numpy as np
import xxhash
from jaxtyping import Float32, Int32, Int64

from contract.wire.events import VideoUpload
from models.features.examples import USUAL_DURATION_MS, CompletionRule
from models.features.text import ngrams, normalised, words
from models.history.history import DAY_MS, Window

# Shape legend: B = windows, T = watches of the longest window, S = search tokens of the longest,
# F = features of a watch, C = context fields, A = forms of example age, N = uploads,
# M = hashed features of all uploads together.

VERSION = 3
"""Bundles say which version their towers were trained on; another one is refused."""

WATCH_FEATURES = ("completed", "fraction_watched", "log_age")
CONTEXT_FIELDS = ("country", "language", "device", "surface", "age_group", "gender")
MAX_WATCHES = 50
MAX_SEARCHES = 5
MAX_TOKENS = 96
_MAX_LOG_AGE = float(np.log1p(30 * DAY_MS / 1_000))
_NGRAM_SHARE = 0.5
"""Of the sum of squares of a word's weights; its n-grams share it, the whole word has the rest."""

MAX_CACHED_CHARACTERS = 32
MAX_CACHED_QUERY = 64
"""Characters of a word or name, and of a query, whose rows are cached. Those of 256 random letters
take 20 to 45 KB: searches for such would fill the caches with hundreds of MB. A query of 40 that is
not cached costs each event of its user 4 us."""

Weighted = dict[int, float]
"""Rows of the content table with their weights."""

Rows = Callable[[Sequence[str]], Int32[np.ndarray, "n"]]
"""Returns the row of each video id, 0 for unknown ones."""


@dataclass(frozen=True, slots=True)
class UserBatch:
    """Windows as arrays. Watches and tokens are oldest first, with padding (row 0) in front."""

    watch_rows_BT: Int32[np.ndarray, "B T"]
    watch_features_BTF: Float32[np.ndarray, "B T F"]
    token_rows_BS: Int32[np.ndarray, "B S"]
    token_weights_BS: Float32[np.ndarray, "B S"]
    context_rows_BC: Int32[np.ndarray, "B C"]
    example_age_BA: Float32[np.ndarray, "B 3"]

    @property
    def mask_BT(self) -> Float32[np.ndarray, "B T"]:
        """1.0 where there is a watch, 0.0 where there is padding."""
        return (self.watch_rows_BT > 0).astype(np.float32)

    def at(self, places: Sequence[int]) -> "UserBatch":
        """Return the windows at *places*, padded as they are here."""
        return UserBatch(*(getattr(self, field.name)[places] for field in fields(self)))


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
        token_rows, token_weights = self._tokens(windows)
        return UserBatch(
            watch_rows_BT=watch_rows,
            watch_features_BTF=features,
            token_rows_BS=token_rows,
            token_weights_BS=token_weights,
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
        hashed = [self.content_rows(upload) for upload in uploads]
        return content_batch(hashed, [upload.duration_ms for upload in uploads])

    def _watches(
        self, windows: Sequence[Window], rows: Rows, now_ms: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        kept = [window.watches[-MAX_WATCHES:] for window in windows]
        entries = [entry for watches in kept for entry in watches]
        # by column, not by zip(*entries): that makes an iterator for each of 200,000 entries, and
        # the garbage collector looks through them all (measured: 100 us a window instead of 10)
        row_M = rows([entry[2] for entry in entries])
        user_M = np.repeat(np.arange(len(windows)), [len(watches) for watches in kept])
        at_ms, watch_ms, duration_ms = (
            np.array([entry[column] for entry in entries], np.int64) for column in (0, 3, 4)
        )
        is_read_M = (row_M > 0) & ~self.completion.are_skipped(watch_ms, duration_ms)
        row_M, user_M = row_M[is_read_M], user_M[is_read_M]
        at_ms, watch_ms, duration_ms = (one[is_read_M] for one in (at_ms, watch_ms, duration_ms))
        column_M, width = _right_aligned(user_M, len(windows))
        watch_rows_BT = np.zeros((len(windows), width), np.int32)
        watch_rows_BT[user_M, column_M] = row_M
        features_BTF = np.zeros((*watch_rows_BT.shape, len(WATCH_FEATURES)), np.float32)
        age_s = np.maximum(np.asarray(now_ms, np.int64)[user_M] - at_ms, 0) / 1_000
        # the rule of CompletionRule.is_completed, for arrays
        enough_ms = self.completion.min_watch_ms
        is_known = duration_ms > 0
        features_BTF[user_M, column_M, 0] = watch_ms >= np.where(
            is_known, np.minimum(enough_ms, duration_ms), enough_ms
        )
        # of unknown length: the fraction of what counts as completed, so that it stays within 0..1
        whole_ms = np.where(is_known, duration_ms, np.maximum(watch_ms, max(enough_ms, 1)))
        features_BTF[user_M, column_M, 1] = watch_ms / whole_ms
        features_BTF[user_M, column_M, 2] = np.log1p(age_s) / _MAX_LOG_AGE
        return watch_rows_BT, features_BTF

    def _tokens(self, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of the newest searches; the squares of a user's sum to 1."""
        each = [self._searched(window) for window in windows]
        width = max(1, max(map(len, each), default=1))
        rows_BS = np.zeros((len(windows), width), np.int32)
        weights_BS = np.zeros((len(windows), width), np.float32)
        for user, tokens in enumerate(each):
            if tokens:
                rows_BS[user, -len(tokens) :] = list(tokens)
                weights = np.fromiter(tokens.values(), np.float64, len(tokens))
                weights_BS[user, -len(tokens) :] = weights / np.sqrt((weights**2).sum())
        return rows_BS, weights_BS

    def _searched(self, window: Window) -> Weighted:
        """Return the tokens of the newest searches, the newest last, at most `MAX_TOKENS`."""
        if not window.searches:
            return {}
        newest_first: Weighted = {}
        for search in reversed(window.searches[-MAX_SEARCHES:]):
            for row, weight in self.query_rows(search.query):
                newest_first[row] = newest_first.get(row, 0.0) + weight
            if len(newest_first) >= MAX_TOKENS:
                break
        kept = list(newest_first.items())[:MAX_TOKENS]
        return dict(reversed(kept))

    def word_rows(self, text: str) -> list[int]:
        """Return the rows of the content table for the whole words of *text*, in their order."""
        return [_hashed("word", word, self.content_buckets) for word in words(text)]

    def text_rows(self, text: str) -> Sequence[tuple[int, float]]:
        """Return the rows for the words of *text* and their n-grams, with weights."""
        return _text_rows(text, self.content_buckets)

    def query_rows(self, query: str) -> Sequence[tuple[int, float]]:
        """Return `text_rows` of a query, which comes again with each event of its user."""
        if len(query) > MAX_CACHED_QUERY:
            return self.text_rows(query)
        return _cached_query_rows(query, self.content_buckets)

    def content_rows(self, upload: VideoUpload) -> Weighted:
        """Return the rows of the content table that describe *upload*, with their weights."""
        whole = [("duration", _duration_word(upload.duration_ms))]
        if upload.channel_id:
            whole.append(("channel", upload.channel_id))
        if upload.category:
            whole.append(("category", normalised(upload.category)))
        if upload.language:
            whole.append(("language", normalised(upload.language)))
        whole += [("tag", normalised(tag)) for tag in upload.tags]
        found: Weighted = {_hashed(kind, name, self.content_buckets): 1.0 for kind, name in whole}
        for text in (upload.title, upload.category or "", *map(tag_text, upload.tags)):
            for row, weight in self.text_rows(text):
                found[row] = max(found.get(row, 0.0), weight)
        return found


def content_batch(hashed: Sequence[Weighted], durations_ms: Sequence[int]) -> ContentBatch:
    """Return the batch of videos with these rows of the content table."""
    sizes = np.array([len(of_video) for of_video in hashed], np.int64)
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    weights_M = np.fromiter((w for one in hashed for w in one.values()), np.float64, total)
    norms_N = np.sqrt(np.add.reduceat(weights_M**2, starts)) if total else np.zeros(0)
    known_ms = [duration_ms or USUAL_DURATION_MS for duration_ms in durations_ms]
    minutes = np.array(known_ms, np.float64) / 60_000
    return ContentBatch(
        rows_M=np.fromiter((row for one in hashed for row in one), np.int32, total),
        weights_M=(weights_M / np.repeat(norms_N, sizes)).astype(np.float32),
        starts_N=starts,
        log_duration_N1=(np.log(minutes) / 3)[:, None].astype(np.float32),
    )


def _right_aligned(user_M: np.ndarray, num_users: int) -> tuple[np.ndarray, int]:
    """Return (column of each entry, width): the last entry of every user is in the last column."""
    count_B = np.bincount(user_M, minlength=num_users)
    width = max(1, int(count_B.max(initial=1)))
    first_B = np.cumsum(count_B) - count_B
    return np.arange(len(user_M)) - first_B[user_M] + width - count_B[user_M], width


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


def tag_text(tag: str) -> str:
    """Return the part of a tag that people may search for: ``genre:Film-Noir`` -> Film-Noir."""
    text = tag.rpartition(":")[2]
    return "" if any(map(str.isdigit, text)) else text


def _text_rows(text: str, num_buckets: int) -> tuple[tuple[int, float], ...]:
    """Return the rows of *text*; words come again in other titles, titles do not."""
    return tuple(chain.from_iterable(_word_rows(word, num_buckets) for word in words(text)))


def _word_rows(word: str, num_buckets: int) -> tuple[tuple[int, float], ...]:
    if len(word) > MAX_CACHED_CHARACTERS:
        return _computed_word_rows(word, num_buckets)
    return _cached_word_rows(word, num_buckets)


def _computed_word_rows(word: str, num_buckets: int) -> tuple[tuple[int, float], ...]:
    parts = ngrams(word)
    share = _NGRAM_SHARE if parts else 0.0
    weight = (share / max(len(parts), 1)) ** 0.5
    return (
        (_hashed("word", word, num_buckets), (1.0 - share) ** 0.5),
        *((_hashed("ngram", part, num_buckets), weight) for part in parts),
    )


def _hashed(kind: str, value: str, num_buckets: int) -> int:
    """Return a row from 1 on; row 0 means nothing."""
    if len(value) > MAX_CACHED_CHARACTERS:
        return _computed_hash(kind, value, num_buckets)
    return _cached_hash(kind, value, num_buckets)


def _computed_hash(kind: str, value: str, num_buckets: int) -> int:
    return 1 + xxhash.xxh3_64_intdigest(f"{kind}={value}".encode()) % (num_buckets - 1)


_cached_query_rows = lru_cache(maxsize=8_192)(_text_rows)
_cached_word_rows = lru_cache(maxsize=8_192)(_computed_word_rows)
_cached_hash = lru_cache(maxsize=65_536)(_computed_hash)
