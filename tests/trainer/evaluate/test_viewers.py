"""Who has counted for which video today."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.history.history import DAY_MS
from tests.support.builders import T0
from trainer.evaluate.viewers import Viewers

MIDNIGHT_MS = T0 // DAY_MS * DAY_MS


def firsts(viewers, *plays, is_completed=False):
    """Return of each (user, video, milliseconds after midnight) whether it counts."""
    return [
        viewers.is_first(user, video, MIDNIGHT_MS + at_ms, is_completed=is_completed)
        for user, video, at_ms in plays
    ]


def test_each_user_counts_once_a_day_for_each_video():
    viewers = Viewers(1_024)

    plays = [("a", "v", 0), ("a", "v", 1), ("b", "v", 2), ("a", "w", 3), ("a", "v", DAY_MS)]

    assert firsts(viewers, *plays) == [True, False, True, True, True]


def test_watched_and_completed_are_counted_apart():
    """Who sees a preview and then the whole video has completed it."""
    viewers = Viewers(1_024)

    assert firsts(viewers, ("a", "v", 0)) == [True]
    assert firsts(viewers, ("a", "v", 1), ("a", "v", 2), is_completed=True) == [True, False]


def test_an_event_of_yesterday_does_not_begin_a_day():
    viewers = Viewers(1_024)

    plays = [("a", "v", 0), ("a", "v", -1), ("a", "v", 1), ("a", "v", -2)]

    assert firsts(viewers, *plays) == [True, True, False, False]


def test_ids_with_the_same_concatenation_are_distinct_pairs():
    assert firsts(Viewers(1_024), ("ab", "c", 0), ("a", "bc", 0)) == [True, True]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("vwx"))))
def test_a_small_table_counts_some_twice_and_none_too_few(plays):
    """The memory is bounded, and the popular stay popular when it is too small."""
    counted = firsts(Viewers(2), *((*play, 0) for play in plays))

    seen = set()
    for play, is_first in zip(plays, counted, strict=True):
        assert is_first or play in seen
        seen.add(play)


def test_continues_from_its_state_and_forgets_erased_pairs():
    viewers, resumed = Viewers(1_024), Viewers(1_024)
    firsts(viewers, ("a", "v", 0), ("b", "v", 0))
    resumed.load_state(viewers.state())

    resumed.forget("b", "v", MIDNIGHT_MS + 5)

    assert firsts(resumed, ("a", "v", 1), ("b", "v", 1)) == [False, True]


@pytest.mark.parametrize(("at_ms", "is_first"), [(0, True), (10 * DAY_MS, False)])
def test_a_day_that_has_not_come_is_forgotten(at_ms, is_first):
    """Else every pair would be new again at each event of today, or never."""
    viewers = Viewers(1_024)
    firsts(viewers, ("a", "v", 10 * DAY_MS))

    viewers.turn_back(MIDNIGHT_MS + at_ms)

    assert firsts(viewers, ("a", "v", 10 * DAY_MS)) == [is_first]
    assert np.count_nonzero(viewers.state()["hashes"]) == 1
