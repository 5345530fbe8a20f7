"""Choose the bundle to put in service next: the newest that is servable, not rejected, and due.

Only what may still come into service is remembered, and of that no more than `MAX_OFFERS`:
however long the topic has become, a look at the offers costs the same. What cannot be put in
service is forgotten first, then what was heard of first; the newest servable bundle stays.
"""

from collections.abc import Callable, Iterable
from time import monotonic

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState

MAX_OFFERS = 16


class BundleOffers:
    """The bundles of generations beyond the one in service."""

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        self._log = BundleLog(monotonic)
        self._in_service = -1

    def __len__(self) -> int:
        return len(self._log)

    def on_announcement(self, offer: BundleAnnouncement) -> None:
        """Apply one announcement."""
        if offer.generation > self._in_service:
            self._log.apply(offer)
            self._log.forget_least(self._worth(), most=MAX_OFFERS)

    def forget(self, bundle_id: str) -> None:
        """Forget a bundle that may not be put in service any more."""
        self._log.forget(bundle_id)

    def best(self) -> BundleAnnouncement | None:
        """Return the offer to load now; None when there is none."""
        return _newest(o for o in self._log.in_state(*SERVABLE) if self._log.is_due(o.bundle_id))

    def refuse(self, bundle_id: str, *, reason: str) -> None:
        """Never try this bundle again: a damaged bundle does not change."""
        self._log.reject(bundle_id, reason=reason)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """Try this bundle again later: its store does not answer now."""
        self._log.postpone(bundle_id, reason=reason)

    def put_in_service(self, generation: int) -> None:
        """Forget everything up to *generation*."""
        self._in_service = generation
        for offer in self._log:
            if offer.generation <= generation:
                self.forget(offer.bundle_id)

    def is_coming(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced, and may come into service."""
        return any(offer.generation == generation for offer in self._log.not_withdrawn)

    @property
    def newest_servable(self) -> int:
        """The newest generation that is indexed; the one in service when none is newer."""
        servable = self._log.in_state(*SERVABLE)
        return servable[-1].generation if servable else self._in_service

    def _worth(self) -> Callable[[BundleAnnouncement], int]:
        """Return what an offer is worth to be remembered.

        Thousands of withdrawn bundles must not displace the only one that can serve.
        """
        log = self._log
        newest = _newest(o for o in log.in_state(*SERVABLE) if not log.is_rejected(o.bundle_id))

        def worth(offer: BundleAnnouncement) -> int:
            if offer is newest:
                return 2
            is_withdrawn = offer.state is BundleState.WITHDRAWN
            return 0 if is_withdrawn or log.is_rejected(offer.bundle_id) else 1

        return worth


def _newest(offers: Iterable[BundleAnnouncement]) -> BundleAnnouncement | None:
    return max(offers, key=lambda offer: offer.generation, default=None)
