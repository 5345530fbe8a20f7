"""The rule for several announcements of one bundle: the newest word counts, with one exception.

Whoever repeats an older step (`offered` after `indexed`) is a re-delivery and changes nothing.
"""

from contract.events import BundleAnnouncement, BundleState

_STEPS = {BundleState.OFFERED: 0, BundleState.INDEXED: 1}
_LAST = 2


def is_repeated(known: BundleAnnouncement | None, heard: BundleAnnouncement) -> bool:
    """Return whether *heard* repeats a step that *known* of the same bundle is past."""
    if known is None:
        return False
    if known.state is BundleState.WITHDRAWN:
        return heard.state in _STEPS
    return _STEPS.get(heard.state, _LAST) < _STEPS.get(known.state, _LAST)
