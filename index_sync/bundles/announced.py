"""Which generation serves, which to build and which to keep, by what `model-bundles` tells.

What is not kept, and will not be built, is forgotten, and a tombstone is due for it: otherwise
every announcement ever made would be read at each start, by everybody, and looked at each turn.
"""

from collections.abc import Callable
from time import monotonic

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState

MAX_REMEMBERED = 256
"""With more bundles than this in mind, the oldest ones that were never built are forgotten, too."""


class Bundles:
    """The bundles that are kept, or may be built."""

    def __init__(
        self, kept_generations: int, *, monotonic: Callable[[], float] = monotonic
    ) -> None:
        self._num_kept = kept_generations
        self._log = BundleLog(monotonic)
        self._forgotten: set[str] = set()

    def __len__(self) -> int:
        return len(self._log)

    @property
    def in_service(self) -> int | None:
        """The generation that was announced last as in service."""
        return self._log.in_service

    def on_announcement(self, announcement: BundleAnnouncement) -> None:
        """Take in one announcement."""
        if self._log.apply(announcement):
            self._forgotten.discard(announcement.bundle_id)
            if len(self._log) > MAX_REMEMBERED:
                self._make_room()

    def hear_tombstone(self, bundle_id: str) -> None:
        """Somebody says to forget a bundle: one that is kept stays until it is not."""
        if bundle_id not in {announcement.bundle_id for announcement in self.kept}:
            self._log.forget(bundle_id)
            self._forgotten.discard(bundle_id)

    def refuse(self, bundle_id: str, *, reason: str) -> None:
        """This bundle cannot be indexed; until the next start it is not tried again."""
        self._log.reject(bundle_id, reason=reason)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """This bundle cannot be had now: it is tried again later."""
        self._log.postpone(bundle_id, reason=reason)

    def is_withdrawn(self, bundle_id: str) -> bool:
        """Return whether the newest word on the bundle is that it shall not serve."""
        return self._log.state(bundle_id) is BundleState.WITHDRAWN

    def is_announced(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced."""
        return any(bundle.generation == generation for bundle in self._log)

    @property
    def indexed(self) -> list[BundleAnnouncement]:
        """The bundles that have been indexed at least once, oldest generation first."""
        return self._log.in_state(*SERVABLE)

    def to_build(self) -> BundleAnnouncement | None:
        """Return the offered bundle to index next: the newest, if newer than what is indexed."""
        offered = self._log.in_state(BundleState.OFFERED)
        newest = next((a for a in reversed(offered) if self._log.is_due(a.bundle_id)), None)
        taken = (a.generation for a in self._log if a.state is not BundleState.OFFERED)
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
        for known in self._log:
            if known.generation < newest and known.generation not in kept:
                self._log.forget(known.bundle_id)
                self._forgotten.add(known.bundle_id)

    def _make_room(self) -> None:
        self._forget_old()
        kept = {announcement.bundle_id for announcement in self.kept}
        self._log.forget_least(
            lambda bundle: (bundle.bundle_id in kept, bundle.generation),
            most=len(kept) + MAX_REMEMBERED // 2,
        )
