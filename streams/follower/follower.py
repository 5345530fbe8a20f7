"""Follow `item-vectors`, `model-bundles` and `video-uploads`, and keep the serving current.

The lists of batch jobs, on `similar-videos` and `hottest-videos`, are followed by the same thread.

One thread (`streams.follower.follower_thread`), one consumer without a group: every worker sees
every record. Vectors of the generation in service go straight into its item store; vectors of
generations to come wait for their bundle (`streams.follower.waiting`); older ones are ignored. A
bundle that is announced as indexed, of a higher generation than the one in service
(`streams.follower.offers`), is loaded here, beside the traffic, and then swapped in by one
assignment. A bundle that cannot be loaded is refused, and one whose store does not answer is tried
again: the one in service stays.

The generation that was in service before is kept ready, item store and all: when the one in service
is withdrawn, going back to it is one assignment, too. It is let go of when the next bundle is
loaded, so that there are never more than two generations in memory; going back then takes as long
as loading it.

A video is taken down by a tombstone on either topic: index_sync, which sends the one on
`item-vectors`, may have been killed before it read the one on `video-uploads`. After the former
the video comes back by vectors of its content alone, since one more vector from training may have
overtaken the tombstone; after the latter by a new upload, up to which its vectors are withheld.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import INFO, WARNING
from time import monotonic

import msgspec
import structlog

from contract.errors import BundleError, DecodeError, StoreUnavailable
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Headers
from contract.process.clock import Clock
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import (
    BundleAnnouncement,
    BundleState,
    HottestVideos,
    ItemVector,
    Origin,
    SimilarVideos,
    VideoUpload,
    encode,
)
from contract.wire.topics import (
    HOTTEST_VIDEOS,
    ITEM_VECTORS,
    MODEL_BUNDLES,
    SIMILAR_VIDEOS,
    VIDEO_UPLOADS,
    Layout,
    Topic,
)
from models.bundle.bundle import Bundle, refused_on_error
from streams.follower.metrics import STORE_UNAVAILABLE, FollowerMetrics
from streams.follower.offers import BundleOffers
from streams.follower.offline_lists import OfflineLists
from streams.follower.waiting import WaitingVectors
from streams.serving.generation import ActiveGeneration, Serving
from streams.serving.text_index import TextIndex

log = structlog.get_logger()

PUT_TOGETHER = 50
"""A change waits for each stage of the pipeline, and those wait for it: so many vectors, 1 ms
of work, are put in at once."""


class Follower:
    """Applies records of its topics; has no Kafka client."""

    def __init__(  # noqa: PLR0913 - composition by keyword
        self,
        switch: ActiveGeneration,
        *,
        load_bundle: Callable[[BundleAnnouncement], Bundle],
        make_serving: Callable[[Bundle], Serving],
        announce: Callable[[BundleAnnouncement], None],
        taken_down: set[str],
        clock: Clock,
        texts: TextIndex | None = None,
        monotonic: Callable[[], float] = monotonic,
        metrics: FollowerMetrics | None = None,
    ) -> None:
        self._switch = switch
        self.metrics = metrics or FollowerMetrics()
        self._monotonic = monotonic
        self._offline: OfflineLists | None = None
        self.topics: tuple[Topic, ...] = (MODEL_BUNDLES, ITEM_VECTORS, VIDEO_UPLOADS)
        self._texts = texts
        self._previous: Serving | None = None
        self._load_bundle = load_bundle
        self._make_serving = make_serving
        self._announce = announce
        self._clock = clock
        self._taken_down = taken_down
        self._puts: list[tuple[Serving, ItemVector]] = []
        self._is_together = False
        self._withheld: dict[str, ItemVector | None] = {}  # newest, of videos without an upload
        self._to_take_down: set[str] = set()
        self.counts = self.metrics.counts
        self._offers = BundleOffers(monotonic)
        self._waiting = WaitingVectors(self._offers, self.counts)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Take the records of the block together: their vectors are put in at its end."""
        self._is_together = True
        try:
            yield
        finally:
            self._is_together = False
            self._apply()

    def on_item_vector(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Apply one record of `item-vectors`; index_sync dead-letters what cannot be decoded."""
        try:
            if value is None:
                self._forget(tombstone_id(key, headers))
                return
            vector = decode(ITEM_VECTORS, ItemVector, key, value, headers)
        except DecodeError as error:
            self.counts[f"vectors_skipped:{error.reason}"] += 1
            return
        if vector.video_id in self._withheld:
            self._withheld[vector.video_id] = vector
        else:
            self._take_vector(vector)

    def _forget(self, video_id: str) -> None:
        if video_id in self._withheld:
            self._withheld[video_id] = None
        self._take_down(video_id)

    def _take_vector(self, vector: ItemVector) -> None:
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
        elif self._previous is not None and vector.generation == self._previous.generation:
            self._put(self._previous, vector)
        elif self._offers.is_coming(vector.generation):
            self._waiting.put(vector)
        else:
            self.counts["vectors_outdated"] += 1

    def follow_lists(self, offline: OfflineLists) -> None:
        """Follow the topics of batch jobs, too, into *offline*."""
        self._offline = offline
        self.topics += (SIMILAR_VIDEOS, HOTTEST_VIDEOS)

    def on_similar(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Apply one record of `similar-videos`."""
        assert self._offline is not None, "the topic is followed for the lists"
        try:
            if value is None:
                self._offline.remove_similar(tombstone_id(key, headers))
            else:
                found = decode(SIMILAR_VIDEOS, SimilarVideos, key, value, headers)
                self._offline.put_similar(found)
        except DecodeError as error:
            self.counts[f"similar_skipped:{error.reason}"] += 1

    def on_hottest(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Apply one record of `hottest-videos`."""
        assert self._offline is not None, "the topic is followed for the lists"
        try:
            if value is None:
                self._offline.remove_hottest(tombstone_id(key, headers))
            else:
                found = decode(HOTTEST_VIDEOS, HottestVideos, key, value, headers)
                self._offline.put_hottest(found)
        except DecodeError as error:
            self.counts[f"hottest_skipped:{error.reason}"] += 1

    def on_upload(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Apply one record of `video-uploads`: its text for searches, and whether the video is up.

        A video without an upload is taken down by `take_down_withheld`.
        """
        try:
            if value is None:
                self._withhold(tombstone_id(key, headers))
            else:
                self._release(decode(VIDEO_UPLOADS, VideoUpload, key, value, headers))
        except DecodeError as error:
            self.counts[f"uploads_skipped:{error.reason}"] += 1

    def take_down_withheld(self) -> None:
        """Take down the videos whose newest record of `video-uploads` is a tombstone.

        To be called when everything there was of that topic is read: an upload may follow, and
        what was removed for an old tombstone would be missing until the next bundle.
        """
        for video_id in self._to_take_down:
            self._take_down(video_id)
        self._to_take_down.clear()

    def _withhold(self, video_id: str) -> None:
        if self._texts is not None:
            self._texts.remove(video_id)
        self._withheld.setdefault(video_id, None)
        self._to_take_down.add(video_id)

    def _release(self, upload: VideoUpload) -> None:
        if self._texts is not None:
            self._texts.put(upload)
        self._to_take_down.discard(upload.video_id)
        vector = self._withheld.pop(upload.video_id, None)
        if vector is not None:
            self._take_vector(vector)

    def on_announcement(
        self, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Apply one record of `model-bundles`; a tombstone makes its bundle forgotten."""
        try:
            if value is None:
                self._offers.forget(tombstone_id(key, headers))
                return
            offer = decode(MODEL_BUNDLES, BundleAnnouncement, key, value, headers)
        except DecodeError as error:
            self.counts[f"announcements_skipped:{error.reason}"] += 1
            return
        self._offers.on_announcement(offer)

    def swap_if_newer(self) -> bool:
        """Put in service what should be; return whether that is another bundle than before.

        That is the newest servable bundle if it is newer; an older one if the one in service is
        withdrawn.
        """
        offer, began_s = self._offers.best(), self._monotonic()
        if offer is None:
            return False
        previous, self._previous = self._previous, None
        if previous is not None and previous.bundle_id == offer.bundle_id:
            self._swap(offer, previous)
            self.metrics.load_s.observe(self._monotonic() - began_s)
            return True
        del previous
        try:
            with refused_on_error():
                serving = self._make_serving(self._load_bundle(offer))
        except BundleError as error:
            self._offers.refuse(offer.bundle_id, reason=str(error))
            self.counts["bundles_refused"] += 1
            self.metrics.refused[error.word] += 1
            return False
        except StoreUnavailable as error:
            self._offers.postpone(offer.bundle_id, reason=str(error))
            self.metrics.refused[STORE_UNAVAILABLE] += 1
            return False
        self._swap(offer, serving)
        self.metrics.load_s.observe(self._monotonic() - began_s)
        return True

    def _swap(self, offer: BundleAnnouncement, serving: Serving) -> None:
        for vector in self._waiting.take(offer.generation):
            self._put_into(serving, vector)  # nobody looks at it yet
        for video_id in self._taken_down:
            serving.remove(video_id)
        former = self._switch.current
        is_back = former is not None and offer.generation < former.generation
        self._offers.put_in_service(offer.generation)
        with self._switch.changing():
            self._switch.current = serving
        self._previous = None if is_back else former
        self.counts["rollbacks"] += is_back
        log.log(
            WARNING if is_back else INFO,
            "bundle_in_service",
            bundle_id=offer.bundle_id,
            generation=offer.generation,
            videos=len(serving.items),
            **({"withdrawn": former.generation} if is_back and former is not None else {}),
        )
        if offer.state != BundleState.IN_SERVICE:
            self._announce(
                msgspec.structs.replace(
                    offer,
                    state=BundleState.IN_SERVICE,
                    announced_at_ms=self._clock(),
                    reason="",
                )
            )

    def _put(self, serving: Serving, vector: ItemVector) -> None:
        self._puts.append((serving, vector))
        if not self._is_together:
            self._apply()

    def _apply(self) -> None:
        """Put in the vectors that were taken."""
        puts, self._puts = self._puts, []
        for first in range(0, len(puts), PUT_TOGETHER):
            with self._switch.changing():
                for serving, vector in puts[first : first + PUT_TOGETHER]:
                    self._put_into(serving, vector)

    def _put_into(self, serving: Serving, vector: ItemVector) -> None:
        try:
            serving.put(vector)
        except ValueError:
            self.counts["vectors_misfit"] += 1

    def _take_down(self, video_id: str) -> None:
        self._apply()  # what came before
        self._taken_down.add(video_id)
        self._waiting.remove(video_id)
        for serving in (self._switch.current, self._previous):
            if serving is not None:
                with self._switch.changing():
                    serving.remove(video_id)


def announcer(outbox: Outbox, layout: Layout) -> Callable[[BundleAnnouncement], None]:
    """Return a function that publishes an announcement and waits for the acknowledgement."""

    def announce(announcement: BundleAnnouncement) -> None:
        key = announcement.bundle_id.encode()
        outbox.deliver([Outgoing(layout.name(MODEL_BUNDLES), key, encode(announcement))])

    return announce
