"""Join what was shown with what was watched: one example for each impression of a video.

Three streams come in any order, and any record any number of times: the features of recommended
videos (`RankingLog`), impressions, and watches. A video of an impression is *closed* once the
watermark of its partition (`trainer.ranking.watermarks`) has passed its label window; then it is an
example, positive if it was watched, negative if not. Both wait equally long: a stream of positives
that come at once, with their negatives ten minutes later, would teach at the start that everything
is watched. A watch that comes after the closing makes one more example, a positive marked as late,
which corrects the negative learned before (Ktena et al., Addressing Delayed Feedback for Continuous
Training with Neural Networks in CTR Prediction, RecSys 2019).

A watch belongs to the impression of its video with the same recommendation id, whenever it came.
Where one of both has none, it belongs to the newest impression of that video to that user that is
not later than the watch ended, and at most a label window earlier than it began; this is decided
once, a label window after the watch, when no impression can be missing.

Nothing is known of an impression that is older than `keep_ms` before the watermark, and it is not
accepted again: so each one counts once, however often it is delivered. The same holds for what is
dropped since there is too much.

State lies in a `JoinStore`, by these keys (numbers are big-endian, users and videos are hashes):

    p user video                    pair: the impressions and watches of a video by a user
    i user key                      where the features of a recommendation are
    f partition time user key       those features
    x user key video                pair that was closed before its features came
    d partition time user video     when a pair is to be looked at
    a partition time p|i user rest  when an entry expires
    e user                          up to when a user was erased
    m                               watermarks, and the rest that is small
"""

from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import blake2b
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from contract.process.clock import Clock
from contract.wire.events import MAX_TIME_MS, Impressions, RankingLog, UserDeletion, Watch
from contract.wire.identifiers import event_key
from contract.wire.topics import IMPRESSIONS, RANKING_LOG, WATCH_EVENTS
from models.history.erasure import erasure_marker
from trainer.ranking.examples import LoggedFeatures, OwnFeatures, RankingExample, features_of
from trainer.ranking.join_store import JoinStore, end_of
from trainer.ranking.policy import JoinPolicy
from trainer.ranking.watermarks import Place, Watermarks
from trainer.timer import Interval

log = structlog.get_logger()

TOPICS = (RANKING_LOG, IMPRESSIONS, WATCH_EVENTS)
"""What is joined; the watermark is that of the last two, since features may come at any time."""

WATERMARKED = (IMPRESSIONS.name, WATCH_EVENTS.name)
"""The names of the topics that the watermark goes by."""

MAX_PER_PAIR = 64
"""So many impressions, and watches, of one video by one user are kept; a bot makes more."""

_EXPIRY_STEPS = 96  # a day expires by quarters of an hour, so that few ranges are deleted
_AT_ONCE = 10_000
_WARN_EVERY_S = 60.0
_NUM_CACHED = 256
_DROPPED_SHARE = 100  # a hundredth of the bound is dropped at once
_USER_BYTES, _KEY_BYTES, _VIDEO_BYTES = 16, 16, 8
_PLACE_BYTES = 1 + 4 + 8  # of kind, partition and time
_NEGATIVE, _POSITIVE = 1, 2
_META, _ERASED = b"m", b"e"


class _Shown(msgspec.Struct, array_like=True):
    """A video in an impression; *key* is that of the recommendation or of the event."""

    key: bytes
    has_recommendation: bool
    time_ms: int
    position: int
    emitted: int = 0


class _Watched(msgspec.Struct, array_like=True, order=True):
    """A watch; *joined* is the key of the impression that it was found to belong to by time."""

    time_ms: int
    key: bytes
    recommendation: bytes
    watch_ms: int
    duration_ms: int
    joined: bytes = b""


class _Pair(msgspec.Struct, array_like=True):
    user_id: str
    video_id: str
    shown: list[_Shown]
    watched: list[_Watched]


_Entry = TypeVar("_Entry", _Shown, _Watched)


class _Meta(msgspec.Struct, array_like=True):
    newest_ms: dict[int, dict[str, int]]
    closed_ms: dict[int, int]
    expired_ms: dict[int, int]
    floors_ms: dict[int, int]
    num_entries: int


class Joiner:
    """Joins records to examples; what is found waits in `examples` until it is taken.

    *counts* has ranking_positives, _negatives, _late, _unmatched (impressions without features
    that expired), _unmatched_watches, _too_old, and _dropped for want of room.
    """

    def __init__(
        self, store: JoinStore, policy: JoinPolicy, *, clock: Clock, counts: Counter[str]
    ) -> None:
        self._store = store
        self._policy = policy
        self._counts = counts
        self._watermarks = Watermarks(WATERMARKED, clock=clock)
        self._step_ms = max(1, policy.keep_ms // _EXPIRY_STEPS)
        self._read: dict[bytes, LoggedFeatures] = {}
        self._warning: Interval | None = None
        self._erased_ms: dict[bytes, int] | None = None
        self._reset(_Meta({}, {}, {}, {}, 0))
        self.examples: list[RankingExample] = []

    def __len__(self) -> int:
        """Return how many logs, impressions of a video, and watches are kept."""
        return self._num_entries

    def logged(self, log: RankingLog, partition: int) -> None:
        """Keep the features of a recommendation, and join what has waited for them."""
        user = erasure_marker(log.user_id)
        if not self._is_accepted(user, partition, log.generated_at_ms):
            return
        key = event_key(log.recommendation_id)
        time_ms = self._generated_ms(partition, log.generated_at_ms)
        if self._put_features(user, key, partition, time_ms, features_of(log)):
            waiting = b"x" + user + key
            for found in [found for found, _ in self._store.scan(waiting, end_of(waiting))]:
                self._store.delete(found)
                self._look_at(b"p" + user + found[len(waiting) :], partition)

    def shown(
        self, event: Impressions, partition: int, own_features: OwnFeatures | None = None
    ) -> None:
        """Keep an impression; without a recommendation id its features are *own_features*."""
        self._watermarks.note(IMPRESSIONS.name, partition, event.event_time_ms)
        user = erasure_marker(event.user_id)
        if not self._is_accepted(user, partition, event.event_time_ms):
            return
        key = _impression_key(event)
        if event.recommendation_id is None and own_features is not None:
            self._put_own_features(user, key, partition, event, own_features)
        for one in event.videos:
            shown = _Shown(
                key, event.recommendation_id is not None, event.event_time_ms, one.position
            )
            pair_key = b"p" + user + _video_key(one.video_id)
            pair = self._pair(pair_key) or _Pair(event.user_id, one.video_id, [], [])
            if self._add_shown(pair, shown):
                self._look_again(pair_key, partition, event.event_time_ms)
                self._expire_later(b"p", pair_key[1:], partition, event.event_time_ms)
                self._settle(pair_key, pair, partition)

    def watched(self, event: Watch, partition: int) -> None:
        """Keep a watch, and join it with its impression if that is known."""
        self._watermarks.note(WATCH_EVENTS.name, partition, event.event_time_ms)
        user = erasure_marker(event.user_id)
        if not self._is_accepted(user, partition, event.event_time_ms):
            return
        recommendation = event_key(event.recommendation_id) if event.recommendation_id else b""
        watched = _Watched(
            event.event_time_ms,
            event_key(event.event_id),
            recommendation,
            event.watch_ms,
            event.duration_ms,
        )
        pair_key = b"p" + user + _video_key(event.video_id)
        pair = self._pair(pair_key) or _Pair(event.user_id, event.video_id, [], [])
        if self._add_watched(pair, watched):
            if not any(shown.key == recommendation for shown in pair.shown):
                self._look_again(pair_key, partition, event.event_time_ms)
            self._expire_later(b"p", pair_key[1:], partition, event.event_time_ms)
            self._settle(pair_key, pair, partition)

    def erase(self, event: UserDeletion) -> None:
        """Erase what a user was shown and watched up to a time, now and whenever it comes again."""
        user, before_ms = erasure_marker(event.user_id), event.erase_before_ms
        if before_ms <= self._erased_before_ms(user):
            return
        self._store.put(_ERASED + user, before_ms.to_bytes(8, "big"))
        self._erased()[user] = before_ms
        self.examples = [
            one
            for one in self.examples
            if one.user_id != event.user_id or one.event_time_ms > before_ms
        ]
        prefixes = [kind + user for kind in (b"p", b"i", b"x")]
        found = [list(self._store.scan(prefix, end_of(prefix))) for prefix in prefixes]
        for key, value in found[0]:
            self._erase_pair(key, _PAIRS.decode(value), before_ms)
        for key, value in found[1]:
            partition, time_ms = value[:4], int.from_bytes(value[4:], "big")
            if time_ms <= before_ms:
                self._delete_features(key, b"f" + partition + value[4:] + key[1:])
        if any(found):
            self._read.clear()
            self._store.purge(prefixes)

    def is_moved_by(self, idle: Collection[Place]) -> bool:
        """Return whether `advance` would do anything more because of *idle*."""
        return not self._watermarks.are_lifted(idle)

    def advance(self, idle: Collection[Place] = ()) -> None:
        """Close what the watermarks have passed, and forget what is too old or too much.

        *idle* are the topics and partitions that had no unread record for a while
        (`trainer.ranking.watermarks.IdlePlaces`).
        """
        self._watermarks.lift(idle)
        for partition in self._watermarks.partitions:
            self._close(partition)
            self._expire(partition, self._cutoff_ms(partition))
        if self._num_entries > self._policy.max_entries:
            self._drop_oldest()

    def take(self) -> list[RankingExample]:
        """Return the examples found since the last call."""
        taken, self.examples = self.examples, []
        return taken

    def save(self, directory: Path) -> None:
        """Write everything but the examples not taken into *directory*, for a checkpoint."""
        meta = _Meta(
            self._watermarks.state(),
            self._closed_ms,
            self._expired_ms,
            self._floors_ms,
            self._num_entries,
        )
        self._store.put(_META, msgspec.msgpack.encode(meta))
        self._store.save(directory)

    def load(self, directory: Path | None) -> None:
        """Go back to what was saved in *directory*; begin anew without one."""
        self._store.load(directory)
        [encoded] = self._store.get([_META])
        meta = _Meta({}, {}, {}, {}, 0)
        self._reset(msgspec.msgpack.decode(encoded, type=_Meta) if encoded else meta)
        self._read.clear()
        self._erased_ms = None
        self.examples = []

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _reset(self, meta: _Meta) -> None:
        self._watermarks.load(meta.newest_ms)
        self._closed_ms = meta.closed_ms
        self._expired_ms = meta.expired_ms
        self._floors_ms = meta.floors_ms
        self._num_entries = meta.num_entries

    # What is accepted

    def _is_accepted(self, user: bytes, partition: int, time_ms: int) -> bool:
        if time_ms < self._cutoff_ms(partition):
            self._counts["ranking_too_old"] += 1
            return False
        self._expired_ms.setdefault(partition, 0)
        return time_ms > self._erased_before_ms(user)

    def _cutoff_ms(self, partition: int) -> int:
        """Return the time before which nothing is accepted, nor kept for long."""
        by_age = self._watermarks.of(partition) - self._policy.keep_ms
        return max(self._floors_ms.get(partition, 0), by_age - by_age % self._step_ms)

    def _erased_before_ms(self, user: bytes) -> int:
        return self._erased().get(user, 0)

    def _erased(self) -> dict[bytes, int]:
        """Return up to when users were erased.

        A look into the store for each record took a fifth of the time at 500 watches a second.
        """
        if self._erased_ms is None:
            found = self._store.scan(_ERASED, end_of(_ERASED))
            self._erased_ms = {key[1:]: int.from_bytes(value, "big") for key, value in found}
        return self._erased_ms

    def _add_shown(self, pair: _Pair, shown: _Shown) -> bool:
        """Add an impression, or what is earlier of a known one; return whether anything changed."""
        for known in pair.shown:
            if known.key == shown.key:
                if (known.time_ms, known.position) <= (shown.time_ms, shown.position):
                    return False
                known.time_ms, known.position = shown.time_ms, shown.position
                return True
        return self._add(pair.shown, shown)

    def _add_watched(self, pair: _Pair, watched: _Watched) -> bool:
        """Add a watch; of two with one id the greater counts."""
        for place, known in enumerate(pair.watched):
            if known.key == watched.key:
                watched.joined = known.joined
                if watched <= known:
                    return False
                pair.watched[place] = watched
                return True
        return self._add(pair.watched, watched)

    def _add(self, entries: list[_Entry], entry: _Entry) -> bool:
        if len(entries) >= MAX_PER_PAIR:
            self._counts["ranking_dropped"] += 1
            return False
        entries.append(entry)
        self._num_entries += 1
        return True

    # Features

    def _put_features(
        self, user: bytes, key: bytes, partition: int, time_ms: int, features: LoggedFeatures
    ) -> bool:
        """Keep *features* unless there are some under their key; return whether they were kept."""
        index = b"i" + user + key
        [known] = self._store.get([index])
        if known is not None:
            return False
        place = _place(partition, time_ms)
        self._store.put(index, place)
        self._store.put(b"f" + place + user + key, msgspec.msgpack.encode(features))
        self._expire_later(b"i", user + key, partition, time_ms)
        self._num_entries += 1
        return True

    def _generated_ms(self, partition: int, generated_at_ms: int) -> int:
        """Return when features count as generated: at most `keep_ms` after the newest event.

        Those of recommendations for a replayed log are of today while its events are of another
        year. They would never be too old, and fill the store.
        """
        newest_ms = self._watermarks.newest_ms(partition)
        return min(generated_at_ms, newest_ms + self._policy.keep_ms if newest_ms else MAX_TIME_MS)

    def _put_own_features(
        self, user: bytes, key: bytes, partition: int, event: Impressions, own: OwnFeatures
    ) -> None:
        [known] = self._store.get([b"i" + user + key])
        features = own(event) if known is None else None
        if features is not None:
            self._put_features(user, key, partition, event.event_time_ms, features)

    def _features(self, index: bytes) -> LoggedFeatures | None:
        """Return the features of a recommendation; its videos are mostly closed together."""
        if index not in self._read:
            [place] = self._store.get([index])
            [encoded] = self._store.get([b"f" + place + index[1:]]) if place else [None]
            if encoded is None:
                return None
            if len(self._read) >= _NUM_CACHED:
                self._read.clear()
            self._read[index] = _FEATURES.decode(encoded)
        return self._read[index]

    def _delete_features(self, index: bytes, features: bytes) -> None:
        self._store.delete(index)
        self._store.delete(features)
        self._num_entries -= 1

    # Pairs

    def _pair(self, key: bytes) -> _Pair | None:
        [encoded] = self._store.get([key])
        return None if encoded is None else _PAIRS.decode(encoded)

    def _look_again(self, pair_key: bytes, partition: int, time_ms: int) -> None:
        due_ms = time_ms + self._policy.label_window_ms
        if due_ms > self._closed_ms.get(partition, -1):
            self._store.put(b"d" + _place(partition, due_ms) + pair_key[1:], b"")

    def _expire_later(self, kind: bytes, rest: bytes, partition: int, time_ms: int) -> None:
        self._store.put(b"a" + _place(partition, time_ms) + kind + rest, b"")

    def _look_at(self, pair_key: bytes, partition: int) -> None:
        pair = self._pair(pair_key)
        if pair is not None:
            self._settle(pair_key, pair, partition)

    def _settle(self, pair_key: bytes, pair: _Pair, partition: int) -> None:
        """Emit what can be told of *pair* by now, forget what is too old, and keep the rest."""
        watermark_ms = self._watermarks.of(partition)
        longest, undecided_ms = self._joined(pair, watermark_ms)
        for shown in pair.shown:
            closes_ms = max(
                shown.time_ms + self._policy.label_window_ms, undecided_ms.get(shown.key, 0)
            )
            if closes_ms <= watermark_ms and shown.emitted != _POSITIVE:
                self._emit(pair_key, pair, shown, longest.get(shown.key))
        self._put_pair(pair_key, pair, self._cutoff_ms(partition))

    def _joined(
        self, pair: _Pair, watermark_ms: int
    ) -> tuple[dict[bytes, _Watched], dict[bytes, int]]:
        """Return the longest watch of each impression, and until when others are undecided."""
        known = {shown.key for shown in pair.shown}
        longest: dict[bytes, _Watched] = {}
        undecided_ms: dict[bytes, int] = {}
        for watched in sorted(pair.watched):
            if watched.recommendation in known:
                key = watched.joined = watched.recommendation
            else:
                decided_ms = watched.time_ms + self._policy.label_window_ms
                nearest = [] if watched.joined else self._candidates(pair, watched)
                if nearest and decided_ms > watermark_ms:
                    for shown in nearest:
                        undecided_ms[shown.key] = max(decided_ms, undecided_ms.get(shown.key, 0))
                    continue
                if nearest:
                    watched.joined = max(nearest, key=lambda shown: (shown.time_ms, shown.key)).key
                key = watched.joined
            if key in known and (key not in longest or watched.watch_ms > longest[key].watch_ms):
                longest[key] = watched
        return longest, undecided_ms

    def _candidates(self, pair: _Pair, watched: _Watched) -> list[_Shown]:
        """Return the impressions that *watched* may belong to by its time."""
        earliest_ms = watched.time_ms - watched.watch_ms - self._policy.label_window_ms
        return [
            shown
            for shown in pair.shown
            if earliest_ms <= shown.time_ms <= watched.time_ms
            and not (watched.recommendation and shown.has_recommendation)
        ]

    def _emit(self, pair_key: bytes, pair: _Pair, shown: _Shown, watched: _Watched | None) -> None:
        watch_ms = watched.watch_ms if watched else 0
        duration_ms = watched.duration_ms if watched else 0
        is_watched = bool(watched) and self._policy.is_positive(watch_ms, duration_ms)
        if shown.emitted and not is_watched:
            return
        user = pair_key[1 : 1 + _USER_BYTES]
        features = self._features(b"i" + user + shown.key)
        row = features.row(pair.video_id) if features else None
        if features is None or row is None:
            self._store.put(b"x" + user + shown.key + pair_key[1 + _USER_BYTES :], b"")
            return
        is_late = bool(shown.emitted)
        shown.emitted = _POSITIVE if is_watched else _NEGATIVE
        self._counts["ranking_positives" if is_watched else "ranking_negatives"] += 1
        self._counts["ranking_late"] += is_late
        self.examples.append(
            RankingExample(
                user_id=pair.user_id,
                video_id=pair.video_id,
                impression_key=shown.key,
                event_time_ms=shown.time_ms,
                position=shown.position,
                is_watched=is_watched,
                is_late=is_late,
                watch_ms=watch_ms,
                duration_ms=duration_ms,
                feature_version=features.feature_version,
                generation=features.generation,
                context=features.context,
                user_vector=features.user_vector,
                candidate=row,
                history=features.history,
                history_completed=features.history_completed,
            )
        )

    def _put_pair(self, pair_key: bytes, pair: _Pair, cutoff_ms: int) -> None:
        """Keep what is not older than *cutoff_ms*, and count what goes without a label."""
        user, video = pair_key[1 : 1 + _USER_BYTES], pair_key[1 + _USER_BYTES :]
        for shown in [one for one in pair.shown if one.time_ms < cutoff_ms]:
            if not shown.emitted:
                self._counts["ranking_unmatched"] += 1
                self._store.delete(b"x" + user + shown.key + video)
        for watched in [one for one in pair.watched if one.time_ms < cutoff_ms]:
            self._counts["ranking_unmatched_watches"] += not watched.joined
        self._keep_of_pair(pair_key, pair, cutoff_ms)

    def _keep_of_pair(self, pair_key: bytes, pair: _Pair, cutoff_ms: int) -> None:
        before = len(pair.shown) + len(pair.watched)
        pair.shown = [one for one in pair.shown if one.time_ms >= cutoff_ms]
        pair.watched = [one for one in pair.watched if one.time_ms >= cutoff_ms]
        after = len(pair.shown) + len(pair.watched)
        self._num_entries -= before - after
        if after:
            self._store.put(pair_key, msgspec.msgpack.encode(pair))
        else:
            self._store.delete(pair_key)

    def _erase_pair(self, pair_key: bytes, pair: _Pair, before_ms: int) -> None:
        user, video = pair_key[1 : 1 + _USER_BYTES], pair_key[1 + _USER_BYTES :]
        for shown in pair.shown:
            if shown.time_ms <= before_ms:
                self._store.delete(b"x" + user + shown.key + video)
        self._keep_of_pair(pair_key, pair, before_ms + 1)

    # The passing of time

    def _close(self, partition: int) -> None:
        """Look at every pair whose time has come by the watermark of *partition*."""
        watermark_ms = self._watermarks.of(partition)
        start_ms = self._closed_ms.get(partition, -1) + 1
        if watermark_ms < start_ms:
            return
        for key in self._passed(b"d", partition, start_ms, watermark_ms + 1):
            self._store.delete(key)
            self._look_at(b"p" + key[_PLACE_BYTES:], partition)
        self._closed_ms[partition] = watermark_ms

    def _expire(self, partition: int, cutoff_ms: int) -> None:
        """Forget what is older than *cutoff_ms*."""
        start_ms = self._expired_ms.get(partition, 0)
        if cutoff_ms <= start_ms:
            return
        for key in self._passed(b"a", partition, start_ms, cutoff_ms):
            kind, rest = key[_PLACE_BYTES : _PLACE_BYTES + 1], key[_PLACE_BYTES + 1 :]
            if kind == b"p":
                self._look_at(kind + rest, partition)
                continue
            [known] = self._store.get([kind + rest])
            if known == key[1:_PLACE_BYTES]:
                self._store.delete(kind + rest)
                self._num_entries -= 1
        for kind in (b"a", b"f"):
            self._store.delete_range(
                kind + _place(partition, start_ms), kind + _place(partition, cutoff_ms)
            )
        self._read.clear()
        self._expired_ms[partition] = cutoff_ms

    def _passed(self, kind: bytes, partition: int, start_ms: int, end_ms: int) -> Iterator[bytes]:
        """Yield the keys of *kind* from *start_ms* on and before *end_ms*; they may be deleted."""
        start, end = kind + _place(partition, start_ms), kind + _place(partition, end_ms)
        while keys := [key for key, _ in islice(self._store.scan(start, end), _AT_ONCE)]:
            yield from keys
            start = keys[-1] + b"\0"

    def _drop_oldest(self) -> None:
        """Raise the floors of the partitions until there is room again.

        The oldest is what is longest before the newest event of its own partition: by time alone
        all that is dropped would be that of a partition which is read behind the others, and it
        would tell no example until it has caught up.
        """
        before = self._num_entries
        wanted = self._policy.max_entries - self._policy.max_entries // _DROPPED_SHARE
        while self._num_entries > wanted:
            most = self._num_entries - wanted
            oldest = merge(*(self._ages_ms(one) for one in self._expired_ms), reverse=True)
            ages_ms = list(islice(oldest, most))
            if not ages_ms:
                break
            for partition in self._expired_ms:
                floor_ms = self._watermarks.newest_ms(partition) - ages_ms[-1] + 1
                floor_ms = max(floor_ms, self._floors_ms.get(partition, 0))
                self._floors_ms[partition] = floor_ms
                self._warn_if_unlabelled(partition, floor_ms)
                self._expire(partition, floor_ms)
        self._counts["ranking_dropped"] += before - self._num_entries

    def _warn_if_unlabelled(self, partition: int, floor_ms: int) -> None:
        """Warn, once a minute, that what is dropped has not waited for its label."""
        if floor_ms + self._policy.label_window_ms <= self._closed_ms.get(partition, 0):
            return
        if self._warning is None or self._warning.is_due():
            self._warning = self._warning or Interval(_WARN_EVERY_S)
            log.warning(
                "shown_videos_dropped_unlabelled",
                kept=self._policy.max_entries,
                label_window_ms=self._policy.label_window_ms,
                remedy="raise NEXTWATCH_TRAINER_JOIN_MAX_ENTRIES, or lower "
                "NEXTWATCH_STREAMS_RANKING_LOG_SHARE",
            )

    def _ages_ms(self, partition: int) -> Iterator[int]:
        """Yield how long before the newest event of *partition* its entries are, oldest first."""
        newest_ms = self._watermarks.newest_ms(partition)
        start, end = b"a" + _place(partition, 0), b"a" + _place(partition + 1, 0)
        for key, _ in self._store.scan(start, end):
            yield newest_ms - int.from_bytes(key[_PLACE_BYTES - 8 : _PLACE_BYTES], "big")


_PAIRS = msgspec.msgpack.Decoder(_Pair)
_FEATURES = msgspec.msgpack.Decoder(LoggedFeatures)


def _place(partition: int, time_ms: int) -> bytes:
    return partition.to_bytes(4, "big") + time_ms.to_bytes(8, "big")


def _video_key(video_id: str) -> bytes:
    return blake2b(video_id.encode(), digest_size=_VIDEO_BYTES).digest()


def _impression_key(event: Impressions) -> bytes:
    """Return the key of the recommendation; of the event, where it names none."""
    if event.recommendation_id is not None:
        return event_key(event.recommendation_id)
    own = b"nextwatch:impressions:" + event_key(event.event_id)
    return blake2b(own, digest_size=_KEY_BYTES).digest()
