"""Follow the state of each generation on `model-bundles`."""

from dataclasses import dataclass, field

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState

MAX_REMEMBERED = 256
"""So many bundles are remembered, the newest and the one in service."""
MAX_OUTSTANDING = 2
"""Offered and not yet in service: with the one in service, as many as a learner keeps frozen."""


@dataclass(slots=True)
class Generations:
    """The announced generations; the newest announcement of each counts."""

    _log: BundleLog = field(default_factory=BundleLog)
    _metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that were announced of the newest generation that is not withdrawn.

        Those of a withdrawn one may be what bots did, which nobody reaches again.
        """
        newest_first = reversed(self._log.not_withdrawn)
        known = (self._metrics.get(bundle.generation) for bundle in newest_first)
        return next((metrics for metrics in known if metrics), {})

    @property
    def in_service(self) -> int | None:
        """The highest generation that is in service; None if there is none."""
        return self._log.in_service

    @property
    def newest(self) -> int:
        """The highest generation that was ever announced."""
        return self._log.newest_generation

    @property
    def withdrawn(self) -> set[int]:
        """The generations that were withdrawn."""
        return {bundle.generation for bundle in self._log.in_state(BundleState.WITHDRAWN)}

    @property
    def not_withdrawn(self) -> list[BundleAnnouncement]:
        """The bundles that serve or may come into service, oldest generation first."""
        return self._log.not_withdrawn

    @property
    def needed(self) -> set[str]:
        """The bundles that must stay however old they are: in service, and indexed last."""
        newest = self._log.in_state(*SERVABLE)[-1:]
        in_service = self._log.of_generation(self.in_service)
        return {bundle.bundle_id for bundle in (*newest, in_service) if bundle is not None}

    def of(self, generation: int | None) -> BundleAnnouncement | None:
        """Return the bundle of *generation*; None if it is not known."""
        return self._log.of_generation(generation)

    def note(self, announcement: BundleAnnouncement) -> None:
        """Apply one announcement; they come in the order of their offsets."""
        self._log.apply(announcement)
        in_service = self._log.in_service
        if announcement.metrics:  # later states of a bundle need not have them
            self._metrics[announcement.generation] = dict(announcement.metrics)
        self._log.forget_least(
            lambda bundle: (bundle.generation == in_service, bundle.generation),
            most=MAX_REMEMBERED,
        )
        self._drop_metrics()

    def forget(self, bundle_id: str) -> None:
        """Forget a bundle whose tombstone was read: index_sync has deleted its collection.

        One that was withdrawn is not forgotten, since it may have to be gone back from, nor the one
        in service.
        """
        in_service = self._log.of_generation(self._log.in_service)
        is_needed = in_service is not None and in_service.bundle_id == bundle_id
        if not is_needed and self._log.state(bundle_id) is not BundleState.WITHDRAWN:
            self._log.forget(bundle_id)
            self._drop_metrics()

    def _drop_metrics(self) -> None:
        """Forget the metrics of generations that are not remembered any more."""
        if len(self._metrics) > len(self._log):
            known = {bundle.generation for bundle in self._log}
            self._metrics = {g: of_one for g, of_one in self._metrics.items() if g in known}

    @property
    def has_any(self) -> bool:
        """Whether a bundle is in service, or soon will be."""
        return bool(self._log.not_withdrawn)

    @property
    def is_backed_up(self) -> bool:
        """Whether bundles are offered faster than they come into service."""
        coming = {bundle.generation for bundle in self._log.not_withdrawn}
        return len([g for g in coming if g > (self.in_service or 0)]) >= MAX_OUTSTANDING
