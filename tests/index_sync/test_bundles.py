"""Which generation serves, which to build, which to keep, by what was announced."""

import pytest

from contract.events import BundleAnnouncement, BundleState
from index_sync.bundles import Bundles
from tests.builders import T0

OFFERED, INDEXED = BundleState.OFFERED, BundleState.INDEXED
IN_SERVICE, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN


def heard(*story: tuple[int, BundleState]) -> Bundles:
    """Return the bundles after *story*; a generation's bundle is called after it."""
    bundles = Bundles()
    for generation, state in story:
        bundles.hear(
            BundleAnnouncement(
                bundle_id=f"b{generation}",
                generation=generation,
                state=state,
                url="memory://b",
                manifest_sha256="0" * 64,
                announced_at_ms=T0,
            )
        )
    return bundles


@pytest.mark.parametrize(
    ("story", "wanted"),
    [
        ([], None),
        ([(1, OFFERED)], 1),
        ([(1, OFFERED), (2, OFFERED)], 2),
        ([(2, OFFERED), (1, OFFERED)], 2),
        ([(1, OFFERED), (1, INDEXED)], None),
        ([(1, INDEXED), (1, OFFERED)], None),
        ([(1, IN_SERVICE), (1, INDEXED), (1, OFFERED)], None),
        ([(1, WITHDRAWN), (1, OFFERED)], None),
        ([(2, IN_SERVICE), (1, OFFERED)], None),
        ([(2, IN_SERVICE), (3, OFFERED)], 3),
        ([(3, OFFERED), (3, WITHDRAWN), (2, OFFERED)], None),
    ],
)
def test_the_newest_offer_is_built_if_it_is_newer_than_all_that_was_built(story, wanted):
    """Repeated steps and offers that were overtaken are not built."""
    offer = heard(*story).to_build()
    assert (offer and offer.generation) == wanted


def test_a_refused_bundle_is_not_wanted_again():
    """A damaged one stays damaged."""
    bundles = heard((1, OFFERED), (2, OFFERED))
    bundles.refuse("b2")
    offer = bundles.to_build()
    assert offer is not None
    assert offer.generation == 1


def test_the_last_generations_are_kept_and_the_one_in_service():
    """Also when streams went back to an old one."""
    bundles = heard(*[(n, INDEXED) for n in (1, 2, 3, 4, 5)], (1, IN_SERVICE))
    assert [a.generation for a in bundles.kept(3)] == [1, 3, 4, 5]


def test_the_newest_word_on_service_counts():
    """A rollback is an announcement like any other."""
    bundles = heard((1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN), (1, IN_SERVICE))
    assert bundles.in_service == 1
    assert [a.generation for a in bundles.indexed] == [1]
