"""Generate the channels and videos of the simulation, and their popularity.

Video number n of a seed is always the same video, whoever makes it and when: one process may
load the catalogue, another run the audience on it. Popularity is Zipf's: the appeal of the
video of rank r is 1 / r ** `ZIPF_EXPONENT`.

Shapes: `SyntheticCatalogue.centres` has one unit vector of `NUM_LATENTS` per category, ``(C, L)``;
a video's latent is one such vector, ``(L,)``.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.wire.events import VideoUpload
from contract.wire.topics import DAY_MS
from nextwatch.simulation.words import CATEGORIES, FORMATS, PLACES

NUM_LATENTS = 16
MAX_VIDEOS = 1_000_000
ZIPF_EXPONENT = 1.0
CHANNEL_SPREAD = 0.4  # length of what sets a channel apart from its category, whose centre has 1
VIDEO_SPREAD = 0.3
MEDIAN_DURATION_MS = 45_000
DURATION_SIGMA = 0.7  # of the logarithm: nine in ten last from 14 s to 2.4 min
MAX_CATALOGUE_AGE_MS = 30 * DAY_MS

Floats = NDArray[np.float64]
_CENTRES, _CHANNEL, _VIDEO, _RANKS = range(4)  # streams of random numbers that do not mix


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """A video as its viewers see it: *latent* is a unit vector of `NUM_LATENTS` tastes."""

    upload: VideoUpload
    category: int
    latent: Floats
    appeal: float


class SyntheticCatalogue:
    """Makes videos, numbered from 0, of a seed.

    Args:
        seed: everything about the videos but their upload times follows from it.
        num_videos: how many there are at the start, whose appeals are Zipf's exactly.
    """

    def __init__(self, *, seed: int, num_videos: int) -> None:
        if not 1 <= num_videos <= MAX_VIDEOS:
            raise ValueError(f"num_videos must be from 1 to {MAX_VIDEOS:,}, got {num_videos}")
        self.seed = seed
        self.num_videos = num_videos
        self.num_channels = max(len(CATEGORIES), num_videos // 20)
        self.centres = unit(
            np.random.default_rng([seed, _CENTRES]).normal(size=(len(CATEGORIES), NUM_LATENTS))
        )
        self._ranks = np.random.default_rng([seed, _RANKS]).permutation(num_videos) + 1

    def video(self, number: int, *, uploaded_at_ms: int) -> Video:
        """Return video *number*, uploaded at *uploaded_at_ms*."""
        rng = np.random.default_rng([self.seed, _VIDEO, number])
        channel = int(rng.integers(self.num_channels))
        category, channel_latent, language = self._channel(channel)
        names = list(CATEGORIES)
        words = list(rng.choice(CATEGORIES[names[category]], size=3, replace=False))
        duration_ms = MEDIAN_DURATION_MS * float(np.exp(rng.normal(0, DURATION_SIGMA)))
        upload = VideoUpload(
            video_id=f"s{self.seed}v{number}",
            title=f"{words[0]} and {words[1]} {rng.choice(FORMATS)}",
            channel_id=f"s{self.seed}c{channel}",
            category=names[category],
            tags=[str(word) for word in words],
            language=language,
            duration_ms=int(np.clip(duration_ms, 3_000, 1_800_000)),
            uploaded_at_ms=uploaded_at_ms,
        )
        rank = (
            self._ranks[number] if number < self.num_videos else rng.integers(self.num_videos) + 1
        )
        latent = unit(channel_latent + VIDEO_SPREAD * unit(rng.normal(size=NUM_LATENTS)))
        return Video(upload, category, latent, float(rank) ** -ZIPF_EXPONENT)

    def catalogue(self, *, now_ms: int) -> list[Video]:
        """Return the videos there are at the start, uploaded over the past 30 days."""
        ages_ms = np.random.default_rng([self.seed, _RANKS, 1]).integers(
            1, MAX_CATALOGUE_AGE_MS, size=self.num_videos
        )
        return [
            self.video(number, uploaded_at_ms=now_ms - int(age_ms))
            for number, age_ms in enumerate(ages_ms)
        ]

    def _channel(self, number: int) -> tuple[int, Floats, str]:
        rng = np.random.default_rng([self.seed, _CHANNEL, number])
        category = number % len(CATEGORIES)
        own = CHANNEL_SPREAD * unit(rng.normal(size=NUM_LATENTS))
        language = PLACES[rng.choice(len(PLACES), p=[share for _, _, share in PLACES])][1]
        return category, unit(self.centres[category] + own), language


class VideoPool:
    """All videos by id, by popularity, by category and by age."""

    def __init__(self, videos: list[Video]) -> None:
        self._videos: list[Video] = []
        self._by_id: dict[str, Video] = {}
        self._by_category: list[list[Video]] = [[] for _ in CATEGORIES]
        self._cumulative: list[float] = []
        for video in videos:
            self.add(video)

    def __len__(self) -> int:
        return len(self._videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self._videos)

    def add(self, video: Video) -> None:
        """Add *video* as the newest."""
        self._videos.append(video)
        self._by_id[video.upload.video_id] = video
        self._by_category[video.category].append(video)
        before = self._cumulative[-1] if self._cumulative else 0.0
        self._cumulative.append(before + video.appeal)

    def get(self, video_id: str) -> Video | None:
        """Return the video *video_id*; None if it is not in this pool."""
        return self._by_id.get(video_id)

    def popular(self, rng: np.random.Generator, num: int) -> list[Video]:
        """Return up to *num* different videos, each drawn by its appeal."""
        drawn = rng.random(num) * self._cumulative[-1]
        found = {bisect_right(self._cumulative, mark) for mark in drawn.tolist()}
        return [self._videos[place] for place in sorted(found)]

    def fresh(self, rng: np.random.Generator, num: int) -> list[Video]:
        """Return up to *num* of the newest uploads, in a random order."""
        newest = self._videos[-3 * num :]
        return [newest[place] for place in rng.permutation(len(newest))[:num]]

    def about(self, category: int, rng: np.random.Generator, num: int) -> list[Video]:
        """Return up to *num* videos of *category*."""
        videos = self._by_category[category]
        return [videos[place] for place in rng.permutation(len(videos))[:num]]


def unit(vectors: Floats) -> Floats:
    """Return *vectors* scaled to length 1 over their last axis."""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled
