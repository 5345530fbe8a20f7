"""The counters behind the ranking features, worked by hand."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features.ranking_features import content_codes
from models.features.vocabulary import Vocabulary
from models.history.history import DAY_MS, HOUR_MS
from models.serving.items import RANKING_FEATURE_NAMES
from tests.support.builders import T0, upload
from tests.trainer.doubles import FEATURES
from trainer.evaluate.popularity import (
    SMOOTHING_IMPRESSIONS,
    SMOOTHING_RECENT,
    SMOOTHING_WATCHES,
    Popularity,
    Viewing,
)


def add(popularity, one):
    popularity.vocabulary.put(one)
    popularity.add(one)


def popularity_of(*viewings, videos=("a", "b"), duration_ms=30_000):
    """Return the counters of *videos*, row 1, 2, ..., after *viewings*."""
    popularity = Popularity(Vocabulary(FEATURES), half_life_ms=DAY_MS, live_half_life_ms=DAY_MS)
    for video_id in videos:
        add(popularity, msgspec.structs.replace(upload(video_id), duration_ms=duration_ms))
    popularity.count(viewings)
    return popularity


def viewing(video_id="a", *, at_ms=0, watch_ms=20_000, is_completed=True):
    """Return one watch *at_ms* after T0."""
    return Viewing(video_id, T0 + at_ms, watch_ms, is_completed)


def test_a_watch_weighs_half_after_a_half_life():
    # a: two watches a day ago, one now: 2 / 2 + 1
    # b: one watch two days ago:         1 / 4
    popularity = popularity_of(
        viewing("b", at_ms=0),
        viewing("a", at_ms=DAY_MS),
        viewing("a", at_ms=DAY_MS),
        viewing("a", at_ms=2 * DAY_MS),
    )

    assert popularity.popularity_N.tolist() == pytest.approx([0.0, 2.0, 0.25])
    assert popularity.baseline_N.tolist() == pytest.approx([0.0, 2.0, 0.25])


def test_the_live_count_forgets_by_its_own_half_life():
    """Ranking follows the hour, the baseline the day."""
    popularity = Popularity(Vocabulary(FEATURES), half_life_ms=DAY_MS, live_half_life_ms=HOUR_MS)
    add(popularity, upload("a"))
    popularity.count([viewing("a", at_ms=0), viewing("a", at_ms=HOUR_MS)])

    assert popularity.popularity_N[1] == pytest.approx(1.5)
    assert popularity.baseline_N[1] == pytest.approx(1 + 2 ** (-1 / 24))


def test_all_watches_make_popular_and_completed_ones_the_baseline():
    popularity = popularity_of(viewing("a", is_completed=False), viewing("b"))

    assert popularity.popularity_N.tolist() == pytest.approx([0.0, 1.0, 1.0])
    assert popularity.baseline_N.tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_means_lean_to_the_average_of_all_watches():
    # 4 watches of 10 s and one of 60 s: 20 s on average; 3 of 5 completed
    k, r = SMOOTHING_WATCHES, SMOOTHING_RECENT
    popularity = popularity_of(
        *[viewing("a", watch_ms=10_000, is_completed=False)] * 2,
        *[viewing("a", watch_ms=10_000)] * 2,
        viewing("b", watch_ms=60_000),
        videos=("a", "b", "unwatched"),
        duration_ms=60_000,
    )

    assert popularity.mean_watch_ms_N.tolist() == pytest.approx(
        [0.0, (40_000 + k * 20_000) / (4 + k), (60_000 + k * 20_000) / (1 + k), 0.0]
    )
    assert popularity.completion_rate_N.tolist() == pytest.approx(
        [0.6, (2 + r * 0.6) / (4 + r), (1 + r * 0.6) / (1 + r), 0.6]
    )


def test_a_feature_row_has_the_columns_of_the_contract():
    popularity = popularity_of(viewing("a"))

    row = dict(zip(RANKING_FEATURE_NAMES, popularity.features(np.array([1]))[0], strict=True))

    assert row == {
        "popularity": 1.0,
        "mean_watch_ms": 20_000.0,
        "completion_rate": 1.0,
        "duration_ms": 30_000.0,
        "uploaded_at_ms": float(T0),
        "impressions": 0.0,
        "watch_rate": 0.0,
        "watch_lift": 1.0,
        **{name: float(code) for name, code in content_codes(upload("a")).items()},
    }


def test_a_second_viewing_by_a_user_counts_only_as_completed():
    """A preview and then the whole video: one watch, completed."""
    preview = viewing("a", watch_ms=1_000, is_completed=False)
    whole = viewing("a", watch_ms=29_000)._replace(is_first=False)

    popularity = popularity_of(preview, whole, videos=("a",))

    assert popularity.popularity_N[1] == pytest.approx(1.0)
    assert popularity.baseline_N[1] == pytest.approx(1.0)
    assert popularity.completion_rate_N[1] == pytest.approx(1.0)
    assert popularity.mean_watch_ms_N[1] == pytest.approx(30_000)


def test_a_part_and_then_the_whole_count_as_the_whole():
    """The video lasts 30 s; of one whose duration is not known there is no bound."""
    part = viewing("a", watch_ms=25_000, is_completed=False)
    whole = viewing("a", watch_ms=30_000)._replace(is_first=False)

    def mean_ms(duration_ms):
        popularity = popularity_of(part, whole, videos=("a",), duration_ms=duration_ms)
        return popularity.mean_watch_ms_N[1]

    assert mean_ms(30_000) == pytest.approx(30_000)
    assert mean_ms(0) == pytest.approx(55_000)


@pytest.mark.parametrize("ahead_ms", [2 * DAY_MS, 400 * DAY_MS])
def test_clocks_in_the_future_are_turned_back(ahead_ms):
    """Whether the weights were scaled to that time already or not."""
    popularity = popularity_of(viewing("a"), viewing("b", at_ms=ahead_ms))
    counted = popularity.popularity_N.tolist()

    assert not popularity.turn_back(T0, latest_ms=T0 + ahead_ms)
    assert popularity.turn_back(T0, latest_ms=T0)
    assert popularity.popularity_N.tolist() == pytest.approx(counted)

    popularity.count([viewing("a"), viewing("a", at_ms=DAY_MS)])
    assert popularity.popularity_N[1] == pytest.approx(1.5 + counted[1] / 2)


def test_unknown_videos_are_not_counted():
    popularity = popularity_of(viewing("unheard_of"))

    assert popularity.popularity_N.tolist() == [0.0, 0.0, 0.0]


def test_grows_beyond_its_first_capacity():
    popularity = popularity_of(videos=[f"v{n}" for n in range(3_000)])

    popularity.count([viewing("v2999")])

    assert popularity.popularity_N[[2_999, 3_000]].tolist() == [0.0, 1.0]


def test_years_do_not_overflow():
    """Weights grow with time, and are scaled down before a float cannot hold them."""
    popularity = popularity_of(viewing("a", at_ms=0))
    for year in range(1, 30):
        popularity.count([viewing("b", at_ms=year * 365 * DAY_MS)])

    assert popularity.popularity_N.tolist() == pytest.approx([0.0, 0.0, 1.0])


days = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100)), min_size=1, max_size=20)


@given(days, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(watched, random):
    """Late events fall into place, across rescalings too."""
    viewings = [viewing(video_id, at_ms=day * DAY_MS) for video_id, day in watched]
    shuffled = random.sample(viewings, len(viewings))
    in_order, one_by_one = popularity_of(*viewings), popularity_of()
    for one in shuffled:
        one_by_one.count([one])

    assert one_by_one.popularity_N.tolist() == pytest.approx(in_order.popularity_N.tolist())


def test_the_state_is_restored_exactly():
    popularity = popularity_of(viewing("a", at_ms=0), viewing("b", at_ms=DAY_MS))
    resumed = Popularity(Vocabulary(FEATURES), half_life_ms=DAY_MS, live_half_life_ms=DAY_MS)

    resumed.vocabulary.load(popularity.vocabulary.encoded())
    resumed.load_state(popularity.state())
    for one in (popularity, resumed):
        add(one, upload("c"))
        one.count([viewing("c", at_ms=3 * DAY_MS)])

    rows = np.arange(4)
    assert resumed.features(rows).tolist() == popularity.features(rows).tolist()


def count(popularity, video_id, surface, *, watched, at_ms=0, times=1):
    """Count *times* impressions of one video on one surface."""
    rows = np.full(times, popularity.vocabulary.row(video_id))
    surfaces = np.full(times, surface)
    popularity.count_impressions(rows, np.full(times, T0 + at_ms), surfaces, watched=watched)


def test_the_watch_rate_is_the_smoothed_share_of_watched_impressions():
    popularity = popularity_of()
    count(popularity, "a", 1, watched=False, times=30)
    count(popularity, "a", 1, watched=True, times=15)
    count(popularity, "b", 1, watched=False, times=10)

    average = 15 / 40
    r = SMOOTHING_IMPRESSIONS
    assert popularity.impressions_N.tolist() == pytest.approx([0, 30, 10])
    assert popularity.watch_rate_N.tolist() == pytest.approx(
        [average, (15 + r * average) / (30 + r), r * average / (10 + r)]
    )


def test_the_watch_lift_does_not_say_where_a_video_was_shown():
    """Two videos that are watched as often as their surfaces are: both have a lift of about 1."""
    popularity = popularity_of()
    for _ in range(400):
        count(popularity, "a", 1, watched=False, times=10)
        count(popularity, "a", 1, watched=True, times=8)
        count(popularity, "b", 2, watched=False, times=10)
        count(popularity, "b", 2, watched=True, times=1)

    assert popularity.surface_rate_S[[1, 2]].tolist() == pytest.approx([0.8, 0.1], abs=0.01)
    assert popularity.watch_rate_N[1:].tolist() == pytest.approx([0.8, 0.1], abs=0.01)
    assert popularity.watch_lift_N[1:].tolist() == pytest.approx([1.0, 1.0], abs=0.05)


def test_impressions_of_a_week_ago_count_half():
    popularity = popularity_of()
    count(popularity, "a", 1, watched=False)
    count(popularity, "b", 1, watched=False, at_ms=7 * DAY_MS)

    assert popularity.impressions_N.tolist() == pytest.approx([0, 0.5, 1])


def test_counts_of_impressions_survive_a_checkpoint():
    popularity = popularity_of()
    count(popularity, "a", 1, watched=False, times=3)
    count(popularity, "a", 1, watched=True)
    restored = popularity_of()

    restored.load_state(popularity.state())

    assert restored.watch_lift_N.tolist() == popularity.watch_lift_N.tolist()
    assert restored.surface_rate_S.tolist() == popularity.surface_rate_S.tolist()
    assert restored.features(np.array([1])).tolist() == popularity.features(np.array([1])).tolist()


def test_a_checkpoint_from_before_impressions_were_counted_is_read():
    state = popularity_of(viewing("a")).state()
    old = {name: array for name, array in state.items() if "sh" not in name and "surf" not in name}
    old["times_ms"] = state["times_ms"][[0, 1, -1]]
    restored = popularity_of()

    restored.load_state(old)

    assert restored.popularity_N.tolist() == popularity_of(viewing("a")).popularity_N.tolist()
    assert restored.watch_lift_N.tolist() == [1, 1, 1]
