"""What there is without a bundle: people are counted, each watch once, whoever asks how often."""

import pytest

from models.history.history import EMPTY, WatchEntry, WindowPolicy, fold
from streams.serving.requests import request_of
from streams.serving.trending import Trending, trending_lists
from tests.streams.worlds import World
from tests.support.builders import T0, asking, search, shown, watch


def counts(world):
    """Return how many watches of each video the worker has counted, without their decay."""
    return {trend.video_id: round(trend.num_watches) for trend in trending_of(world).top(99)}


def trending_of(world):
    return world.pipeline._recommender._trending


def process(world, *events):
    """Let *world* take each of *events* in a batch of its own."""
    for event in events:
        world.pipeline.process([world.record(event)])


def test_each_accepted_watch_counts_once():
    """Searches, requests and repeated deliveries count nothing."""
    world, event = World(), watch("A")

    process(world, event, search(at_ms=1), asking(at_ms=2), event, event)
    process(world, watch("A", user_id="u2"), watch("B", user_id="u2", at_ms=1))

    assert counts(world) == {"A": 2, "B": 1}


def test_a_replay_after_a_crash_counts_nothing():
    """The store has the watch: folding it again changes nothing."""
    world = World()
    process(world, watch("A"))

    world.start()
    trending = trending_of(world)
    world.pipeline.process([world.record(watch("A"), offset=0)])

    assert trending.top(9) == []


def test_one_user_counts_for_a_video_once_and_a_play_of_no_time_not_at_all():
    """A loop makes no hit, in one batch or in many."""
    world = World()
    loop = [watch("A", at_ms=n) for n in range(20)]

    world.pipeline.process([world.record(event) for event in loop[:10]])
    process(world, *loop[10:], watch("B", at_ms=50, watch_ms=0))

    assert counts(world) == {"A": 1}


def test_a_watch_that_comes_too_late_counts_nothing():
    """It does not enter the window."""
    world = World()

    process(world, watch("A", at_ms=0), watch("B", at_ms=-40 * 86_400_000))

    assert counts(world) == {"A": 1}


def noted(*video_ids):
    """Return what is trending when the first of *video_ids* is watched most."""
    trending = Trending()
    for place, video_id in enumerate(video_ids):
        for _ in range(len(video_ids) - place):
            trending.note(EMPTY, [WatchEntry(T0, b"", video_id, 1_000, 30_000)])
    return trending


@pytest.mark.parametrize(("num_shown", "first"), [(0, "v0"), (1, "v1"), (9, "v1")])
def test_what_was_shown_in_vain_makes_way_without_a_bundle_too(num_shown, first):
    """Before the first model, too, a feed does not repeat itself until it is watched."""
    videos = [f"v{n}" for n in range(30)]
    window = fold(EMPTY, [shown("v0", at_ms=n) for n in range(num_shown)], WindowPolicy())
    request = request_of("u1", window, [asking(at_ms=100)])

    [listed] = trending_lists([request], noted(*videos), usual=30)

    names = [item.video_id for item in listed]
    assert (names[0], sorted(names)) == (first, sorted(videos))
    assert names.index("v0") == 2 * num_shown
