"""Count the records that the observer has seen.

Only what is counted is decoded, since the observer shares its cores with what it observes.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from contract.bundle_log import BundleLog
from contract.wire.events import BundleAnnouncement, BundleState
from nextwatch.demo.figures.latency import RECENT_S
from nextwatch.demo.figures.ledger import Ledger, Position

SAMPLE_PATIENCE_MS = 4_000
NUM_SAMPLED_EVENTS = 4
NUM_SECONDS = 12

T = TypeVar("T")


class _Event(msgspec.Struct):
    event_id: str
    user_id: str = ""
    video_id: str = ""
    query: str = ""
    watch_ms: float = 0
    duration_ms: float | None = None


class _Recommendation(msgspec.Struct):
    user_id: str
    caused_by: list[str]
    generation: int
    bundle_id: str | None = None
    degraded: list[str] = []


class _Upload(msgspec.Struct):
    title: str | None = None
    category: str | None = None


class _Announcement(msgspec.Struct):
    bundle_id: str
    generation: int
    state: BundleState
    metrics: dict[str, float] = {}
    revision: int = 0


@dataclass(slots=True)
class Sample:
    """One sampled user: the newest events, and the newest recommendation as received."""

    user_id: str
    seen_ms: int
    happened: deque[str] = field(default_factory=lambda: deque(maxlen=NUM_SAMPLED_EVENTS))
    recommendation: bytes = b""


@dataclass(slots=True)
class Tally:
    """All counts of one run. Uploads stamped before *feed_started_ms* are the catalogue."""

    feed_started_ms: int | None = None
    first_event_ms: int | None = None
    first_recommendation_ms: int | None = None
    num_uploads: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    titles: dict[str, str] = field(default_factory=dict)
    generations: Counter[int] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, float] = field(default_factory=dict)
    bundles: BundleLog = field(default_factory=BundleLog)
    sample: Sample | None = None
    events_by_second: Counter[int] = field(default_factory=Counter)
    num_catalogue: int = 0

    def event(self, position: Position, value: bytes | None, timestamp_ms: int) -> None:
        """Count a watch or a search."""
        event = _read(_EVENT, value)
        self.ledger.sent(event.event_id if event else None, position, timestamp_ms)
        self.first_event_ms = self.first_event_ms or timestamp_ms
        self._count_second(timestamp_ms // 1000)
        if event is not None:
            self._follow(event, timestamp_ms)

    def recommendation(self, value: bytes | None, receipt_ms: int) -> None:
        """Count a recommendation, and what it answers."""
        answer = _read(_RECOMMENDATION, value)
        if answer is None:
            return
        self.first_recommendation_ms = self.first_recommendation_ms or receipt_ms
        self.ledger.answered(answer.caused_by, receipt_ms)
        if answer.bundle_id is not None:
            self.generations[answer.generation] += 1
        self.degraded.update(answer.degraded)
        if self.sample is not None and answer.user_id == self.sample.user_id:
            self.sample.recommendation = value or b""

    def upload(self, video_id: str, value: bytes | None, timestamp_ms: int) -> bool:
        """Count an upload; return whether it is a new video that came after the feed's start."""
        if value is None:
            self.titles.pop(video_id, None)
            return False
        upload = _read(_UPLOAD, value)
        if upload is None or video_id in self.titles:
            return False
        self.titles[video_id] = upload.title or f"{upload.category or ''} {video_id}".strip()
        if self.feed_started_ms is None or timestamp_ms < self.feed_started_ms:
            self.num_catalogue += 1
            return False
        self.num_uploads += 1
        return True

    def announcement(self, value: bytes | None) -> None:
        """Note the state of a bundle, and the trainer's metrics."""
        news = _read(_ANNOUNCEMENT, value)
        if news is None:
            return
        if news.metrics:
            self.metrics = news.metrics
        self.bundles.apply(
            BundleAnnouncement(
                bundle_id=news.bundle_id,
                generation=news.generation,
                state=news.state,
                url="",
                manifest_sha256="",
                announced_at_ms=0,
                revision=news.revision,
            )
        )
        for bundle in self.bundles:
            if bundle.generation < self.generation:
                self.bundles.forget(bundle.bundle_id)

    @property
    def generation(self) -> int:
        """The generation in service; 0 without one."""
        return self.bundles.in_service or 0

    def dead_letter(self, topic: str, source: Position | None) -> None:
        """Count a dead letter on *topic*; *source* is the position of the rejected record."""
        self.dead_letters[topic] += 1
        if source is not None:
            self.ledger.dead_lettered(source)

    def coming(self) -> str:
        """Return the state of the newest bundle after the one in service; empty without one."""
        newest = max(self.bundles, key=lambda bundle: bundle.generation, default=None)
        is_coming = newest is not None and newest.generation > self.generation
        return f"{newest.generation} is {newest.state}" if newest and is_coming else ""

    def events_per_s(self, *, now_ms: int, over_s: int = RECENT_S) -> float:
        """Return the mean rate of the newest *over_s* whole seconds since the first event."""
        if not self.events_by_second:
            return 0.0
        now_s = now_ms // 1000
        seconds = range(max(now_s - over_s, min(self.events_by_second)), now_s)
        counts = [self.events_by_second[second] for second in seconds]
        return sum(counts) / len(counts) if counts else 0.0

    def _count_second(self, second: int) -> None:
        self.events_by_second[second] += 1
        if len(self.events_by_second) > NUM_SECONDS:
            del self.events_by_second[min(self.events_by_second)]

    def _follow(self, event: _Event, timestamp_ms: int) -> None:
        sample = self.sample
        if sample is None or timestamp_ms - sample.seen_ms > SAMPLE_PATIENCE_MS:
            sample = self.sample = Sample(event.user_id, timestamp_ms)
        if event.user_id != sample.user_id:
            return
        sample.seen_ms = timestamp_ms
        if event.query:
            sample.happened.append(f"searched “{event.query}”")
        else:
            title = self.titles.get(event.video_id, event.video_id)
            sample.happened.append(f"watched {_share_of(event)} {title}")


def _share_of(event: _Event) -> str:
    """Say how much was watched; of a live stream, whose duration nobody knows, how long."""
    if not event.duration_ms:
        return f"{event.watch_ms / 1_000:.0f} s of"
    return f"{min(100, round(100 * event.watch_ms / event.duration_ms))} % of"


_EVENT = msgspec.json.Decoder(_Event)
_RECOMMENDATION = msgspec.json.Decoder(_Recommendation)
_UPLOAD = msgspec.json.Decoder(_Upload)
_ANNOUNCEMENT = msgspec.json.Decoder(_Announcement)


def _read(decoder: "msgspec.json.Decoder[T]", value: bytes | None) -> T | None:
    try:
        return decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
