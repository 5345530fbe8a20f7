"""Build records for the joiner, and a joiner that they are delivered to."""

import random
import struct
from collections import Counter

from contract.process.clock import ManualClock
from contract.wire.events import ImpressedVideo, Impressions, RankingLog, UserDeletion, Watch
from tests.support.builders import T0, event_id
from trainer.ranking.examples import LoggedFeatures
from trainer.ranking.join_store import DictJoinStore
from trainer.ranking.joiner import Joiner
from trainer.ranking.policy import JoinPolicy

WINDOW_MS, KEEP_MS = 100, 9_600
POLICY = JoinPolicy(
    label_window_ms=WINDOW_MS, keep_ms=KEEP_MS, min_positive_watch_ms=10, idle_ms=1_000
)


def logged(rec, *video_ids, user_id="u1", at_ms=0):
    """Return the ranking log of recommendation *rec*: one feature, the number of the video."""
    return RankingLog(
        recommendation_id=event_id(rec),
        user_id=user_id,
        generated_at_ms=T0 + at_ms,
        bundle_id=None,
        generation=1,
        feature_version=1,
        video_ids=list(video_ids),
        context=struct.pack("<f", 0.5),
        user_vector=struct.pack("<2f", 0.6, 0.8),
        candidates=b"".join(row_of(video_id) for video_id in video_ids),
    )


def row_of(video_id):
    """Return the features of a video in `logged`."""
    return struct.pack("<f", float(video_id.removeprefix("v")))


def shown(rec, *video_ids, user_id="u1", at_ms=0, name=None):
    """Return impressions from the top; *rec* may be None."""
    return Impressions(
        event_id=event_id(name or f"{user_id}/{rec}/{video_ids}/{at_ms}"),
        user_id=user_id,
        event_time_ms=T0 + at_ms,
        videos=[ImpressedVideo(video_id=v, position=n) for n, v in enumerate(video_ids)],
        recommendation_id=event_id(rec) if rec else None,
    )


def watched(rec, video_id, *, user_id="u1", at_ms=0, watch_ms=50, duration_ms=0, name=None):
    """Return a watch; *rec* may be None."""
    return Watch(
        event_id=event_id(name or f"{user_id}/{rec}/{video_id}/{at_ms}/{watch_ms}"),
        user_id=user_id,
        video_id=video_id,
        event_time_ms=T0 + at_ms,
        watch_ms=watch_ms,
        duration_ms=duration_ms,
        recommendation_id=event_id(rec) if rec else None,
    )


def own_features(event):
    """Return features of impressions as `logged` has them."""
    videos = [one.video_id for one in event.videos]
    rows = b"".join(map(row_of, videos))
    return LoggedFeatures(1, 0, videos, b"", b"", rows)


def passing(at_ms, partition=0):
    """Return an impression and a watch of somebody else: time has passed."""
    return [
        shown(None, "v99", user_id="clock", at_ms=at_ms, name=f"tick/{partition}/{at_ms}"),
        watched(None, "v98", user_id="clock", at_ms=at_ms, name=f"tock/{partition}/{at_ms}"),
    ]


def random_log(seed):
    """Return a log of one user with repeats and lateness, and the end of time."""
    rng = random.Random(seed)
    records = []
    for number in range(60):
        rec, at_ms = rng.choice([f"r{number}", None]), rng.randrange(1_000)
        videos = rng.sample(["v1", "v2", "v3", "v4"], 3)
        records += [logged(rec, *videos, at_ms=at_ms)] if rec else []
        records.append(shown(rec, *videos, at_ms=at_ms, name=f"shown{number}"))
        delay_ms = rng.randrange(WINDOW_MS // 2)
        records.append(watched(rec, videos[0], at_ms=at_ms + delay_ms, watch_ms=30))
    records += rng.choices(records, k=20)
    records.sort(key=lambda one: time_of(one) + rng.uniform(0, 0.4 * WINDOW_MS))
    return records + passing(3_000)


def time_of(record):
    """Return when *record* happened."""
    return getattr(record, "event_time_ms", None) or record.generated_at_ms


class Delivery:
    """A joiner, and what it has told so far of all users but the one that is the clock."""

    def __init__(self, store=None, policy=POLICY, partition=0):
        self.store = store or DictJoinStore()
        self.counts = Counter()
        self.clock = ManualClock(T0 + 10**9)
        self.joiner = Joiner(self.store, policy, clock=self.clock, counts=self.counts)
        self.joiner.load(None)
        self.partition = partition
        self.examples = []

    def deliver(self, *records):
        """Hand records to the joiner, and close what they let it close."""
        for record in records:
            match record:
                case RankingLog():
                    self.joiner.logged(record, self.partition)
                case Impressions():
                    self.joiner.shown(record, self.partition, own_features)
                case Watch():
                    self.joiner.watched(record, self.partition)
                case UserDeletion():
                    self.joiner.erase(record)
            self.joiner.advance()
            self.examples += [one for one in self.joiner.take() if one.user_id != "clock"]
        return self

    def told(self):
        """Return each example in a word: video, label, watch time."""
        return [
            f"{one.video_id} {'late ' * one.is_late}{'+' if one.is_watched else '-'}{one.watch_ms}"
            for one in self.examples
        ]

    def final_labels(self):
        """Return the last label of each video of an impression."""
        return {(one.impression_key, one.video_id): one.is_watched for one in self.examples}
