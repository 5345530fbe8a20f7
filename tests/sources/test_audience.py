"""The audience: tastes rule, tastes drift, recommendations are looked at, seeds repeat."""

from itertools import pairwise
from uuid import UUID

import numpy as np
import pytest

from contract.process.clock import ManualClock
from contract.wire.decoding import decode
from contract.wire.events import (
    Impressions,
    Recommendation,
    RecommendedVideo,
    Search,
    Watch,
    encode,
)
from contract.wire.topics import IMPRESSIONS, SEARCH_EVENTS, WATCH_EVENTS
from nextwatch.simulation.audience import Audience
from nextwatch.simulation.catalogue import SyntheticCatalogue
from nextwatch.simulation.viewer import MEMORY
from nextwatch.simulation.words import CATEGORIES
from tests.support.builders import T0, event_id


def audience(*, seed=0, num_users=20, num_videos=300):
    """Return an audience on a clock that stands at T0."""
    catalogue = SyntheticCatalogue(seed=seed, num_videos=num_videos)
    return Audience(catalogue, num_users=num_users, clock=ManualClock(T0))


def acts(of, num):
    """Return the events of *num* actions, each 20 ms after the one before."""
    events = []
    for _ in range(num):
        of.clock.advance(ms=20)
        events += of.act()
    return events


def recommendation(user_id, video_ids, *, at_ms=0, name="r"):
    """Return a recommendation of *video_ids*, made *at_ms* after T0."""
    return Recommendation(
        recommendation_id=event_id(name),
        user_id=user_id,
        generated_at_ms=T0 + at_ms,
        caused_by=[event_id("cause")],
        bundle_id=None,
        generation=1,
        arm="test",
        items=[
            RecommendedVideo(video_id=video_id, expected_watch_ms=0, score=0, source="ann")
            for video_id in video_ids
        ],
    )


def by_interest(of, viewer):
    """Return all videos, the most interesting for *viewer* first."""
    taste = viewer.taste(of.supply.centres)
    return sorted(of.pool, key=lambda video: -viewer.interest(video, taste))


def test_every_event_is_within_the_contract():
    """As its readers judge it, under the user as the key, each with an id of its own."""
    topics = {Watch: WATCH_EVENTS, Search: SEARCH_EVENTS, Impressions: IMPRESSIONS}
    events = acts(audience(), 300)

    for event in events:
        assert decode(topics[type(event)], type(event), event.user_id.encode(), encode(event))
    assert {type(event) for event in events} == set(topics)
    assert len({UUID(event.event_id) for event in events}) == len(events)


def test_a_watch_follows_its_impression():
    """What is watched was shown, to the same user, in the event before."""
    events = acts(audience(), 200)
    for shown, watched in pairwise(events):
        if isinstance(watched, Watch):
            assert isinstance(shown, Impressions)
            assert shown.user_id == watched.user_id
            assert watched.video_id in [video.video_id for video in shown.videos]


def test_a_seed_repeats_everything():
    """Without recommendations, the same seed and clock give the same events."""
    assert acts(audience(seed=5), 100) == acts(audience(seed=5), 100)
    assert acts(audience(seed=5), 100) != acts(audience(seed=6), 100)


def test_recommendations_change_what_is_watched_and_nothing_else():
    """Who acts, what they search and how tastes move follow from the seed alone."""
    # every viewer of *fed* is recommended something before each action
    alone, fed = audience(seed=5), audience(seed=5)
    everything = [video.upload.video_id for video in fed.pool][:100]
    told_alone, told_fed = [], []
    for _ in range(200):
        for viewer in fed.viewers:
            fed.offer(recommendation(viewer.user_id, everything, at_ms=0))
        told_alone += acts(alone, 1)
        told_fed += acts(fed, 1)

    def searches(events):
        return [(e.user_id, e.query) for e in events if isinstance(e, Search)]

    assert [e.user_id for e in told_alone] == [e.user_id for e in told_fed]
    assert searches(told_alone) == searches(told_fed)
    for one, other in zip(alone.viewers, fed.viewers, strict=True):
        assert np.array_equal(one.appetites, other.appetites)
    assert told_alone != told_fed


def test_interest_drives_watch_time():
    """The videos nearest to a viewer's taste are watched much longer than the farthest."""
    of = audience(num_users=10)
    near, far = [], []
    for viewer in of.viewers:
        taste, ordered = viewer.taste(of.supply.centres), by_interest(of, viewer)
        near += [viewer.watch(v, taste) / v.upload.duration_ms for v in ordered[:10]]
        far += [viewer.watch(v, taste) / v.upload.duration_ms for v in ordered[-10:]]

    assert np.mean(near) > 0.6
    assert np.mean(far) < 0.2


def test_tastes_drift_and_do_not_run_away():
    """After two thousand steps a taste is another, and appetites are spread as at first."""
    of = audience(num_users=50)
    centres = of.supply.centres
    before = [viewer.taste(centres) for viewer in of.viewers]
    spread = np.std([viewer.appetites for viewer in of.viewers])
    for viewer in of.viewers:
        for _ in range(2_000):
            viewer.drift()
    kept = [old @ viewer.taste(centres) for old, viewer in zip(before, of.viewers, strict=True)]

    assert np.mean(kept) < 0.7
    assert np.std([viewer.appetites for viewer in of.viewers]) == pytest.approx(spread, rel=0.25)


def test_one_step_hardly_moves_a_taste():
    """A model that learned of a viewer a minute ago still knows something."""
    of = audience()
    viewer = of.viewers[0]
    before = viewer.taste(of.supply.centres)
    viewer.drift()

    assert before @ viewer.taste(of.supply.centres) > 0.95


def test_a_recommendation_is_shown_and_watched_from():
    """The impression and the watch bear its id, and the shelf is its order."""
    of = audience(num_users=1)
    best = [video.upload.video_id for video in by_interest(of, of.viewers[0])[:10]]
    shown = []
    for turn in range(30):
        of.offer(recommendation("s0u0", best, name=f"r{turn}"))
        shown += [e for e in acts(of, 1) if getattr(e, "recommendation_id", None)]

    assert of.satisfaction.recommended.watches >= 5
    assert (
        of.satisfaction.accepted
        == of.satisfaction.recommended.watches / of.satisfaction.offers_seen
    )
    first = next(event for event in shown if isinstance(event, Impressions))
    assert [video.video_id for video in first.videos] == best


def test_a_recommendation_is_shown_once():
    """The player does not show the same answer twice."""
    of = audience(num_users=1)
    best = [video.upload.video_id for video in by_interest(of, of.viewers[0])[:10]]
    of.offer(recommendation("s0u0", best))
    ids = [e.recommendation_id for e in acts(of, 20) if isinstance(e, Watch)]

    assert sum(recommendation_id is not None for recommendation_id in ids) <= 1


def test_better_recommendations_are_accepted_more_often():
    """The closed loop tells a good recommender from a bad one."""
    shares = {}
    for name, end in (("best", 1), ("worst", -1)):
        of = audience(num_users=30)
        for viewer in of.viewers:
            shelf = [video.upload.video_id for video in by_interest(of, viewer)[::end][:10]]
            of.offer(recommendation(viewer.user_id, shelf))
        acts(of, 200)
        shares[name] = of.satisfaction.accepted

    assert shares["best"] > 0.7
    assert shares["worst"] < 0.1


def test_an_old_recommendation_is_not_shown():
    """Ten minutes later the viewer has moved on."""
    of = audience(num_users=1)
    of.offer(recommendation("s0u0", [video.upload.video_id for video in of.pool]))
    of.clock.advance(ms=600_001)
    acts(of, 10)

    assert of.satisfaction.offers_seen == 0


def test_the_newer_of_two_recommendations_counts():
    """Whatever the order of arrival; and those of other people's users are ignored."""
    of = audience(num_users=1)
    for name, at_ms in (("old", 1), ("new", 5), ("late", 3)):
        of.offer(recommendation("s0u0", [], at_ms=at_ms, name=name))
    of.offer(recommendation("somebody", []))

    assert {user: offer.recommendation_id for user, offer in of.offers.items()} == {
        "s0u0": event_id("new")
    }


def test_unknown_videos_are_no_part_of_a_shelf():
    """Another source may have filled the same catalogue."""
    of = audience(num_users=1)
    of.offer(recommendation("s0u0", ["elsewhere", "s0v3"]))

    assert [video.upload.video_id for video in of.offers["s0u0"].shelf] == ["s0v3"]


def test_searches_ask_for_what_is_wanted():
    """The words are of one category, and an appetite for it has grown."""
    of = audience(num_users=1)
    viewer = of.viewers[0]
    while not (found := [e for e in acts(of, 1) if isinstance(e, Search)]):
        pass
    name = list(CATEGORIES)[viewer.wanted]
    assert set(found[0].query.split()) <= {name, *CATEGORIES[name]}


def test_uploads_are_new_videos_of_now():
    """They join the pool at once, under ids that were not there."""
    of = audience(num_videos=10)
    of.clock.advance(ms=5)
    upload = of.upload()

    assert upload.uploaded_at_ms == T0 + 5
    assert upload.video_id == "s0v10"
    assert of.pool.get("s0v10") is not None
    assert of.upload().video_id == "s0v11"


def test_an_audience_without_viewers_is_rejected():
    """Somebody must act."""
    with pytest.raises(ValueError, match="num_users must be from 1"):
        audience(num_users=0)


def test_memory_of_an_audience_is_that_of_its_viewers_and_videos():
    """It may run for days: neither what was watched nor what was recommended piles up."""
    of = audience(num_users=5)
    for _ in range(50):
        acts(of, 20)
        for user in range(5):
            of.offer(recommendation(f"s0u{user}", ["s0v1", "s0v2"]))

    assert len(of.offers) <= 5
    assert all(len(viewer.seen) <= MEMORY for viewer in of.viewers)
