"""Turn uploads and item vectors into points of the index. Read this file first.

One turn takes what is there, the most urgent first: uploads, announcements, vectors, and then
one slice of the generation that is being built, if any. What takes longer than a slice is
done by one thread in the background, which a later turn hears of: opening a bundle, creating
and deleting a collection. So an upload waits for at most one slice. For every batch the order
of effects is the same:

1. the index has acknowledged the points (and the deletions),
2. the broker has acknowledged the records that follow from them,
3. the offsets of the batch are committed.

A crash between 1 and 2 leaves points whose vectors streams has not heard of, one between 2
and 3 leaves records that will be sent again. Both are mended by the re-delivery that follows,
and neither re-delivery nor reordering changes what is stored in the end
(`index_sync.collections.generation` says which of two vectors stays).

There is one such process by design; `index_sync.source` says why. When Qdrant is away it
waits, and commits nothing meanwhile (`index_sync.collections.index`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import msgspec
import structlog

from contract.errors import BundleError, DecodeError, StoreUnavailable
from contract.kafka.records import Received
from contract.process.clock import Clock
from contract.wire.events import BundleAnnouncement, BundleState, VideoUpload
from index_sync.background import Background
from index_sync.bundles.announced import Bundles
from index_sync.bundles.loaded_bundle import LoadedBundle, OpenBundle, open_again
from index_sync.catalogue import UploadCatalogue
from index_sync.collections.build import Building, build
from index_sync.collections.collections import GenerationCollections
from index_sync.collections.generation import Generation
from index_sync.held import HeldVectors
from index_sync.metrics import STORE_UNAVAILABLE, IndexMetrics
from index_sync.publisher import Publisher
from index_sync.records import BadRecord, Facts, newest_facts, next_offsets, read, unreadable
from index_sync.route import route
from index_sync.settings import IndexSettings
from index_sync.source import Source

log = structlog.get_logger()

_DONE = object()


@dataclass(slots=True)
class Worker:
    """The work of this process: `start` once, then `turn` repeatedly."""

    settings: IndexSettings
    uploads: Source
    announcements: Source
    vectors: Source
    collections: GenerationCollections
    publisher: Publisher
    open_bundle: OpenBundle
    background: Background
    clock: Clock
    monotonic: Callable[[], float] = monotonic
    catalogue: UploadCatalogue = field(default_factory=UploadCatalogue)
    building: Building | None = None
    refilling: Iterator[None] | None = None
    bundles: Bundles = field(init=False)
    held: HeldVectors = field(init=False)
    metrics: IndexMetrics = field(init=False)
    reached: dict[int, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.bundles = Bundles(self.settings.kept_generations, monotonic=self.monotonic)
        self.held = HeldVectors(self.settings.max_held_vectors, monotonic=self.monotonic)
        self.metrics = IndexMetrics(self.clock, self.monotonic)

    def start(self) -> None:
        """Read all announcements and uploads, find the collections, and catch up."""
        self.announcements.open(from_beginning=True)
        self._read_announcements(self.announcements.read_to_end())
        self.uploads.open(from_beginning=True)
        records = self.uploads.read_to_end()
        facts = newest_facts(records, VideoUpload)
        self._remember(facts)
        self._tell_unreadable(facts)
        has_rebuilt = self._open_collections()
        self.vectors.open(from_beginning=has_rebuilt)
        new = [r for r in records if r.offset >= self.uploads.committed.get(r.partition, 0)]
        for first in range(0, len(new), self.settings.batch_records):
            self.take_uploads(new[first : first + self.settings.batch_records])
        self._tidy()
        log.info(
            "index_sync_started",
            videos=len(self.catalogue),
            generations=sorted(self.collections.generations),
            in_service=self.bundles.in_service,
        )

    def turn(self) -> None:
        """Process the records there are, uploads first; wait briefly for an upload if idle."""
        self._note_round()
        most = self.settings.batch_records
        is_busy = self.building is not None or self.refilling is not None
        wait_s = 0.0 if is_busy else self.settings.idle_wait_ms / 1_000
        self.take_uploads(self.uploads.take(most, wait_s=wait_s))
        self.take_announcements(self.announcements.take(most))
        self.take_vectors(self.vectors.take(self.settings.build_slice_videos))
        self.check_background()
        self.build_on()
        self.refill_on()

    def take_uploads(self, records: Sequence[Received]) -> None:
        """Write the videos of one batch to the index, and delete those that were taken down."""
        if not records:
            return
        facts = newest_facts(records, VideoUpload)
        self._remember(facts)
        self.collections.delete(facts.tombstones)
        now_ms = self.clock()
        told = [self.collections.add(n, facts.given, now_ms=now_ms) for n in self._polled()]
        for vectors in told:
            self.publisher.vectors(vectors)
        self.publisher.tombstones(facts.tombstones)
        self._settle(self.uploads, next_offsets(records), facts.bad)
        self.metrics.note_uploads(records)
        self.counts.update(uploads=len(facts.given), takedowns=len(facts.tombstones))
        self.counts.update({f"mended:{what}": n for what, n in facts.mended.items()})

    def take_announcements(self, records: Sequence[Received]) -> None:
        """Apply the announcements of bundles, and begin to open the one that is offered."""
        if records:
            newest = self._newest
            self._read_announcements(records)
            if self._newest is not None and newest is not None and self._newest < newest:
                self._go_back(self._newest)
        is_busy = self.background.opening is not None or self.building is not None
        offered = None if is_busy else self.bundles.to_build()
        if offered is not None:
            self.background.open(offered, partial(self._create, offered))

    def take_vectors(self, records: Sequence[Received]) -> None:
        """Write the vectors of one batch into the collections of their generations."""
        self.reached |= next_offsets(records)
        if records or self.held.is_any_late:
            self._sort_in(records)

    def check_background(self) -> None:
        """Begin to build the bundle that has been opened; raise what failed in the background."""
        opening = self.background.finished_opening()
        if opening is None:
            return
        offered = opening.announcement
        try:
            generation, opened = opening.created.result()
        except BundleError as error:
            self._refuse(offered, error)
            return
        except StoreUnavailable as error:
            self.bundles.postpone(offered.bundle_id, reason=str(error))
            self.metrics.refused[STORE_UNAVAILABLE] += 1
            return
        self.building = Building(offered, self._steps(generation, opened), opening.started_s)
        self._sort_in(self.held.take())

    def build_on(self) -> None:
        """Take one step of the build; after the last one announce the generation as indexed."""
        building = self.building
        if building is None or next(building.steps, _DONE) is not _DONE:
            return
        self.building = None
        offered = building.announcement
        if self.bundles.state(offered.bundle_id) is BundleState.WITHDRAWN:
            return
        indexed = msgspec.structs.replace(
            offered, state=BundleState.INDEXED, announced_at_ms=self.clock()
        )
        self.publisher.announcement(indexed)
        self.publisher.flush()
        self.bundles.on_announcement(indexed)
        self.metrics.build_s.observe(monotonic() - building.started_s)
        log.info(
            "generation_indexed",
            generation=offered.generation,
            bundle_id=offered.bundle_id,
            videos=len(self.collections.generations[offered.generation].versions),
            build_ms=round(1e3 * (monotonic() - building.started_s)),
        )
        self._tidy()

    def refill_on(self) -> None:
        """Add one slice of the uploads that the generation which serves again has missed."""
        if self.refilling is not None and next(self.refilling, _DONE) is _DONE:
            self.refilling = None

    def _note_round(self) -> None:
        metrics = self.metrics
        metrics.begin_round()
        metrics.generation = self.bundles.in_service or 0
        if metrics.is_look_due():
            for source in (self.uploads, self.announcements, self.vectors):
                metrics.note_lag(source.num_behind(), source.newest_ms)

    @property
    def _newest(self) -> int | None:
        """The generation that serves, or will: the newest of those that are indexed."""
        return max((a.generation for a in self.bundles.indexed), default=None)

    def _go_back(self, number: int) -> None:
        """Serve generation *number* again, since those after it were withdrawn.

        Uploads since then went into the later ones alone. Those without a trained vector are sent
        once more, since on the compacted topic the vector of a later generation took their place.
        """
        if number not in self.collections.generations:
            return
        log.warning("generation_serves_again", generation=number)
        self.collections.point_alias(number)
        self.refilling = self._refill(number)

    def _refill(self, number: int) -> Iterator[None]:
        video_ids, size = list(self.catalogue), self.settings.build_slice_videos
        for start in range(0, len(video_ids), size):
            if number not in self.collections.generations:
                return
            known = map(self.catalogue.get, video_ids[start : start + size])
            given = [upload for upload in known if upload is not None]
            self.publisher.vectors(self.collections.add(number, given, now_ms=self.clock()))
            self.publisher.flush()
            yield

    def _remember(self, facts: Facts[VideoUpload]) -> None:
        for upload in facts.given:
            self.catalogue.put(upload)
        for video_id in facts.tombstones:
            self.catalogue.take_down(video_id)

    def _tell_unreadable(self, facts: Facts[VideoUpload]) -> None:
        missed = unreadable(facts, self.uploads.committed)
        if missed:
            log.error(
                "uploads_unreadable",
                records=len(missed),
                reasons=dict(Counter(bad.error.reason for bad in missed)),
                remedy="send the catalogue again, take-downs, too",
            )

    def _polled(self) -> list[int]:
        """Return the generations that uploads go into, oldest first.

        On a compacted topic the newest record of a video stays, so the generation that will
        serve longest comes last.
        """
        built = self.building.announcement.generation if self.building else None
        wanted = {self.bundles.in_service, self._newest, built}
        return [number for number in sorted(self.collections.generations) if number in wanted]

    def _read_announcements(self, records: Sequence[Received]) -> None:
        bad: list[BadRecord] = []
        for record in records:
            try:
                bundle_id, announcement = read(record, BundleAnnouncement)
            except DecodeError as error:
                if record.offset >= self.announcements.committed.get(record.partition, 0):
                    bad.append(BadRecord(record, error))
            else:
                if announcement is None:
                    self.bundles.on_tombstone(bundle_id)
                else:
                    self.bundles.on_announcement(announcement)
        self._settle(self.announcements, next_offsets(records), bad)

    def _sort_in(self, records: Sequence[Received]) -> None:
        routed = route(
            records,
            self.collections.generations,
            is_taken_down=self.catalogue.is_taken_down,
            max_held=self.held.room,
        )
        self.collections.delete(sorted(routed.gone))
        for number, points in routed.points.items():
            self.counts["vectors"] += self.collections.write(number, points.values())
        self.held.add(routed.held)
        self.counts["vectors_ignored"] += routed.num_ignored
        bad = routed.bad + self.held.take_late(self.bundles.is_announced)
        self._settle(self.vectors, self.held.bounded(self.reached), bad)

    def _settle(self, source: Source, offsets: Mapping[int, int], bad: Sequence[BadRecord]) -> None:
        """Send bad records away, wait for the broker's word on all that was sent, and commit."""
        for letter in bad:
            self.publisher.dead_letter(letter)
            tell = log.error if letter.is_failed_take_down else log.warning
            tell(
                "record_dead_lettered",
                topic=letter.record.topic,
                partition=letter.record.partition,
                offset=letter.record.offset,
                reason=letter.error.reason,
            )
        self.publisher.flush()
        source.commit(offsets)
        self.counts["dead_letters"] += len(bad)
        for letter in bad:
            self.metrics.dead.note(letter.record.topic, letter.error.reason)

    def _open_collections(self) -> bool:
        """Find the collections that are kept; return whether one was lost and made anew."""
        kept = self.bundles.kept
        needed = {self.bundles.in_service, *(a.generation for a in kept[-1:])}
        has_rebuilt = False
        for announcement in kept:
            try:
                opened = open_again(self.open_bundle, announcement)
            except BundleError as error:
                self._refuse(announcement, error)
                continue
            if self.collections.find(announcement, opened) is not None:
                continue
            if announcement.generation in needed:
                log.warning("collection_missing", generation=announcement.generation)
                generation = self.collections.create(announcement, opened)
                for _step in self._steps(generation, opened):
                    pass
                has_rebuilt = True
        return has_rebuilt

    def _create(self, offered: BundleAnnouncement) -> tuple[Generation, LoadedBundle]:
        """Open a bundle and create its collection. Called in the background."""
        opened = self.open_bundle(offered)
        return self.collections.create(offered, opened), opened

    def _steps(self, generation: Generation, opened: LoadedBundle) -> Iterator[None]:
        self.collections.put(generation)
        return build(
            self.collections,
            generation.number,
            opened.snapshot,
            catalogue=self.catalogue,
            publisher=self.publisher,
            clock=self.clock,
            slice_videos=self.settings.build_slice_videos,
        )

    def _refuse(self, announcement: BundleAnnouncement, error: BundleError) -> None:
        self.bundles.reject(announcement.bundle_id, reason=str(error))
        self.counts["bundles_refused"] += 1
        self.metrics.refused[error.word] += 1

    def _tidy(self) -> None:
        """Point the alias to the newest generation, then delete and forget all that is not kept.

        A generation whose bundle is gone may have lost its collection, too: it gets no alias.
        """
        indexed = self.bundles.kept
        if not indexed:
            return
        kept = {announcement.generation for announcement in indexed}
        if found := [a.generation for a in indexed if a.generation in self.collections.generations]:
            self.collections.point_alias(found[-1])
        self.collections.forget_all_but(kept)
        self.background.run(partial(self.collections.drop_all_but, kept))
        self.publisher.forget_bundles(self.bundles.forget_old())
        self.publisher.flush()
