"""Counting watches: decayed, once for a user and interval, and only what enough people watched."""

import msgspec
import pytest

from contract.wire.events import Context, HottestVideos, encode
from models.features.examples import CompletionRule
from models.history.history import EMPTY, HOUR_MS, WindowPolicy, fold
from nextwatch.batch import watched
from nextwatch.batch.hottest import hottest
from nextwatch.batch.watched import WatchedInWindows
from tests.support.builders import T0, watch


class Known:
    """Users with windows of these watches."""

    def __init__(self, *watches):
        users = {}
        for one in watches:
            users.setdefault(one.user_id, []).append(one)
        self.windows = {
            user: fold(EMPTY, events, WindowPolicy()) for user, events in sorted(users.items())
        }
        self.num_users = len(self.windows)

    def scan(self, after=""):
        return ((user, window) for user, window in self.windows.items() if user > after)

    def get(self, user_ids):
        return [self.windows.get(user_id, EMPTY) for user_id in user_ids]


def lists(*watches, categories=None, most=10, min_users=1):
    watched = WatchedInWindows(Known(*watches), CompletionRule())
    found = hottest(watched, categories or {}, most=most, min_users=min_users)
    sent = [msgspec.json.decode(encode(one), type=HottestVideos) for one in found.lists]
    return {
        one.list_name: {video.video_id: video.num_watches for video in one.videos} for one in sent
    }


def test_a_watch_weighs_half_as_much_after_each_half_life():
    found = lists(watch("old", user_id="a", at_ms=0), watch("new", user_id="b", at_ms=24 * HOUR_MS))

    assert found["hottest:24h:all"] == {"new": 1.0, "old": 0.5}
    assert found["hottest:7d:all"]["old"] == pytest.approx(2 ** (-1 / 7), abs=1e-3)
    assert found["hottest:1h:all"] == {"new": 1.0}  # 2^-24 is nothing


def test_a_user_counts_for_a_video_once_in_an_interval():
    """One account that plays a video all day does not lift it."""
    midnight = -(T0 % (24 * HOUR_MS))
    plays = [watch("loop", at_ms=midnight + hour * HOUR_MS) for hour in range(1, 6)]

    found = lists(*plays)

    assert found["hottest:24h:all"] == {"loop": 1.0}
    assert found["hottest:1h:all"]["loop"] == pytest.approx(1.938, abs=1e-3)  # each hour anew


def test_a_list_of_a_country_counts_its_users_alone():
    brazil = Context(country="BR")
    found = lists(
        watch("a", user_id="1", context=brazil),
        watch("a", user_id="2", context=brazil),
        watch("b", user_id="3", context=Context(country="DE")),
        watch("b", user_id="4"),
    )

    assert found["hottest:24h:country=BR"] == {"a": 2.0}
    assert found["hottest:24h:country=DE"] == {"b": 1.0}
    assert found["hottest:24h:all"] == {"a": 2.0, "b": 2.0}


def test_a_list_of_a_category_has_its_videos_alone():
    categories = {"a": "music", "b": "sport"}
    found = lists(watch("a"), watch("b", at_ms=1), categories=categories)

    assert found["hottest:24h:category=music"].keys() == {"a"}
    assert found["hottest:24h:category=sport"].keys() == {"b"}


def test_what_few_have_watched_is_on_no_list():
    """The list of a small country would tell what one person watches."""
    found = lists(
        watch("alone", user_id="1"),
        *(watch("many", user_id=str(user)) for user in range(3)),
        min_users=3,
    )

    assert found["hottest:24h:all"].keys() == {"many"}


def test_skips_do_not_count():
    assert lists(watch("a", watch_ms=500), watch("b", at_ms=1))["hottest:24h:all"].keys() == {"b"}


def test_the_order_of_users_does_not_matter():
    """Weights grow from the first block on; what comes later may be newer or much older."""
    watches = [watch(f"v{n}", user_id=f"u{n}", at_ms=n * HOUR_MS) for n in range(5)]
    turned = [watch(f"v{n}", user_id=f"u{9 - n}", at_ms=n * HOUR_MS) for n in range(5)]

    assert lists(*watches) == lists(*turned)


@pytest.mark.parametrize("users_in_block", [1, 10])
def test_users_who_left_long_ago_do_not_hide_what_is_watched_now(monkeypatch, users_in_block):
    """Wherever they come in the order of users: weights of two months are too far for a float."""
    monkeypatch.setattr(watched, "_USERS_IN_BLOCK", users_in_block)
    two_months_ms = 61 * 24 * HOUR_MS

    found = lists(
        watch("old", user_id="a", at_ms=0),
        watch("before", user_id="b", at_ms=two_months_ms - HOUR_MS),
        watch("new", user_id="c", at_ms=two_months_ms),
    )

    assert found["hottest:1h:all"] == {"new": 1.0, "before": 0.5}
    assert found["hottest:7d:all"]["old"] == 0.002


def test_without_watches_there_are_no_lists():
    assert lists() == {}
