"""What was shown in vain makes way; and nobody gets an empty list without a reason."""

from dataclasses import replace

import pytest

from models.history.history import DAY_MS
from streams.serving.requests import request_of
from streams.serving.shown import HALF_LIFE_MS, MOST_PLACES, PLACES_PER_SHOWING
from tests.streams.serving.test_recommend import World, at
from tests.streams.servings import serving
from tests.support.builders import asking, search, shown, watch

SIX = [f"v{n}" for n in range(6)]
MANY = {f"v{n}": at(5 * n) for n in range(30)}
"""Videos in the order in which the model likes them."""


def world_of(videos):
    """Return a world whose index finds all of *videos*, and which ranks them all."""
    return World(*videos, current=serving(videos), num_ranked=len(videos))


def listed(answer):
    """Return the recommended videos, best first."""
    return [item.video_id for item in answer.items]


def asked(world, *happened, number=30, at_ms=100):
    """Return what somebody is answered who asks after *happened*."""
    return world.answer(asking(number=number, at_ms=at_ms), happened=happened)


def test_six_videos_shown_fifteen_times_in_vain_make_way_for_others():
    """A feed does not repeat itself until it is watched."""
    again_and_again = [shown(*SIX, at_ms=n) for n in range(15)]
    world = world_of(MANY)

    before, after = listed(asked(world)), listed(asked(world, *again_and_again))

    assert before[:6] == SIX
    assert not set(after[:20]) & set(SIX)
    assert sorted(after) == sorted(before)


def test_being_shown_once_costs_some_places_and_no_more():
    """One look past a video says little."""
    after = listed(asked(world_of(MANY), shown("v0", at_ms=100), at_ms=100))

    assert after.index("v0") == PLACES_PER_SHOWING


def test_what_was_shown_long_ago_is_forgiven():
    """Half of the places come back in a half-life."""
    showings = [shown("v0", at_ms=n) for n in range(4)]

    after = asked(world_of(MANY), *showings, at_ms=HALF_LIFE_MS)
    much_later = asked(world_of(MANY), *showings, at_ms=20 * DAY_MS)

    assert listed(after).index("v0") == PLACES_PER_SHOWING * 2
    assert listed(much_later)[0] == "v0"


def test_no_video_loses_more_than_so_many_places():
    """However often it is shown, it is not gone."""
    videos = {f"v{n}": at(n) for n in range(90)}
    showings = [shown("v0", at_ms=100 + n) for n in range(40)]

    after = listed(asked(world_of(videos), *showings, number=90, at_ms=140))

    assert after.index("v0") == MOST_PLACES


def test_scores_stay_those_of_the_model():
    """The rule moves places; what a score says is the ranker's word."""
    world = world_of(MANY)

    before = {item.video_id: item.score for item in asked(world).items}
    after = {item.video_id: item.score for item in asked(world, shown(*SIX)).items}

    assert before == after


def test_users_lose_nothing_by_what_others_were_shown():
    """Each has a memory of their own, in one batch, too."""
    world = world_of(MANY)
    windows = [world.window(*(shown(*SIX, at_ms=n) for n in range(9))), world.window()]

    one, other = world.recommender.recommend(
        [request_of(f"u{n}", window, [asking()]) for n, window in enumerate(windows)]
    )

    assert not set(listed(one)) & set(SIX)
    assert listed(other) == SIX[:3]


def test_a_short_list_keeps_what_was_shown_at_its_end():
    """Beside users with more candidates, there is padding behind it: it stays behind."""
    world = world_of(MANY)
    watched_all_but_two = [watch(f"v{n}", at_ms=n) for n in range(28)]
    shown_often = [shown("v28", at_ms=50 + n) for n in range(20)]
    windows = [world.window(*watched_all_but_two, *shown_often), world.window()]

    one, _ = world.recommender.recommend(
        [request_of(f"u{n}", window, [asking(at_ms=99)]) for n, window in enumerate(windows)]
    )

    assert listed(one) == ["v29", "v28"]


def test_an_impression_of_an_unknown_video_moves_nothing():
    """Players may show what was taken down meanwhile."""
    assert listed(asked(world_of(MANY), shown("gone", "unheard-of"), number=3)) == SIX[:3]


def test_an_answer_from_an_empty_catalogue_is_degraded():
    """Nothing to recommend is a reason, not a silence."""
    answer = asked(world_of({}))

    assert (answer.items, answer.degraded) == ([], ["catalogue_empty"])


@pytest.mark.parametrize("watch_ms", [30_000, 0])
def test_a_user_who_has_seen_everything_gets_it_again_the_longest_ago_first(watch_ms):
    """Watched or skipped; and the answer says so."""
    videos = {f"v{n}": at(5 * n) for n in range(4)}
    happened = [watch(v, at_ms=n, watch_ms=watch_ms) for n, v in enumerate(("v2", "v0", "v3"))]
    happened += [watch("v1", at_ms=3, watch_ms=watch_ms), watch("v2", at_ms=4, watch_ms=watch_ms)]

    answer = asked(world_of(videos), *happened, *(shown("v0", at_ms=n) for n in range(9)))

    assert listed(answer) == ["v0", "v3", "v1", "v2"]
    assert {item.source for item in answer.items} == {"seen_again"}
    assert answer.degraded == ["all_seen"]


def test_what_was_taken_down_does_not_come_back():
    """A tombstone reaches every list."""
    world = world_of({"v0": at(0), "v1": at(5)})
    world.switch.current.remove("v0")

    answer = asked(world, watch("v0"), watch("v1", at_ms=1))

    assert listed(answer) == ["v1"]


def test_unseen_videos_come_before_seen_ones_even_if_no_source_offers_them():
    """The nearest were all watched; the catalogue is larger than what is near."""
    world = world_of(MANY)
    world.index.hits = world.index.hits[:5]

    answer = asked(world, *(watch(f"v{n}", at_ms=n) for n in range(5)), number=3)

    assert (len(answer.items), answer.degraded) == (3, [])
    assert not set(listed(answer)) & {f"v{n}" for n in range(5)}
    assert {item.source for item in answer.items} == {"trending"}


def test_one_batch_answers_users_with_and_without_unseen_videos():
    """The reason stands in the answer of the one whom it concerns."""
    videos = {"v0": at(0), "v1": at(5)}
    world = world_of(videos)
    windows = [world.window(watch("v0"), watch("v1", at_ms=1)), world.window(search())]

    answers = world.recommender.recommend(
        [request_of(f"u{n}", window, [asking()]) for n, window in enumerate(windows)]
    )

    assert [answer.degraded for answer in answers] == [["all_seen"], []]
    assert [listed(answer) for answer in answers] == [["v0", "v1"], ["v0", "v1"]]


def test_a_broken_model_and_an_empty_catalogue_are_both_named():
    """Both words are there."""

    class Broken:
        def encode(self, *_):
            raise RuntimeError("broken")

    world = world_of({})
    world.switch.current = replace(world.switch.current, encoder=Broken())

    assert asked(world).degraded == ["model_broken", "catalogue_empty"]
