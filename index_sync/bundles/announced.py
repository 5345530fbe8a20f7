"""Decide which generation to build and which to keep, from the records of `model-bundles`.

What is not kept, and will not be built, is forgotten, and a tombstone is due for it: otherwise
every process would read every announcement ever made at each start.
"""

from collections.abc import Callable
from time import monotonic

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState

MAX_REMEMBERED = 256
"""With more bundles than this in mind, the oldest ones that were never built are forgotten, too."""


class Bundles(BundleLog):
    """The bundles that are kept, or may be built."""

    def __init__(
        self, kept_generations: int, *, monotonic: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(monotonic)
        self._num_kept = kept_generations
        self._forgotten: set[str] = set()

    def on_announcement(self, announcement: BundleAnnouncement) -> None:
        """Apply one announcement."""
        if self.apply(announcement):
            self._forgotten.discard(announcement.bundle_id)
            if len(self) > MAX_REMEMBERED:
                self._make_room()

    def on_tombstone(self, bundle_id: str) -> None:
        """Forget a bundle whose tombstone was read, unless it is kept."""
        if bundle_id not in {announcement.bundle_id for announcement in self.kept}:
            self.forget(bundle_id)
            self._forgotten.discard(bundle_id)

    def is_announced(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced."""
        return any(bundle.generation == generation for bundle in self)

    @property
    def indexed(self) -> list[BundleAnnouncement]:
        """The bundles that have been indexed at least once, oldest generation first."""
        return self.in_state(*SERVABLE)

    def to_build(self) -> BundleAnnouncement | None:
        """Return the offered bundle to index next: the newest, if newer than what is indexed.

        What was offered before another one was withdrawn is not built, unless an operator offered
        it again since.
        """
        offered = self.in_state(BundleState.OFFERED)
        newest = next((a for a in reversed(offered) if self.is_due(a.bundle_id)), None)
        if newest is None:
            return None
        overtaking = SERVABLE if newest.revision else (*SERVABLE, BundleState.WITHDRAWN)
        taken = (a.generation for a in self.in_state(*overtaking))
        return newest if newest.generation > max(taken, default=-1) else None

    @property
    def kept(self) -> list[BundleAnnouncement]:
        """The bundles with kept collections, oldest first: the newest and the one in service."""
        indexed = self.indexed
        older = [a for a in indexed[: -self._num_kept] if a.generation == self.in_service]
        return older + indexed[-self._num_kept :]

    def forget_old(self) -> list[str]:
        """Forget bundles that are not kept and older than the newest one that is.

        Return the bundles that were forgotten since the last call: their tombstones are due.
        """
        self._forget_old()
        forgotten, self._forgotten = sorted(self._forgotten), set()
        return forgotten

    def _forget_old(self) -> None:
        kept = {announcement.generation for announcement in self.kept}
        newest = max(kept, default=-1)
        for known in self:
            if known.generation < newest and known.generation not in kept:
                self.forget(known.bundle_id)
                self._forgotten.add(known.bundle_id)

    def _make_room(self) -> None:
        self._forget_old()
        kept = {announcement.bundle_id for announcement in self.kept}
        self.forget_least(
            lambda bundle: (bundle.bundle_id in kept, bundle.generation),
            most=len(kept) + MAX_REMEMBERED // 2,
        )
