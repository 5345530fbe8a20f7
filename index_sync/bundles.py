"""What `model-bundles` says: which generation serves, which to build, which to keep.

What is not kept, and will not be built, is forgotten, and a tombstone is due for it: otherwise
every announcement ever made would be read at each start, by everybody, and looked at each turn.
"""

from collections.abc import Callable
from time import monotonic

import structlog

from contract.announcements import is_repeated
from contract.events import BundleAnnouncement, BundleState
from contract.retries import Retries

log = structlog.get_logger()

MAX_REMEMBERED = 256
"""With more bundles than this in mind, the oldest ones that were never built are forgotten, too."""


class Bundles:
    """The newest announcement of each bundle that is kept, or may be built."""

    def __init__(
        self, kept_generations: int, *, monotonic: Callable[[], float] = monotonic
    ) -> None:
        self._num_kept = kept_generations
        self._newest: dict[str, BundleAnnouncement] = {}
        self._refused: set[str] = set()
        self._retries = Retries(monotonic)
        self._forgotten: set[str] = set()
        self.in_service: int | None = None

    def __len__(self) -> int:
        return len(self._newest)

    def hear(self, announcement: BundleAnnouncement) -> None:
        """Take in one announcement."""
        bundle_id = announcement.bundle_id
        if is_repeated(self._newest.get(bundle_id), announcement):
            return
        self._forgotten.discard(bundle_id)
        self._newest[bundle_id] = announcement
        if announcement.state is BundleState.IN_SERVICE:
            self.in_service = announcement.generation
        if len(self._newest) > MAX_REMEMBERED:
            self._make_room()

    def hear_tombstone(self, bundle_id: str) -> None:
        """Somebody says to forget a bundle: one that is kept stays until it is not."""
        if bundle_id in {announcement.bundle_id for announcement in self.kept}:
            return
        self._forget(bundle_id)
        self._forgotten.discard(bundle_id)

    def refuse(self, bundle_id: str, *, reason: str) -> None:
        """This bundle cannot be indexed; until the next start it is not tried again."""
        self._refused.add(bundle_id)
        log.warning("bundle_refused", bundle_id=bundle_id, reason=reason)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """This bundle cannot be had now: it is tried again later."""
        retry_s = self._retries.failed(bundle_id)
        log.warning("bundle_postponed", bundle_id=bundle_id, reason=reason, retry_s=retry_s)

    def is_withdrawn(self, bundle_id: str) -> bool:
        """Return whether the newest word on the bundle is that it shall not serve."""
        known = self._newest.get(bundle_id)
        return known is not None and known.state is BundleState.WITHDRAWN

    def is_announced(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced."""
        return any(known.generation == generation for known in self._newest.values())

    @property
    def indexed(self) -> list[BundleAnnouncement]:
        """The bundles that have been indexed at least once, oldest generation first."""
        heard = self._newest.values()
        known = [a for a in heard if a.state in (BundleState.INDEXED, BundleState.IN_SERVICE)]
        return sorted(known, key=lambda a: a.generation)

    def to_build(self) -> BundleAnnouncement | None:
        """Return the offered bundle to index next: the newest, if newer than what is indexed."""
        taken = [a.generation for a in self._newest.values() if a.state is not BundleState.OFFERED]
        offered = [
            a
            for a in self._newest.values()
            if a.state is BundleState.OFFERED
            and a.bundle_id not in self._refused
            and self._retries.is_due(a.bundle_id)
        ]
        newest = max(offered, key=lambda a: a.generation, default=None)
        return newest if newest and newest.generation > max(taken, default=-1) else None

    @property
    def kept(self) -> list[BundleAnnouncement]:
        """Whose collections are kept, oldest first: the newest ones, and the one in service."""
        indexed = self.indexed
        older = [a for a in indexed[: -self._num_kept] if a.generation == self.in_service]
        return older + indexed[-self._num_kept :]

    def forget_old(self) -> list[str]:
        """Forget what is older than the newest bundle that is kept, and not kept itself.

        Return the bundles that were forgotten since the last call: their tombstones are due.
        """
        self._forget_old()
        forgotten, self._forgotten = sorted(self._forgotten), set()
        return forgotten

    def _forget_old(self) -> None:
        kept = {announcement.generation for announcement in self.kept}
        newest = max(kept, default=-1)
        for known in list(self._newest.values()):
            if known.generation < newest and known.generation not in kept:
                self._forget(known.bundle_id)
                self._forgotten.add(known.bundle_id)

    def _make_room(self) -> None:
        self._forget_old()
        kept = {announcement.bundle_id for announcement in self.kept}
        others = sorted(
            (a for a in self._newest.values() if a.bundle_id not in kept),
            key=lambda a: a.generation,
        )
        for announcement in others[: -MAX_REMEMBERED // 2]:
            self._forget(announcement.bundle_id)

    def _forget(self, bundle_id: str) -> None:
        self._newest.pop(bundle_id, None)
        self._refused.discard(bundle_id)
        self._retries.forget(bundle_id)
