"""Track the state of each model bundle from the records of `model-bundles`, for every reader.

A bundle is offered by the trainer, indexed by index_sync, in service once streams serves it, and
perhaps withdrawn. Delivery repeats and workers differ in speed, so an announcement of an earlier
step changes nothing: what is withdrawn stays so, whatever a slow worker says of it afterwards. Only
an announcement of a higher revision, which an operator makes, brings it back.

What serves follows from that alone, in whatever order announcements come: the highest generation
that is servable.

Beside what is announced each process remembers what it found out itself: which bundles it rejects,
and which it could not load and tries again later.
"""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import structlog

from contract.kafka.retries import Retries
from contract.wire.events import BundleAnnouncement, BundleState

log = structlog.get_logger()

SERVABLE = (BundleState.INDEXED, BundleState.IN_SERVICE)
"""A bundle in one of these has a collection to search in."""

_STEPS = {state: step for step, state in enumerate(BundleState)}


def is_repeated(known: BundleAnnouncement | None, announced: BundleAnnouncement) -> bool:
    """Return whether *announced* repeats a step that *known* of the same bundle is past."""
    if known is None:
        return False
    if announced.revision != known.revision:
        return announced.revision < known.revision
    return _STEPS[announced.state] < _STEPS[known.state]


class BundleLog:
    """The newest announcement of each bundle that is remembered.

    Iterating goes by the time of the last announcements, oldest first.
    """

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        self._newest: dict[str, BundleAnnouncement] = {}
        self._in_service: int | None = None
        self._is_changed = False
        self._rejected: set[str] = set()
        self._retries = Retries(monotonic)
        self.newest_generation = 0
        """The highest generation that was ever announced."""

    def __len__(self) -> int:
        return len(self._newest)

    def __iter__(self) -> Iterator[BundleAnnouncement]:
        return iter(list(self._newest.values()))

    def apply(self, announcement: BundleAnnouncement) -> bool:
        """Apply an announcement; return whether it changes anything."""
        bundle_id = announcement.bundle_id
        self.newest_generation = max(self.newest_generation, announcement.generation)
        if is_repeated(self._newest.get(bundle_id), announcement):
            return False
        self._newest.pop(bundle_id, None)
        self._newest[bundle_id] = announcement
        self._is_changed = True
        return True

    @property
    def in_service(self) -> int | None:
        """The highest generation that a worker has in service, and that is not withdrawn.

        The highest: a slower worker may announce an older one later.
        """
        if self._is_changed:
            serving = (b.generation for b in self.in_state(BundleState.IN_SERVICE))
            self._in_service, self._is_changed = max(serving, default=None), False
        return self._in_service

    def of_generation(self, generation: int | None) -> BundleAnnouncement | None:
        """Return the bundle of *generation*; None if it is not known."""
        found = (b for b in self._newest.values() if b.generation == generation)
        return next(found, None)

    def forget(self, bundle_id: str) -> None:
        """Forget a bundle, and whether it was rejected or postponed."""
        self._newest.pop(bundle_id, None)
        self._is_changed = True
        self._rejected.discard(bundle_id)
        self._retries.forget(bundle_id)

    def forget_least(self, worth: Callable[[BundleAnnouncement], Any], *, most: int) -> None:
        """Forget the bundles of least *worth* until *most* are left; of equals the first one."""
        excess = len(self._newest) - most
        if excess > 0:
            for bundle in sorted(self._newest.values(), key=worth)[:excess]:
                self.forget(bundle.bundle_id)

    def reject(self, bundle_id: str, *, reason: str) -> None:
        """Reject this bundle for good: a damaged bundle stays damaged."""
        self._rejected.add(bundle_id)
        log.warning("bundle_refused", bundle_id=bundle_id, reason=reason)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """Retry this bundle later, since it cannot be loaded now."""
        retry_s = self._retries.failed(bundle_id)
        log.warning("bundle_postponed", bundle_id=bundle_id, reason=reason, retry_s=retry_s)

    def state(self, bundle_id: str) -> BundleState | None:
        """Return the state of a bundle; None if the bundle is unknown."""
        known = self._newest.get(bundle_id)
        return known.state if known is not None else None

    def is_rejected(self, bundle_id: str) -> bool:
        """Return whether this process rejects the bundle."""
        return bundle_id in self._rejected

    def is_due(self, bundle_id: str) -> bool:
        """Return whether the bundle may be tried: it is not rejected, nor postponed until later."""
        return bundle_id not in self._rejected and self._retries.is_due(bundle_id)

    def in_state(self, *states: BundleState) -> list[BundleAnnouncement]:
        """Return the bundles that are in one of *states*, oldest generation first."""
        found = [bundle for bundle in self._newest.values() if bundle.state in states]
        return sorted(found, key=lambda bundle: bundle.generation)

    @property
    def not_withdrawn(self) -> list[BundleAnnouncement]:
        """The bundles that serve or may come into service, oldest generation first."""
        return self.in_state(
            *(state for state in BundleState if state is not BundleState.WITHDRAWN)
        )
