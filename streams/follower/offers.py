"""Which bundle to put in service next: the newest that is servable, not refused, and due.

Only what may still come into service is remembered, and of that no more than `MAX_OFFERS`:
however long the topic has become, a look at the offers costs the same. What cannot be put in
service is forgotten first, then what was heard of first; the newest servable bundle stays.
"""

from collections.abc import Callable, Iterable
from time import monotonic

import structlog

from contract.announcements import is_repeated
from contract.events import BundleAnnouncement, BundleState
from contract.retries import Retries

log = structlog.get_logger()

SERVABLE = (BundleState.INDEXED, BundleState.IN_SERVICE)
MAX_OFFERS = 16


class Offers:
    """The newest word on each bundle of a generation beyond the one in service."""

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        self._newest: dict[str, BundleAnnouncement] = {}
        self._refused: set[str] = set()
        self._retries = Retries(monotonic)
        self._in_service = -1

    def __len__(self) -> int:
        return len(self._newest)

    def hear(self, offer: BundleAnnouncement) -> None:
        """Take in one announcement."""
        if offer.generation <= self._in_service or is_repeated(
            self._newest.get(offer.bundle_id), offer
        ):
            return
        self._newest.pop(offer.bundle_id, None)  # so that the order is that of the last words
        self._newest[offer.bundle_id] = offer
        if len(self._newest) > MAX_OFFERS:
            self._make_room()

    def forget(self, bundle_id: str) -> None:
        """Forget a bundle that may not be put in service any more."""
        self._newest.pop(bundle_id, None)
        self._refused.discard(bundle_id)
        self._retries.forget(bundle_id)

    def best(self) -> BundleAnnouncement | None:
        """Return the offer to load now; None when there is none."""
        return _newest(o for o in self._servable if self._retries.is_due(o.bundle_id))

    def refuse(self, bundle_id: str) -> None:
        """Do not try this bundle again: what is wrong with it stays wrong."""
        self._refused.add(bundle_id)

    def postpone(self, bundle_id: str, *, reason: str) -> None:
        """Try this bundle, which cannot be had now, again later."""
        retry_s = self._retries.failed(bundle_id)
        log.warning("bundle_postponed", bundle_id=bundle_id, reason=reason, retry_s=retry_s)

    def put_in_service(self, generation: int) -> None:
        """Forget everything up to *generation*."""
        self._in_service = generation
        for offer in list(self._newest.values()):
            if offer.generation <= generation:
                self.forget(offer.bundle_id)

    def is_coming(self, generation: int) -> bool:
        """Return whether a bundle of *generation* is announced, and may come into service."""
        return any(
            offer.generation == generation and offer.state is not BundleState.WITHDRAWN
            for offer in self._newest.values()
        )

    @property
    def newest_servable(self) -> int:
        """The newest generation that is indexed; the one in service when none is newer."""
        servable = [o.generation for o in self._newest.values() if o.state in SERVABLE]
        return max(servable, default=self._in_service)

    @property
    def _servable(self) -> list[BundleAnnouncement]:
        """The offers that can be put in service, as far as is known."""
        offers = self._newest.values()
        return [o for o in offers if o.state in SERVABLE and o.bundle_id not in self._refused]

    def _make_room(self) -> None:
        """Forget one offer.

        Thousands of withdrawn bundles must not displace the only one that can serve.
        """
        newest = _newest(self._servable)

        def worth(offer: BundleAnnouncement) -> int:
            if offer is newest:
                return 2
            is_withdrawn = offer.state is BundleState.WITHDRAWN
            return 0 if is_withdrawn or offer.bundle_id in self._refused else 1

        self.forget(min(self._newest.values(), key=worth).bundle_id)  # the first of equal worth


def _newest(offers: Iterable[BundleAnnouncement]) -> BundleAnnouncement | None:
    return max(offers, key=lambda offer: offer.generation, default=None)
