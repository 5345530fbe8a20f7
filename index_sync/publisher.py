"""Send vectors, tombstones, announcements and dead letters.

Sending only queues. `flush` waits until all of it is acknowledged, and only after it may an
offset be committed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.kafka.outbox import Outbox, Outgoing
from contract.process.clock import Clock
from contract.wire.dead_letters import dead_letter
from contract.wire.events import BundleAnnouncement, ItemVector, encode
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, Layout
from index_sync.records import SOURCES, BadRecord

APP = "index_sync"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Sends each kind of record to its topic."""

    outbox: Outbox
    layout: Layout
    clock: Clock

    def vectors(self, vectors: list[ItemVector]) -> None:
        """Send item vectors."""
        name = self.layout.name(ITEM_VECTORS)
        self.outbox.send([Outgoing(name, v.video_id.encode(), encode(v)) for v in vectors])

    def tombstones(self, video_ids: Iterable[str]) -> None:
        """Send a tombstone of the item vector of each video."""
        name = self.layout.name(ITEM_VECTORS)
        self.outbox.send([Outgoing(name, video_id.encode(), None) for video_id in video_ids])

    def announcement(self, announcement: BundleAnnouncement) -> None:
        """Send the announcement of a bundle."""
        key = announcement.bundle_id.encode()
        name = self.layout.name(MODEL_BUNDLES)
        self.outbox.send([Outgoing(name, key, encode(announcement))])

    def forget_bundles(self, bundle_ids: Iterable[str]) -> None:
        """Send a tombstone for each bundle."""
        name = self.layout.name(MODEL_BUNDLES)
        self.outbox.send([Outgoing(name, bundle_id.encode(), None) for bundle_id in bundle_ids])

    def dead_letter(self, bad: BadRecord) -> None:
        """Send a bad record, whole, to the dead-letter topic beside its own."""
        letter = dead_letter(
            bad.record,
            bad.error,
            layout=self.layout,
            topic=SOURCES[bad.record.topic],
            app=APP,
            now_ms=self.clock(),
        )
        self.outbox.send([letter])

    def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            BrokerUnavailable: something was not, in time or for good.
        """
        self.outbox.flush()
