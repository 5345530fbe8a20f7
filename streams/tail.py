"""Follows `item-vectors`, `model-bundles` and `video-uploads`, and keeps the serving current.

One thread, one consumer without a group: every worker sees every record. Vectors of the
generation in service go straight into its item store; vectors of generations to come wait
for their bundle; older ones are ignored. A bundle that is announced as indexed, of a higher
generation than the one in service, is loaded here, beside the traffic, and then swapped in
by one assignment. A video taken down comes back only by a new upload, that is by vectors of
its content: one more vector from training may have overtaken the tombstone.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from contract.clock import Clock
from contract.decoding import decode, tombstone_id
from contract.errors import BundleError, DecodeError
from contract.events import (
    BundleAnnouncement,
    BundleState,
    ItemVector,
    Origin,
    VideoUpload,
    encode,
)
from contract.kafka import take
from contract.outbox import Outbox, Outgoing
from contract.records import Headers, received
from contract.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS, Layout, Topic
from models.bundle import Bundle
from streams.serving import Serving, Switch
from streams.text_index import TextIndex

log = structlog.get_logger()

SERVABLE = (BundleState.INDEXED, BundleState.IN_SERVICE)


class Follower:
    """Turns records of the two topics into the serving; no Kafka inside, so tests drive it."""

    def __init__(
        self,
        switch: Switch,
        *,
        load_bundle: Callable[[BundleAnnouncement], Bundle],
        make_serving: Callable[[Bundle], Serving],
        announce: Callable[[BundleAnnouncement], None],
        taken_down: set[str],
        clock: Clock,
        texts: TextIndex | None = None,
    ) -> None:
        self._switch = switch
        self._texts = texts
        self._load_bundle = load_bundle
        self._make_serving = make_serving
        self._announce = announce
        self._clock = clock
        self._waiting: dict[int, dict[str, ItemVector]] = defaultdict(dict)
        self._taken_down = taken_down
        self._offers: dict[str, BundleAnnouncement] = {}
        self._refused: set[str] = set()
        self.counts: Counter[str] = Counter()

    def on_item_vector(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Take in one record of `item-vectors`; what cannot be decoded is index_sync's matter."""
        try:
            if value is None:
                self._take_down(tombstone_id(key, headers))
                return
            vector = decode(ITEM_VECTORS, ItemVector, key, value, headers)
        except DecodeError as error:
            self.counts[f"vectors_skipped:{error.reason}"] += 1
            return
        if vector.video_id in self._taken_down:
            if vector.origin != Origin.CONTENT:
                self.counts["vectors_of_taken_down"] += 1
                return
            self._taken_down.discard(vector.video_id)
        current = self._switch.current
        generation = current.generation if current else 0
        if current and vector.generation == generation:
            self._put(current, vector)
        elif vector.generation > generation:
            self._waiting[vector.generation][vector.video_id] = vector
        else:
            self.counts["vectors_outdated"] += 1

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics that are followed; uploads only where their texts are searched."""
        uploads = (VIDEO_UPLOADS,) if self._texts is not None else ()
        return (MODEL_BUNDLES, ITEM_VECTORS, *uploads)

    def on_upload(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Take in one record of `video-uploads`: only its text, for searches."""
        if self._texts is None:
            return
        try:
            if value is None:
                self._texts.remove(tombstone_id(key, headers))
            else:
                self._texts.put(decode(VIDEO_UPLOADS, VideoUpload, key, value, headers))
        except DecodeError as error:
            self.counts[f"uploads_skipped:{error.reason}"] += 1

    def on_announcement(
        self, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Take in one record of `model-bundles`."""
        try:
            offer = decode(MODEL_BUNDLES, BundleAnnouncement, key, value, headers)
        except DecodeError as error:
            self.counts[f"announcements_skipped:{error.reason}"] += 1
            return
        self._offers[offer.bundle_id] = offer

    def swap_if_newer(self) -> bool:
        """Put the newest servable bundle in service if it is newer; return whether it was."""
        current = self._switch.current
        servable = [
            offer
            for offer in self._offers.values()
            if offer.state in SERVABLE and offer.bundle_id not in self._refused
        ]
        newest = max(servable, key=lambda offer: offer.generation, default=None)
        if newest is None or (current and newest.generation <= current.generation):
            return False
        return self._swap(newest)

    def _swap(self, offer: BundleAnnouncement) -> bool:
        try:
            serving = self._make_serving(self._load_bundle(offer))
        except BundleError as error:
            self._refused.add(offer.bundle_id)
            self.counts["bundles_refused"] += 1
            log.warning("bundle_refused", bundle_id=offer.bundle_id, reason=str(error))
            return False
        for vector in self._waiting.pop(offer.generation, {}).values():
            self._put(serving, vector)
        for video_id in self._taken_down:
            serving.remove(video_id)
        self._waiting = defaultdict(
            dict, {g: v for g, v in self._waiting.items() if g > offer.generation}
        )
        with self._switch.changing():
            self._switch.current = serving
        log.info(
            "bundle_in_service",
            bundle_id=offer.bundle_id,
            generation=offer.generation,
            videos=len(serving.items),
        )
        if offer.state != BundleState.IN_SERVICE:
            self._announce(_in_service(offer, now_ms=self._clock()))
        return True

    def _put(self, serving: Serving, vector: ItemVector) -> None:
        try:
            with self._switch.changing():
                serving.put(vector)
        except ValueError:
            self.counts["vectors_misfit"] += 1

    def _take_down(self, video_id: str) -> None:
        self._taken_down.add(video_id)
        for vectors in self._waiting.values():
            vectors.pop(video_id, None)
        if self._switch.current:
            with self._switch.changing():
                self._switch.current.remove(video_id)


def _in_service(offer: BundleAnnouncement, *, now_ms: int) -> BundleAnnouncement:
    return BundleAnnouncement(
        bundle_id=offer.bundle_id,
        generation=offer.generation,
        state=BundleState.IN_SERVICE,
        url=offer.url,
        manifest_sha256=offer.manifest_sha256,
        announced_at_ms=now_ms,
        metrics=offer.metrics,
    )


def announcer(outbox: Outbox, layout: Layout) -> Callable[[BundleAnnouncement], None]:
    """Return a function that publishes an announcement and waits for the acknowledgement."""

    def announce(announcement: BundleAnnouncement) -> None:
        key = announcement.bundle_id.encode()
        outbox.deliver([Outgoing(layout.name(MODEL_BUNDLES), key, encode(announcement))])

    return announce


class Tail:
    """Feeds a `Follower` from the broker until told to stop."""

    def __init__(
        self,
        consumer: Consumer,
        layout: Layout,
        follower: Follower,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._monotonic = monotonic
        self._layout = layout
        self._follower = follower
        places = [
            TopicPartition(layout.name(topic), number, OFFSET_BEGINNING)
            for topic in follower.topics
            for number in range(layout.num_partitions(topic))
        ]
        consumer.assign(places)

    def run(self, should_stop: Callable[[], bool], *, first_read_s: float = 0.0) -> None:
        """Follow until *should_stop*, taking no bundle in the first *first_read_s* of reading.

        So a restarted worker loads the newest bundle, not every one that was ever announced.
        """
        first_read_until_s = self._monotonic() + first_read_s
        try:
            while not should_stop():
                for message in take(self._consumer, 500, within_s=0.1):
                    self._take(message)
                if self._monotonic() >= first_read_until_s:
                    self._follower.swap_if_newer()
        finally:
            self._consumer.close()

    def _take(self, message: Message) -> None:
        if message.error() is not None:
            log.warning("tail_error", error=message.error().str())  # type: ignore[union-attr]
            return
        record = received(message, self._layout)
        if record.partition != record.home:  # index_sync keeps it as a dead letter
            self._follower.counts[f"{record.topic}:misplaced"] += 1
            return
        take = {
            MODEL_BUNDLES.name: self._follower.on_announcement,
            VIDEO_UPLOADS.name: self._follower.on_upload,
            ITEM_VECTORS.name: self._follower.on_item_vector,
        }[record.topic]
        take(record.key, record.value, record.headers)
