"""Latencies: the whole run, and beside it what is going on now."""

from nextwatch.demo.figures.latency import COURSE_S, KEPT_S, Latencies


def test_recent_percentiles_leave_out_what_ended_earlier():
    """The figure of the last seconds is not hidden by a long good beginning."""
    # ended at   5 s        20 s      now = 21 s
    #            10 ms      900 ms
    kept = Latencies()
    for _ in range(99):
        kept.add(10, ended_ms=5_000)
    kept.add(90, ended_ms=20_000)

    assert kept.recent(50, now_ms=21_000) == {"p50": 90}
    assert kept.percentiles(50) == {"p50": 10}


def test_recent_percentiles_are_none_during_a_stall():
    """Where nothing was answered for ten seconds, there is no latency to show."""
    kept = Latencies()
    kept.add(10, ended_ms=5_000)

    assert kept.recent(99, now_ms=60_000) == {"p99": None}


def test_course_of_the_last_minute_is_oldest_first():
    """One value for two seconds each; blank where nothing ended."""
    kept = Latencies()
    kept.add(10, ended_ms=1_999)
    kept.add(20, ended_ms=3_999)
    kept.add(30, ended_ms=6_000)
    kept.add(40, ended_ms=61_999)

    course = kept.course(99, now_ms=63_000)
    assert (course[:3], course[-1]) == ([20, None, 30], 40)
    assert len(course) == COURSE_S // 2


def test_memory_of_seconds_is_bounded():
    """All durations count for the whole run, those of the newest seconds for now."""
    kept = Latencies()
    for second in range(1_000):
        kept.add(second, ended_ms=second * 1_000)

    assert len(kept) == 1_000
    assert len(kept._seconds) == KEPT_S
