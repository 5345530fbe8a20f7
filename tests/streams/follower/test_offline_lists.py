"""Lists of batch jobs as candidates: whose they are, what they name, and what bounds them."""

import pytest

from contract.wire.events import (
    Context,
    HottestVideos,
    HotVideo,
    SimilarVideo,
    SimilarVideos,
    encode,
)
from contract.wire.words import SOURCES
from models.history.history import EMPTY, WindowPolicy, fold
from streams.follower import offline_lists
from streams.follower.offline_lists import OfflineLists
from tests.streams.serving.test_recommend import World as RecommenderWorld
from tests.streams.serving.test_recommend import at
from tests.support.builders import T0, item_vector, watch

VIDEOS = {name: at(degrees) for degrees, name in enumerate(["near", "b", "c", "d", "e", "f"], 1)}


def similar(video_id, *others):
    videos = [SimilarVideo(video_id=other, score=1.0) for other in others]
    return SimilarVideos(video_id=video_id, videos=videos, updated_at_ms=T0)


def hottest(name, *video_ids):
    videos = [HotVideo(video_id=video_id, num_watches=2.0) for video_id in video_ids]
    return HottestVideos(list_name=name, videos=videos, updated_at_ms=T0)


class World(RecommenderWorld):
    """A recommender whose index finds nothing but `near`, with published lists."""

    def __init__(self, *lists, num_similar=2, num_hottest=2, num_trending=0, current=None):
        self.lists = OfflineLists(num_similar=num_similar, num_hottest=num_hottest)
        for one in lists:
            if isinstance(one, SimilarVideos):
                self.lists.put_similar(one)
            else:
                self.lists.put_hottest(one)
        super().__init__("near", offline=self.lists, num_trending=num_trending, current=current)
        for video_id, vector in VIDEOS.items():
            self.put(video_id, vector)

    def put(self, video_id, vector):
        self.switch.current.put(item_vector(video_id, vector))

    def sources(self, *watches):
        """Return the source of each recommended video, after *watches*."""
        answer = self.answer(watches[-1], happened=watches)
        return {item.video_id: item.source for item in answer.items}


def test_videos_similar_to_the_last_watched_are_candidates_and_name_their_source():
    world = World(similar("b", "c", "d"))

    assert world.sources(watch("b")) == {"near": "ann", "c": "similar", "d": "similar"}


def test_the_lists_of_the_last_watched_videos_take_turns():
    """Two places, two watched videos: the best of each."""
    world = World(similar("b", "c", "d"), similar("e", "f", "d"))

    assert world.sources(watch("b", at_ms=1), watch("e", at_ms=2)).keys() == {"near", "c", "f"}


def test_what_is_similar_to_a_skipped_video_is_no_candidate():
    world = World(similar("b", "c"))

    assert world.sources(watch("b", watch_ms=500)).keys() == {"near"}


def test_a_watched_video_on_a_list_makes_way_for_the_next():
    world = World(similar("b", "c", "d", "e"))

    found = world.sources(watch("c", at_ms=1), watch("d", at_ms=2), watch("b", at_ms=3))
    assert found == {"near": "ann", "e": "similar"}


@pytest.mark.parametrize(("country", "expected"), [("BR", "c"), ("DE", "d"), (None, "d")])
def test_the_hottest_videos_are_those_of_the_country_or_else_of_all(country, expected):
    world = World(
        hottest("hottest:24h:country=BR", "c"), hottest("hottest:24h:all", "d"), num_trending=2
    )
    world.switch.current.remove("e")

    found = world.sources(watch("b", context=Context(country=country)))
    assert [video for video, source in found.items() if source == "hottest"] == [expected]


def test_hottest_videos_take_places_of_trending_ones_and_not_more():
    """So the number of ranked videos, and what ranking costs, stays as it was."""
    world = World(hottest("hottest:24h:all", "f"), num_trending=2)

    sources = list(world.sources(watch("b")).values())
    assert (sources.count("hottest"), sources.count("trending")) == (1, 1)


def test_without_lists_nothing_is_looked_up():
    """A deployment without batch jobs pays nothing for them."""

    class NoPoints:
        def rows(self, points):
            raise AssertionError("looked up")

    lists = OfflineLists(num_similar=5, num_hottest=5)

    assert lists.find([EMPTY], NoPoints(), None) is None


def test_a_video_on_a_list_that_is_not_in_the_store_is_no_candidate():
    """It was taken down, or its vectors have not come yet."""
    world = World(similar("b", "gone", "c"))

    assert world.sources(watch("b")) == {"near": "ann", "c": "similar"}


def test_of_too_many_lists_those_that_changed_last_stay(monkeypatch):
    monkeypatch.setattr(offline_lists, "MAX_SIMILAR_LISTS", 2)
    world = World(similar("b", "c"), similar("e", "c"), similar("b", "d"), similar("f", "c"))

    assert len(world.lists) == 2
    assert world.sources(watch("b")) == {"near": "ann", "d": "similar"}


def test_a_removed_list_is_no_source():
    world = World(similar("b", "c"), hottest("hottest:24h:all", "d"), num_trending=2)
    world.lists.remove_similar("b")
    world.lists.remove_hottest("hottest:24h:all")

    assert set(world.sources(watch("b")).values()) <= {"ann", "trending"}


def test_both_sources_have_a_meaning_for_consumers():
    assert {"similar", "hottest"} <= SOURCES.keys()


def test_a_full_list_has_a_bounded_size():
    """One record of the topic may name 200 videos."""
    lists = OfflineLists(num_similar=500, num_hottest=500)
    lists.put_similar(similar("b", *(f"v{number}" for number in range(200))))
    window = fold(EMPTY, [watch("b")], WindowPolicy())
    world = World()

    [rows] = lists.find([window], world.switch.current.points, world.switch.current.completion)
    assert len(rows.similar) == offline_lists.MAX_SIMILAR_IN_LIST
    assert len(encode(similar("b", *(f"v{number:0124d}" for number in range(200))))) < 65_536
