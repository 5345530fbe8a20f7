"""A search just made decides what comes first, whatever is popular."""

import math

import pytest

from contract.points import point_id
from contract.process.clock import ManualClock
from models.history.history import DAY_MS, EMPTY, WindowPolicy, fold
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender
from streams.serving.requests import request_of
from streams.serving.search_matches import MAX_AGE_MS, SEARCH, SearchMatcher
from streams.serving.text_index import TextIndex
from streams.serving.trending import Trending
from tests.streams.servings import serving
from tests.support.builders import T0, asking, item_vector, search, shown, upload, watch

POPULAR = {f"cook{n}": (1.0, 0.0) for n in range(6)}
GUITARS = {f"guit{n}": (0.0, 1.0) for n in range(6)}


class FoundIndex:
    """Finds the popular videos alone."""

    def nearest(self, collection, vectors_BD, limit):
        return [[point_id(video_id) for video_id in POPULAR] for _ in vectors_BD]


@pytest.fixture
def texts():
    texts = TextIndex()
    for video_id in (*POPULAR, *GUITARS):
        texts.put(upload(video_id, category="guitar" if video_id in GUITARS else "cooking"))
    return texts


@pytest.fixture
def answer_to(texts):
    current = serving(POPULAR | GUITARS)
    for video_id, vector in POPULAR.items():
        current.put(item_vector(video_id, vector, popularity=1e6))
    recommender = Recommender(
        ActiveGeneration(current),
        CandidateSource(FoundIndex(), num_ranked=10, num_trending=3, monotonic=lambda: 0.0),
        Trending(),
        num_recommended=5,
        is_coalescing=True,
        clock=ManualClock(T0),
        asked=SearchMatcher(texts, share=0.8, num_recommended=5),
    )

    def answer(*events, at_ms=0):
        window = fold(EMPTY, events, WindowPolicy())
        request = request_of("u1", window, [asking(at_ms=at_ms)])
        [answer] = recommender.recommend([request])
        return answer.items

    return answer


def sources(items):
    return [item.source for item in items]


def test_what_was_searched_for_comes_first_whatever_is_popular(answer_to):
    """Four fifths of the list bear the word, and the rest is as ever."""
    items = answer_to(search("guitar chords"))

    assert sources(items) == [SEARCH] * 4 + ["ann"]
    assert all(item.video_id in GUITARS for item in items[:4])


def test_a_list_is_in_the_order_of_its_scores_with_a_search_as_well(answer_to):
    """Nobody who sorts by score gets another list."""
    scores = [item.score for item in answer_to(search("guitar"))]

    assert scores == sorted(scores, reverse=True)


def test_every_watch_after_the_search_halves_its_share(answer_to):
    """Taste takes over again; a skip is no watch."""
    asked = search("guitar")
    one, two, three = (watch(f"guit{n}", at_ms=n + 1) for n in range(3))
    skip = watch("guit0", at_ms=1, watch_ms=500)

    counts = [
        sources(answer_to(asked, *events)).count(SEARCH)
        for events in ([], [skip], [one], [one, two], [one, two, three])
    ]
    assert counts == [4, 4, 2, 1, 0]


def test_an_old_search_has_no_share(answer_to):
    """Somebody who comes back after an hour has forgotten it, whatever tells the hour."""
    asked, later_ms = search("guitar"), MAX_AGE_MS + 1

    assert SEARCH not in sources(answer_to(asked, at_ms=later_ms))
    assert SEARCH not in sources(answer_to(asked, search("!", at_ms=later_ms)))
    assert SEARCH not in sources(answer_to(asked, shown("cook0", at_ms=later_ms)))
    assert SEARCH in sources(answer_to(asked, at_ms=MAX_AGE_MS))


def test_a_request_dated_too_early_makes_no_old_search_fresh(answer_to):
    """The newest time known counts: the clock of a phone may be years behind."""
    seen_since = shown("cook0", at_ms=3 * DAY_MS)

    assert SEARCH not in sources(answer_to(search("guitar"), seen_since, at_ms=-9 * DAY_MS))


def test_a_replayed_log_is_answered_as_it_was(answer_to):
    """Years after it happened: the time is that of the events."""
    long_ago_ms = -3_650 * DAY_MS

    items = answer_to(search("guitar", at_ms=long_ago_ms), at_ms=long_ago_ms + 1)

    assert sources(items).count(SEARCH) == 4


def test_a_query_that_matches_nothing_has_no_share(answer_to):
    """The list is as it would be without it."""
    assert SEARCH not in sources(answer_to(search("nobody bears this")))


def test_what_was_watched_is_not_found_again(answer_to):
    """A search brings nothing back that the user has seen."""
    items = answer_to(watch("guit3"), search("guitar", at_ms=1))

    assert "guit3" not in [item.video_id for item in items]
    assert sources(items).count(SEARCH) == 4


def test_a_match_that_has_no_vectors_yet_is_left_out(answer_to, texts):
    """Its upload may be here before its vectors."""
    texts.put(upload("guit-new", category="guitar"))

    assert "guit-new" not in [item.video_id for item in answer_to(search("guitar"))]
    assert math.isfinite(answer_to(search("guitar"))[0].score)
