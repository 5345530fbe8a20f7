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

    metrics: dict[str, float] = field(default_factory=dict)
    _log: BundleLog = field(default_factory=BundleLog)

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
        if announcement.metrics and announcement.generation == self.newest:
            self.metrics = dict(announcement.metrics)
        self._log.forget_least(
            lambda bundle: (bundle.generation == in_service, bundle.generation),
            most=MAX_REMEMBERED,
        )

    @property
    def has_any(self) -> bool:
        """Whether a bundle is in service, or soon will be."""
        return bool(self._log.not_withdrawn)

    @property
    def is_backed_up(self) -> bool:
        """Whether bundles are offered faster than they come into service."""
        coming = {bundle.generation for bundle in self._log.not_withdrawn}
        return len([g for g in coming if g > (self.in_service or 0)]) >= MAX_OUTSTANDING
