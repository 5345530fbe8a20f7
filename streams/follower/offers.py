"""Choose the bundle to put in service next: the newest that is servable, not rejected, and due.

A newer one than that in service always; an older one only once that in service is withdrawn. Since
what serves depends on the announcements alone, every worker comes to the same generation, in
whatever order it reads them.

No more than `MAX_OFFERS` are remembered: however long the topic has become, a look at the offers
costs the same. What cannot be put in service is forgotten first, then the oldest generation; the
newest servable bundle stays, and what is known of the one in service.
"""

from collections.abc import Callable, Iterable
from time import monotonic

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState

MAX_OFFERS = 16


class BundleOffers:
    """The bundles beyond the one in service, and those to go back to."""

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        self._log = BundleLog(monotonic)
        self._in_service = -1

    def __len__(self) -> int:
        return len(self._log)

    def on_announcement(self, offer: BundleAnnouncement) -> None:
        """Apply one announcement."""
        if self._log.apply(offer):
            self._log.forget_least(self._worth(), most=MAX_OFFERS)

    def forget(self, bundle_id: str) -> None:
        """Forget a bundle that may not be put in service any more."""
        self._log.forget(bundle_id)

    def best(self) -> BundleAnnouncement | None:
        """Return the offer to load now; None when there is none."""
        due = _newest(o for o in self._log.in_state(*SERVABLE) if self._log.is_due(o.bundle_id))
        if due is None or due.generation == self._in_service:
            return None
        return due if due.generation > self._in_service or self.is_withdrawn else None

    @property
    def is_withdrawn(self) -> bool:
        """Whether the bundle in service is withdrawn."""
        known = self._log.of_generation(self._in_service)
        return known is not None and known.state is BundleState.WITHDRAWN

    def refuse(self, bundle_id: str, *, reason: str) -> None:
        """Never try this bundle again: a damaged bundle does not change."""
        self._log.reject(bundle_id, reason=reason)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """Try this bundle again later: its store does not answer now."""
        self._log.postpone(bundle_id, reason=reason)

    def put_in_service(self, generation: int) -> None:
        """Note that *generation* serves now."""
        self._in_service = generation

    def is_coming(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced, and may come into service."""
        if generation <= self._in_service and not self.is_withdrawn:
            return False
        return any(offer.generation == generation for offer in self._log.not_withdrawn)

    @property
    def newest_servable(self) -> int:
        """The newest generation that is indexed; the one in service when none is newer."""
        servable = self._log.in_state(*SERVABLE)
        return max([self._in_service, *(offer.generation for offer in servable)])

    def _worth(self) -> Callable[[BundleAnnouncement], tuple[int, int]]:
        """Return what an offer is worth to be remembered.

        Thousands of withdrawn bundles must not displace the only one that can serve.
        """
        log = self._log
        newest = _newest(o for o in log.in_state(*SERVABLE) if not log.is_rejected(o.bundle_id))

        def worth(offer: BundleAnnouncement) -> tuple[int, int]:
            if offer is newest or offer.generation == self._in_service:
                return 2, offer.generation
            is_withdrawn = offer.state is BundleState.WITHDRAWN
            is_usable = not is_withdrawn and not log.is_rejected(offer.bundle_id)
            return int(is_usable), offer.generation

        return worth


def _newest(offers: Iterable[BundleAnnouncement]) -> BundleAnnouncement | None:
    return max(offers, key=lambda offer: offer.generation, default=None)
