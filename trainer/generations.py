"""Follow the state of each generation on `model-bundles`."""

from dataclasses import dataclass, field

from contract.events import BundleAnnouncement, BundleState

MAX_REMEMBERED = 256
"""States of so many generations are remembered, the newest and the one in service."""
MAX_OUTSTANDING = 2
"""Offered and not yet in service: with the one in service, as many as a learner keeps frozen."""


@dataclass(slots=True)
class Generations:
    """The announced generations; the newest announcement of each counts."""

    in_service: int | None = None
    newest: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    _states: dict[int, BundleState] = field(default_factory=dict)

    def note(self, announcement: BundleAnnouncement) -> None:
        """Take in one announcement; they come in the order of their offsets."""
        generation = announcement.generation
        self.newest = max(self.newest, generation)
        self._states[generation] = announcement.state
        if announcement.state is BundleState.IN_SERVICE:
            self.in_service = generation
        elif announcement.state is BundleState.WITHDRAWN and self.in_service == generation:
            self.in_service = None
        if announcement.metrics and generation == self.newest:
            self.metrics = dict(announcement.metrics)
        if len(self._states) > MAX_REMEMBERED:
            del self._states[min(self._states.keys() - {self.in_service})]

    @property
    def has_any(self) -> bool:
        """Whether somebody has, or soon will have, a bundle in service."""
        return any(state is not BundleState.WITHDRAWN for state in self._states.values())

    @property
    def is_backed_up(self) -> bool:
        """Whether bundles are offered faster than they come into service."""
        ahead = [
            generation
            for generation, state in self._states.items()
            if generation > (self.in_service or 0) and state is not BundleState.WITHDRAWN
        ]
        return len(ahead) >= MAX_OUTSTANDING
