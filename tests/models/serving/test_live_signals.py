"""Live signals: counts that halve with time, and item vectors that carry them."""

import math

import numpy as np
import pytest

from models.serving.live_signals import (
    HOUR_MS,
    LARGEST,
    LOOK_EVERY_MS,
    MAX_NORM,
    NUM_SIGNALS,
    PRIORS,
    SATURATES_AT,
    SCALE,
    SIGNALS,
    LiveSignals,
    saturated,
    served_dim,
    served_items,
)
from tests.support.builders import T0


def counted(signals, *watches):
    """Count (row, hours after T0, whether completed)."""
    rows, hours, completed = zip(*watches, strict=True)
    times_ms = np.array([T0 + round(hour * HOUR_MS) for hour in hours])
    signals.count(np.array(rows), times_ms, np.array(completed))
    return signals


def of(signals, row, name):
    return signals.signals(np.array([row]))[0, SIGNALS.index(name)]


def test_a_signal_is_the_logarithm_of_a_count_that_halves():
    """Two watches, three hours apart: the older one is worth a half in three hours."""
    signals = counted(LiveSignals(), (1, 0, True), (1, 3, False))

    assert of(signals, 1, "watches_3h") == pytest.approx(math.log(1 + 1.5 / PRIORS[1]))
    assert of(signals, 1, "completed_3h") == pytest.approx(math.log(1 + 0.5 / PRIORS[1]))
    assert of(signals, 1, "watches_1h") == pytest.approx(math.log(1 + 1.125 / PRIORS[0]))


def test_a_video_without_watches_has_no_signal():
    """Nor has the unknown video, whoever watched it."""
    signals = counted(LiveSignals(), (1, 0, True), (0, 0, True))

    assert not signals.signals(np.array([0, 2])).any()


def test_a_second_viewing_by_a_user_counts_only_as_completed():
    """A preview and then the whole video are one watch."""
    signals = LiveSignals()
    times_ms = np.array([T0, T0])
    signals.count(
        np.array([1, 1]), times_ms, np.array([False, True]), is_first=np.array([True, False])
    )

    assert of(signals, 1, "watches_1h") == pytest.approx(math.log(1 + 1 / PRIORS[0]))
    assert of(signals, 1, "completed_1h") == pytest.approx(math.log(1 + 1 / PRIORS[0]))


def test_a_clock_in_the_future_is_turned_back():
    """Else every watch of today would have decayed when it comes."""
    signals = counted(LiveSignals(), (1, 400 * 24, True))
    assert not signals.turn_back(T0, latest_ms=T0 + 400 * 24 * HOUR_MS)
    assert signals.turn_back(T0, latest_ms=T0)

    counted(signals, (2, 0, True))

    assert of(signals, 2, "watches_1h") == pytest.approx(math.log(1 + 1 / PRIORS[0]))
    assert len(signals.take_moved(2)) == 2


def test_the_order_of_arrival_changes_nothing():
    """A late watch has decayed already when it comes."""
    watches = [(1, 0, True), (2, 5, False), (1, 2, True), (1, 9, False)]
    one, other = LiveSignals(), LiveSignals()
    for watch in watches:
        counted(one, watch)
    for watch in reversed(watches):
        counted(other, watch)

    np.testing.assert_allclose(
        one.signals(np.arange(3)), other.signals(np.arange(3)), rtol=1e-6, atol=1e-6
    )


def test_watches_without_times_count_as_if_they_came_evenly():
    """48 watches over 48 hours are about as much as one every hour."""
    evenly, started = LiveSignals(), LiveSignals()
    for hour in range(49):
        counted(evenly, (1, hour, True))
    flags = np.ones(48, bool)
    started.start(np.ones(48, np.int64), flags, span_ms=48 * HOUR_MS)

    for name in ("watches_8h", "watches_24h", "completed_72h"):
        assert of(started, 1, name) == pytest.approx(of(evenly, 1, name), abs=0.05)


def test_videos_whose_signals_moved_are_returned_once():
    """By a watch at first; then, unwatched, by the decay of what was told."""
    signals = counted(LiveSignals(), (2, 0, True))

    assert signals.take_moved(3).tolist() == [2]
    counted(signals, (1, 0.5 * LOOK_EVERY_MS / HOUR_MS, True))
    assert signals.take_moved(3).tolist() == []
    counted(signals, (1, 2.0, True))
    assert signals.take_moved(3).tolist() == [1, 2]


def test_counting_goes_on_after_a_restart():
    """Counts, and what was told of them."""
    signals = counted(LiveSignals(), (2, 0, True))
    signals.take_moved(3)
    restarted = LiveSignals()
    restarted.load_state({name: array.copy() for name, array in signals.state().items()})
    for one in (signals, restarted):
        counted(one, (1, 2.0, False))

    np.testing.assert_array_equal(signals.signals(np.arange(9)), restarted.signals(np.arange(9)))
    assert signals.take_moved(3).tolist() == restarted.take_moved(3).tolist()


def test_counts_are_the_same_however_long_ago_the_first_watch_was():
    """Weights are scaled down after 32 hours; a count is what its own watches are."""
    at_h = (0, 10, 31, 40, 100, 101)
    long_lived = counted(LiveSignals(), *((1, hour, True) for hour in at_h))
    short_lived = counted(LiveSignals(), (1, 100, True), (1, 101, True))

    for name in ("watches_1h", "completed_3h"):
        assert of(long_lived, 1, name) == pytest.approx(of(short_lived, 1, name), abs=1e-6)
    by_hand = sum(0.5 ** ((101 - hour) / 24) for hour in at_h)
    assert of(long_lived, 1, "watches_24h") == pytest.approx(np.log1p(by_hand / 0.5), abs=1e-6)


def test_a_large_catalogue_is_looked_through_in_parts(monkeypatch):
    """No batch waits until all videos were compared, and none is forgotten."""
    monkeypatch.setattr("models.serving.live_signals.LOOK_ROWS", 2)
    signals = counted(LiveSignals(), *((row, 0, True) for row in range(1, 6)))

    found = [signals.take_moved(5).tolist() for _ in range(4)]

    assert found == [[1, 2], [3, 4], [5], []]


def test_counts_of_0_2_are_read():
    """They had decayed to the newest time, and had no landmark."""
    signals = counted(LiveSignals(), (2, 0, True))
    arrays = signals.state() | {"times_ms": np.array([signals.newest_ms, 0], np.int64)}
    restarted = LiveSignals()
    restarted.load_state(arrays)
    for one in (signals, restarted):
        counted(one, (1, 2.0, False))

    np.testing.assert_array_equal(signals.signals(np.arange(9)), restarted.signals(np.arange(9)))


def test_a_state_of_other_signals_is_refused():
    """Counts of other half-lives would be read as something that they are not."""
    arrays = LiveSignals().state()

    with pytest.raises(ValueError, match="live signals"):
        LiveSignals().load_state(arrays | {"count_NK": np.zeros((4, NUM_SIGNALS + 1))})
    with pytest.raises(ValueError, match="missing"):
        LiveSignals().load_state({"count_NK": arrays["count_NK"]})


def test_served_vectors_have_unit_norm_and_keep_the_inner_product():
    """(v, c f, rest) / m: against (u, w / c, 0) it is the plain score divided by m."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(5, 8))
    taste /= np.linalg.norm(taste, axis=1, keepdims=True)
    signals = rng.uniform(0, 6, size=(5, NUM_SIGNALS))
    user, weights = rng.normal(size=8), rng.normal(size=NUM_SIGNALS)

    served = served_items(taste, signals)

    assert served.shape == (5, served_dim(8))
    np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        served @ np.concatenate([user, weights / SCALE, [0.0]]) * MAX_NORM,
        taste @ user + signals @ weights,
        atol=1e-5,
    )


def test_however_hot_videos_are_they_are_served_in_the_order_that_training_sees():
    """With 1,000 to 100 million watches each, none loses of its taste to make room for signals."""
    rng = np.random.default_rng(0)
    signals = LiveSignals()
    signals.reserve(200)
    counts = np.geomspace(1e3, 1e8, 200)
    signals.load_state(
        signals.state()
        | {"count_NK": np.concatenate([np.zeros((1, 1)), counts[:, None]]) * np.ones(NUM_SIGNALS)}
    )
    taste = rng.normal(size=(200, 8))
    taste /= np.linalg.norm(taste, axis=1, keepdims=True)
    user, weights = 60 * rng.normal(size=8), np.full(NUM_SIGNALS, 0.3)
    seen_in_training = signals.signals(np.arange(1, 201))

    served = served_items(taste, seen_in_training)

    np.testing.assert_allclose(
        served @ np.concatenate([user, weights / SCALE, [0.0]]) * MAX_NORM,
        taste @ user + seen_in_training @ weights,
        rtol=1e-4,
        atol=1e-3,
    )
    assert (np.diff(seen_in_training, axis=0) > 0).all()


def test_a_signal_saturates_smoothly_below_its_largest():
    """As it is up to a point, then ever flatter."""
    log = np.array([[0.0, SATURATES_AT, SATURATES_AT + 1e-3, 8.0, 20.0, 700.0]])

    (flat,) = saturated(log)

    assert flat[:2].tolist() == [0.0, SATURATES_AT]
    assert flat[2] == pytest.approx(SATURATES_AT + 1e-3, abs=1e-6)
    assert SATURATES_AT < flat[3] < flat[4] < LARGEST
    assert flat[5] == pytest.approx(LARGEST)
