"""Simulate the audience: who acts next, what is shown, and what is watched.

Kafka is not known here. Somebody asks for the next events and sends them; somebody tells of
recommendations, and each is shown at most once. Who acts next, whether they search, how
tastes drift and what is uploaded follow from the seed alone; what is watched also follows
from what was recommended, since that is the point.

Times are compressed: a viewer acts every few seconds and says to have watched a minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from contract.process.clock import Clock
from contract.wire.events import (
    Context,
    Event,
    ImpressedVideo,
    Impressions,
    Recommendation,
    Search,
    VideoUpload,
    Watch,
)
from nextwatch.simulation.catalogue import SyntheticCatalogue, Video, VideoPool
from nextwatch.simulation.viewer import APPETITE_SPREAD, Viewer
from nextwatch.simulation.words import CATEGORIES, DEVICES, PLACES

SHELF = 10
MAX_USERS = 1_000_000
SEARCH_SHARE = 0.08
BROWSE_SHARE = 0.15  # of those who have a recommendation, and look elsewhere all the same
FRESH_FOR_MS = 600_000
ACTIVITY_SIGMA = 1.0  # of the logarithm: some watch ten times as much as others
POPULAR_SHARE, OWN_SHARE = 0.5, 0.3  # of browsing; the rest looks at what is new
NAME_TOO = 0.5  # of searches that name the category beside one of its words
_SCHEDULE, _MOOD, _CHOICE = 10, 11, 12  # streams of random numbers that do not mix


@dataclass(slots=True)
class Satisfaction:
    """How many watches came from one origin, and how much of their videos was watched."""

    watches: int = 0
    watched: float = 0.0

    def add(self, share: float) -> None:
        """Count a watch of *share* of its video."""
        self.watches += 1
        self.watched += share

    @property
    def mean(self) -> float | None:
        """The mean share that was watched, from 0 to 1; None before the first watch."""
        return self.watched / self.watches if self.watches else None


@dataclass(slots=True)
class Satisfactions:
    """Watches by where the video was found, and how many recommendations were looked at."""

    recommended: Satisfaction = field(default_factory=Satisfaction)
    browsed: Satisfaction = field(default_factory=Satisfaction)
    offers_seen: int = 0

    @property
    def accepted(self) -> float | None:
        """The share of the seen recommendations that led to a watch; None before the first."""
        return self.recommended.watches / self.offers_seen if self.offers_seen else None


@dataclass(frozen=True, slots=True)
class Offer:
    """A recommendation as a player keeps it: its id, and the known videos, in order."""

    recommendation_id: str
    generated_at_ms: int
    shelf: Sequence[Video]


class Audience:
    """Viewers, the pool they watch from, and the recommendations they have not seen yet.

    Args:
        supply: makes the videos.
        num_users: how many viewers there are.
        clock: the time of events.
    """

    def __init__(self, supply: SyntheticCatalogue, *, num_users: int, clock: Clock) -> None:
        if not 1 <= num_users <= MAX_USERS:
            raise ValueError(f"num_users must be from 1 to {MAX_USERS:,}, got {num_users}")
        self.supply = supply
        self.clock = clock
        self.started_ms = clock()
        self.pool = VideoPool(supply.catalogue(now_ms=self.started_ms))
        self.viewers = [_viewer(supply.seed, number) for number in range(num_users)]
        self.satisfaction = Satisfactions()
        self.offers: dict[str, Offer] = {}
        self._user_ids = {viewer.user_id for viewer in self.viewers}
        self._schedule = np.random.default_rng([supply.seed, _SCHEDULE])
        activity = self._schedule.lognormal(0, ACTIVITY_SIGMA, num_users)
        self._activity = np.cumsum(activity / activity.sum())
        self._num_events = 0

    def catalogue(self) -> list[VideoUpload]:
        """Return the uploads of all videos."""
        return [video.upload for video in self.pool]

    def upload(self) -> VideoUpload:
        """Return the upload of one more video."""
        video = self.supply.video(len(self.pool), uploaded_at_ms=self.clock())
        self.pool.add(video)
        return video.upload

    def offer(self, recommendation: Recommendation) -> None:
        """Keep *recommendation* until its user acts next; it replaces an older one."""
        known = self.offers.get(recommendation.user_id)
        if recommendation.user_id not in self._user_ids or (
            known is not None and known.generated_at_ms > recommendation.generated_at_ms
        ):
            return
        videos = [self.pool.get(item.video_id) for item in recommendation.items]
        self.offers[recommendation.user_id] = Offer(
            recommendation.recommendation_id,
            recommendation.generated_at_ms,
            [video for video in videos if video is not None][:SHELF],
        )

    def act(self) -> list[Event]:
        """Return the events of the next viewer: one search, or impressions and one watch."""
        place = int(np.searchsorted(self._activity, self._schedule.random()))
        viewer = self.viewers[min(place, len(self.viewers) - 1)]
        is_searching = self._schedule.random() < SEARCH_SHARE
        viewer.drift()
        if is_searching:
            return [self._search(viewer)]
        return self._watch_recommended(viewer) or self._browse(viewer)

    def _search(self, viewer: Viewer) -> Search:
        category = viewer.want()
        name, words = list(CATEGORIES.items())[category]
        word = viewer.mood.choice(words)
        return Search(
            event_id=self._event_id(),
            user_id=viewer.user_id,
            query=f"{name} {word}" if viewer.mood.random() < NAME_TOO else str(word),
            event_time_ms=self.clock(),
        )

    def _watch_recommended(self, viewer: Viewer) -> list[Event]:
        """Show the viewer's newest recommendation; nothing happens where it does not interest."""
        offer = self.offers.pop(viewer.user_id, None)
        is_stale = offer is None or self.clock() - offer.generated_at_ms > FRESH_FOR_MS
        if offer is None or is_stale or viewer.rng.random() < BROWSE_SHARE:
            return []
        self.satisfaction.offers_seen += 1
        place = viewer.choose(offer.shelf, viewer.taste(self.supply.centres))
        if place is None:
            return []
        return self._events(viewer, offer.shelf, place, offer.recommendation_id)

    def _browse(self, viewer: Viewer) -> list[Event]:
        """Show what is popular, new, or of a category in mind; something of it is tried."""
        shelf = self._shelf(viewer)
        place = viewer.choose(shelf, viewer.taste(self.supply.centres)) or 0
        return self._events(viewer, shelf, place, None)

    def _shelf(self, viewer: Viewer) -> list[Video]:
        rng, wanted = viewer.rng, viewer.wanted
        viewer.wanted = None
        if wanted is not None:
            shelf = self.pool.about(wanted, rng, SHELF)
        elif (chance := rng.random()) < POPULAR_SHARE:
            shelf = self.pool.popular(rng, SHELF)
        elif chance < POPULAR_SHARE + OWN_SHARE:
            shelf = self.pool.about(viewer.favourite(), rng, SHELF)
        else:
            shelf = self.pool.fresh(rng, SHELF)
        return shelf or self.pool.popular(rng, SHELF)

    def _events(
        self, viewer: Viewer, shelf: Sequence[Video], place: int, recommendation_id: str | None
    ) -> list[Event]:
        video, now_ms = shelf[place], self.clock()
        watch_ms = viewer.watch(video, viewer.taste(self.supply.centres))
        origin = self.satisfaction.recommended if recommendation_id else self.satisfaction.browsed
        origin.add(watch_ms / video.upload.duration_ms)
        impressions = Impressions(
            event_id=self._event_id(),
            user_id=viewer.user_id,
            event_time_ms=now_ms,
            videos=[
                ImpressedVideo(video_id=shown.upload.video_id, position=position)
                for position, shown in enumerate(shelf)
            ],
            recommendation_id=recommendation_id,
        )
        watch = Watch(
            event_id=self._event_id(),
            user_id=viewer.user_id,
            video_id=video.upload.video_id,
            event_time_ms=now_ms,
            watch_ms=watch_ms,
            duration_ms=video.upload.duration_ms,
            context=viewer.context,
            recommendation_id=recommendation_id,
        )
        return [impressions, watch]

    def _event_id(self) -> str:
        """Derived from seed, start and number: another run of the same seed has other events."""
        self._num_events += 1
        name = f"nextwatch:simulate:{self.supply.seed}:{self.started_ms}:{self._num_events}"
        return str(uuid5(NAMESPACE_URL, name))


def _viewer(seed: int, number: int) -> Viewer:
    mood = np.random.default_rng([seed, _MOOD, number])
    country, language, _ = PLACES[mood.choice(len(PLACES), p=[share for _, _, share in PLACES])]
    device, _ = DEVICES[mood.choice(len(DEVICES), p=[share for _, share in DEVICES])]
    return Viewer(
        user_id=f"s{seed}u{number}",
        context=Context(country=country, language=language, device=device, surface="home"),
        appetites=mood.normal(0, APPETITE_SPREAD, len(CATEGORIES)),
        mood=mood,
        rng=np.random.default_rng([seed, _CHOICE, number]),
    )
