"""What was shown and watched, by generation."""

import pytest

from trainer.guard.shown import MIN_SHOWN, WatchedShares


def shares(**watched_of):
    """Return the shares after so many watched of `MIN_SHOWN`, by generation."""
    found = WatchedShares()
    for generation, num_watched in watched_of.items():
        number = int(generation.removeprefix("g"))
        found.shown[number], found.watched[number] = MIN_SHOWN, num_watched
    return found


def test_a_generation_that_is_watched_much_less_is_worse_than_the_one_before():
    bad, former, reason = shares(g1=400, g2=420, g3=100).worse
    assert (bad, former) == (3, 2)
    assert "10.0% of what it showed was watched" in reason


@pytest.mark.parametrize(
    "watched", [{"g1": 400}, {"g1": 400, "g2": 300}, {"g1": 10, "g2": 5}, {"g1": 100, "g2": 400}]
)
def test_a_little_less_is_what_audiences_do(watched):
    assert shares(**watched).worse is None
