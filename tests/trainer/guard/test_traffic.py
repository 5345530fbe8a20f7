"""The monitor of traffic: shares that people do not make."""

import pytest

from trainer.guard.traffic import WARM_UP, TrafficMonitor

HOUR_MS = 3_600_000


def monitor_after(plays):
    monitor = TrafficMonitor(num_recent=100)
    for user_id, video_id, num_watches, lag_ms in plays:
        monitor.note(user_id, video_id, num_watches=num_watches, lag_ms=lag_ms)
    return monitor


def people(count):
    return [(f"u{n}", f"v{n % 50}", 0, 0) for n in range(count)]


USUAL = people(100 * (WARM_UP + 2))


@pytest.mark.parametrize(
    ("plays", "told"),
    [
        ([("heavy", f"v{n}", 9, 0) if n % 3 else people(1)[0] for n in range(100)], "one user"),
        ([(f"bot{n}", "bomb", 0, 0) for n in range(50)], "one video"),
        ([(f"u{n}", f"v{n}", 9, 2 * HOUR_MS) for n in range(50)], "dated more than an hour"),
    ],
)
def test_what_people_do_not_make_is_told(plays, told):
    assert monitor_after(USUAL).reason is None
    assert told in monitor_after([*USUAL, *plays]).reason


def test_a_video_that_users_with_a_history_watch_is_popular():
    plays = [(f"u{n}", "hit", 20, 0) for n in range(100)]
    assert monitor_after([*USUAL, *plays]).reason is None


def test_few_users_are_usual_where_there_always_were_few():
    """A demo has one player, who makes all of the plays."""
    plays = [("only", f"v{n}", 9, 0) for n in range(100 * (WARM_UP + 5))]
    assert monitor_after(plays).reason is None


def test_a_backlog_that_was_late_from_the_beginning_is_no_alarm():
    plays = [(f"u{n}", f"v{n % 50}", 0, 5 * HOUR_MS) for n in range(100 * (WARM_UP + 5))]
    assert monitor_after(plays).reason is None


def test_an_erased_user_is_not_remembered():
    monitor = monitor_after([*USUAL, *[("gone", "v1", 9, 0)] * 5])
    monitor.forget("gone")
    assert "gone" not in monitor._users
    for play in people(300):
        monitor.note(play[0], play[1], num_watches=0, lag_ms=0)
    assert all(count > 0 for count in monitor._users.values())
