"""Follows `item-vectors`, `model-bundles` and `video-uploads`, and keeps the serving current.

One thread, one consumer without a group: every worker sees every record. Vectors of the
generation in service go straight into its item store; vectors of generations to come wait
for their bundle (`streams.waiting`); older ones are ignored. A bundle that is announced as
indexed, of a higher generation than the one in service (`streams.offers`), is loaded here,
beside the traffic, and then swapped in by one assignment. A bundle that cannot be loaded is
refused, and one whose store does not answer is tried again: the one in service stays. A video taken down comes back only by a new upload, that is by vectors of
its content: one more vector from training may have overtaken the tombstone.
"""

from collections import Counter
from collections.abc import Callable
from time import monotonic

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from contract.clock import Clock
from contract.decoding import decode, tombstone_id
from contract.errors import BundleError, DecodeError, StoreUnavailable
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
from models.bundle import Bundle, refused_on_error
from streams.offers import Offers
from streams.serving import Serving, Switch
from streams.text_index import TextIndex
from streams.waiting import WaitingVectors

log = structlog.get_logger()


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
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._switch = switch
        self._texts = texts
        self._load_bundle = load_bundle
        self._make_serving = make_serving
        self._announce = announce
        self._clock = clock
        self._taken_down = taken_down
        self.counts: Counter[str] = Counter()
        self._offers = Offers(monotonic)
        self._waiting = WaitingVectors(self._offers, self.counts)

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
        if current is None or vector.generation > current.generation:
            self._waiting.put(vector)
        elif vector.generation == current.generation:
            self._put(current, vector)
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
        """Take in one record of `model-bundles`; without a value it says to forget a bundle."""
        try:
            if value is None:
                self._offers.forget(tombstone_id(key, headers))
                return
            offer = decode(MODEL_BUNDLES, BundleAnnouncement, key, value, headers)
        except DecodeError as error:
            self.counts[f"announcements_skipped:{error.reason}"] += 1
            return
        self._offers.hear(offer)

    def swap_if_newer(self) -> bool:
        """Put the newest servable bundle in service if it is newer; return whether it was."""
        offer = self._offers.best()
        if offer is None:
            return False
        try:
            with refused_on_error():
                serving = self._make_serving(self._load_bundle(offer))
        except BundleError as error:
            self._offers.refuse(offer.bundle_id)
            self.counts["bundles_refused"] += 1
            log.warning("bundle_refused", bundle_id=offer.bundle_id, reason=str(error))
            return False
        except StoreUnavailable as error:
            self._offers.postpone(offer.bundle_id, reason=str(error))
            return False
        self._swap(offer, serving)
        return True

    def _swap(self, offer: BundleAnnouncement, serving: Serving) -> None:
        for vector in self._waiting.take(offer.generation):
            self._put(serving, vector)
        for video_id in self._taken_down:
            serving.remove(video_id)
        self._offers.put_in_service(offer.generation)
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

    def _put(self, serving: Serving, vector: ItemVector) -> None:
        try:
            with self._switch.changing():
                serving.put(vector)
        except ValueError:
            self.counts["vectors_misfit"] += 1

    def _take_down(self, video_id: str) -> None:
        self._taken_down.add(video_id)
        self._waiting.remove(video_id)
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
    """Feeds a `Follower` from the broker until told to stop.

    The announcements are read first, to their end, so that it is known which vectors are wanted;
    *consumer* must be told the end of a partition (``enable.partition.eof``).
    """

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
        self._bundles = layout.name(MODEL_BUNDLES)
        self._follower = follower
        self._places = [
            TopicPartition(layout.name(topic), number, OFFSET_BEGINNING)
            for topic in follower.topics
            for number in range(layout.num_partitions(topic))
        ]
        announced = [place for place in self._places if place.topic == self._bundles]
        self._unread = {place.partition for place in announced}
        consumer.assign(announced)

    def run(self, should_stop: Callable[[], bool], *, first_read_s: float = 0.0) -> None:
        """Follow until *should_stop*, taking no bundle in the first *first_read_s* of reading.

        So a restarted worker knows most of what was taken down before its first bundle serves.
        """
        try:
            while self._unread and not should_stop():
                self._take_some()
            self._consumer.assign(self._places)  # the few announcements are read once more
            first_read_until_s = self._monotonic() + first_read_s
            while not should_stop():
                self._take_some()
                if self._monotonic() >= first_read_until_s:
                    self._follower.swap_if_newer()
        finally:
            self._consumer.close()

    def _take_some(self) -> None:
        for message in take(self._consumer, 500, within_s=0.1):
            self._take(message)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.name() == "_PARTITION_EOF":
                if message.topic() == self._bundles:
                    self._unread.discard(message.partition() or 0)
            else:
                log.warning("tail_error", error=error.str())
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
