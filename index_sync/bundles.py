"""What `model-bundles` says: which generation serves, which to build, which to keep.

The newest word on a bundle counts, with one exception: whoever repeats an older step
(`offered` after `indexed`) is a re-delivery and changes nothing. A generation that serves is
never built anew because an announcement came twice.
"""

from contract.events import BundleAnnouncement, BundleState

_STEPS = {BundleState.OFFERED: 0, BundleState.INDEXED: 1}


class Bundles:
    """The announcements so far, by bundle."""

    def __init__(self) -> None:
        self._newest: dict[str, BundleAnnouncement] = {}
        self._refused: set[str] = set()
        self.in_service: int | None = None

    def hear(self, announcement: BundleAnnouncement) -> None:
        """Take in one announcement."""
        known = self._newest.get(announcement.bundle_id)
        if known is not None and _is_repeated_step(known.state, announcement.state):
            return
        self._newest[announcement.bundle_id] = announcement
        if announcement.state is BundleState.IN_SERVICE:
            self.in_service = announcement.generation

    def refuse(self, bundle_id: str) -> None:
        """This bundle cannot be indexed; until the next start it is not tried again."""
        self._refused.add(bundle_id)

    def is_withdrawn(self, bundle_id: str) -> bool:
        """Return whether the newest word on the bundle is that it shall not serve."""
        known = self._newest.get(bundle_id)
        return known is not None and known.state is BundleState.WITHDRAWN

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
            if a.state is BundleState.OFFERED and a.bundle_id not in self._refused
        ]
        newest = max(offered, key=lambda a: a.generation, default=None)
        return newest if newest and newest.generation > max(taken, default=-1) else None

    def kept(self, count: int) -> list[BundleAnnouncement]:
        """Return whose collections are kept: the newest *count*, and the one in service."""
        indexed = self.indexed
        older = [a for a in indexed[:-count] if a.generation == self.in_service]
        return older + indexed[-count:]


def _is_repeated_step(known: BundleState, heard: BundleState) -> bool:
    if known is BundleState.WITHDRAWN:
        return heard in _STEPS
    return _STEPS.get(heard, 2) < _STEPS.get(known, 2)
