"""Which generation serves, which to build, which to keep, by what was announced."""

import msgspec
import pytest

from contract.wire.events import BundleAnnouncement, BundleState
from index_sync.bundles.announced import MAX_REMEMBERED, Bundles
from tests.support.builders import T0

OFFERED, INDEXED = BundleState.OFFERED, BundleState.INDEXED
IN_SERVICE, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN


def said(generation: int, state: BundleState) -> BundleAnnouncement:
    """Return an announcement; a generation's bundle is called after it."""
    return BundleAnnouncement(
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url="memory://b",
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
    )


def heard(*story: tuple[int, BundleState], monotonic=lambda: 0.0) -> Bundles:
    """Return the bundles after *story*."""
    bundles = Bundles(3, monotonic=monotonic)
    for generation, state in story:
        bundles.on_announcement(said(generation, state))
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
        ([(2, IN_SERVICE), (3, INDEXED), (3, WITHDRAWN), (4, OFFERED)], 4),
    ],
)
def test_the_newest_offer_is_built_if_it_is_newer_than_all_that_was_built(story, wanted):
    """Repeated steps and offers that were overtaken are not built."""
    offer = heard(*story).to_build()
    assert (offer and offer.generation) == wanted


def test_what_is_offered_again_is_built_although_a_later_one_was_withdrawn():
    """`nextwatch models promote` of a withdrawn bundle."""
    bundles = heard((1, IN_SERVICE), (2, INDEXED), (2, WITHDRAWN), (3, INDEXED), (3, WITHDRAWN))
    bundles.on_announcement(msgspec.structs.replace(said(2, OFFERED), revision=1))
    offer = bundles.to_build()
    assert offer is not None
    assert offer.generation == 2


def test_a_refused_bundle_is_not_wanted_again():
    """A damaged one stays damaged."""
    bundles = heard((1, OFFERED), (2, OFFERED))
    bundles.reject("b2", reason="damaged")
    offer = bundles.to_build()
    assert offer is not None
    assert offer.generation == 1


def test_the_last_generations_are_kept_and_the_one_in_service():
    """Also when streams went back to an old one."""
    bundles = heard(*[(n, INDEXED) for n in (1, 2, 3, 4, 5)], (1, IN_SERVICE))
    assert [a.generation for a in bundles.kept] == [1, 3, 4, 5]


def test_the_newest_announcement_in_service_counts():
    """A rollback is an announcement like any other."""
    bundles = heard((1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN), (1, IN_SERVICE))
    assert bundles.in_service == 1
    assert [a.generation for a in bundles.indexed] == [1]


def test_a_bundle_that_cannot_be_had_now_is_wanted_again_later():
    """What a store does not answer says nothing of the bundle; waits double, up to a minute."""
    now_s = [0.0]
    bundles = heard((1, OFFERED), monotonic=lambda: now_s[0])
    tried_at = []
    for now_s[0] in range(300):
        if bundles.to_build():
            tried_at.append(now_s[0])
            bundles.postpone("b1", reason="away")

    assert tried_at == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_bundles_that_are_not_kept_get_one_tombstone():
    """A month of announcements would otherwise be read at every start and looked at each turn."""
    story = [(n, state) for n in range(1, 1_001) for state in (OFFERED, INDEXED, IN_SERVICE)]
    bundles = heard(*story, (1_001, OFFERED))

    forgotten = bundles.forget_old()

    assert sorted(forgotten) == sorted(f"b{n}" for n in range(1, 998))
    assert [a.generation for a in bundles.kept] == [998, 999, 1_000]
    assert bundles.to_build().generation == 1_001
    assert bundles.forget_old() == []


def test_offers_that_are_never_built_are_bounded_too():
    """While the index is away the trainer goes on; nobody needs the oldest of its offers."""
    bundles = heard((1, INDEXED), *[(n, OFFERED) for n in range(2, 5_000)])

    assert len(bundles) <= MAX_REMEMBERED
    assert bundles.to_build().generation == 4_999
    assert [a.generation for a in bundles.kept] == [1]


def test_a_tombstone_of_a_bundle_that_is_kept_changes_nothing():
    """Its collection would be deleted under the users' eyes."""
    bundles = heard((1, OFFERED), (2, INDEXED), (3, IN_SERVICE))
    for generation in (1, 2, 3):
        bundles.on_tombstone(f"b{generation}")

    assert [a.generation for a in bundles.kept] == [2, 3]
    assert not bundles.is_announced(1)


def test_a_rollback_keeps_the_old_bundle():
    """A rollback is heard, whatever was forgotten before."""
    bundles = heard(*[(n, INDEXED) for n in range(1, 9)])
    bundles.forget_old()
    bundles.on_announcement(said(2, IN_SERVICE))
    bundles.on_announcement(said(9, INDEXED))

    assert "b2" not in bundles.forget_old()
    assert [a.generation for a in bundles.kept] == [2, 7, 8, 9]
