"""Watches like those of KuaiRand, and a sender that keeps their times.

Drawn ones have what matters here of the log of 25 April to 4 May: 7,583 videos, of which the most
watched hundredth has a seventh of the watches, two fifths of them completed, and many more users
than a minute has watches. With a folder of the log they are its own, in its order.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple
from uuid import UUID

import numpy as np
from confluent_kafka import Producer

from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings
from contract.wire.events import VideoUpload, Watch, encode
from contract.wire.topics import VIDEO_UPLOADS, WATCH_EVENTS

NUM_VIDEOS = 7_583
NUM_USERS = 20_000
_ZIPF = 0.6
_COMPLETED = 0.4
_DRAWN_AT_ONCE = 10_000


class Play(NamedTuple):
    """One watch to come."""

    user_id: str
    video_id: str
    watch_ms: int
    duration_ms: int


class SentWatch(NamedTuple):
    """A watch that was sent: when it was meant to be, and which one it is of its video.

    *nth* counts the users who have watched the video, so it is 0 for a repeated watch, which
    changes no counter.
    """

    meant_ms: float
    video_id: str
    nth: int


def drawn_uploads(num_videos: int = NUM_VIDEOS) -> list[VideoUpload]:
    """Return the videos of drawn traffic."""
    now_ms = system_clock()
    return [
        VideoUpload(
            video_id=f"v{number}",
            channel_id=f"a{number % 997}",
            category=f"c{number % 60}",
            tags=[f"t{number % 211}"],
            duration_ms=20_000 + number % 40 * 1_000,
            uploaded_at_ms=now_ms - number * 60_000,
        )
        for number in range(num_videos)
    ]


def drawn_plays(
    uploads: Sequence[VideoUpload], *, num_users: int = NUM_USERS, seed: int = 0
) -> Iterator[Play]:
    """Yield watches of *uploads* without end, the first videos more often than the last."""
    rng = np.random.default_rng(seed)
    weight_N = np.arange(1, len(uploads) + 1) ** -_ZIPF
    share_N = weight_N / weight_N.sum()
    while True:
        videos = rng.choice(len(uploads), _DRAWN_AT_ONCE, p=share_N).tolist()
        users = rng.integers(num_users, size=_DRAWN_AT_ONCE).tolist()
        shares = np.where(
            rng.random(_DRAWN_AT_ONCE) < _COMPLETED, 1.0, 0.3 * rng.random(_DRAWN_AT_ONCE)
        ).tolist()
        for user, video, share in zip(users, videos, shares, strict=True):
            duration_ms = uploads[video].duration_ms
            watch_ms = max(1, int(share * duration_ms))
            yield Play(f"u{user}", uploads[video].video_id, watch_ms, duration_ms)


def logged(directory: Path) -> tuple[list[VideoUpload], Iterator[Play]]:
    """Return the videos of KuaiRand in *directory*, and its watches in their order.

    Raises:
        DatasetError: with the remedy, when files are missing or damaged.
    """
    from nextwatch.datasets import kuairand  # noqa: PLC0415 - an extra

    log = kuairand.read(directory)
    rows = np.flatnonzero(log.watch_ms > 0).tolist()
    return list(log.uploads), (
        Play(
            f"u{log.user[row]}",
            log.video_id(row),
            int(log.watch_ms[row]),
            int(log.duration_ms[row]),
        )
        for row in rows
    )


def publish_uploads(kafka: KafkaSettings, uploads: Iterable[VideoUpload]) -> None:
    """Produce *uploads*; return once they are acknowledged."""
    name = kafka.layout.name(VIDEO_UPLOADS)
    outbox = Outbox(Producer(producer_config(kafka)))
    outbox.deliver([Outgoing(name, one.video_id.encode(), encode(one)) for one in uploads])


@dataclass
class Sender:
    """Sends plays at a rate, each at its time whatever became of those before, in a thread."""

    kafka: KafkaSettings
    plays: Iterator[Play]
    sent: list[SentWatch] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _count_by_video: dict[str, int] = field(default_factory=dict)
    _number: int = 0

    def send(self, *, rate: float, seconds: float, should_stop: threading.Event) -> None:
        """Send for *seconds*, or until *should_stop*."""
        producer = Producer(producer_config(self.kafka, linger_ms=1))
        topic = self.kafka.layout.name(WATCH_EVENTS)
        start_s, start_ms = monotonic(), float(system_clock())
        for place, play in enumerate(islice(self.plays, int(rate * seconds))):
            wait_s = start_s + place / rate - monotonic()
            if should_stop.is_set():
                break
            if wait_s > 0:
                sleep(wait_s)
            producer.produce(topic, key=play.user_id, value=self._event(play))
            producer.poll(0)
            self.sent.append(
                SentWatch(start_ms + 1_000 * place / rate, play.video_id, self._nth(play))
            )
        producer.flush(30)

    def _event(self, play: Play) -> bytes:
        self._number += 1
        return encode(
            Watch(
                event_id=str(UUID(int=1 << 64 | self._number)),
                user_id=play.user_id,
                video_id=play.video_id,
                event_time_ms=system_clock(),
                watch_ms=play.watch_ms,
                duration_ms=play.duration_ms,
            )
        )

    def _nth(self, play: Play) -> int:
        pair = (play.user_id, play.video_id)
        if pair in self._seen:
            return 0
        self._seen.add(pair)
        count = self._count_by_video.get(play.video_id, 0) + 1
        self._count_by_video[play.video_id] = count
        return count
