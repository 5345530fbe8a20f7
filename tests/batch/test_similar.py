"""Similar videos: pairs have a direction, popular videos do not win, and lists blend by places."""

import numpy as np

from models.features.examples import CompletionRule
from nextwatch.batch import similar
from nextwatch.batch.fitting import fit
from nextwatch.batch.sparse import SparseSums
from nextwatch.batch.watched import WatchedInWindows
from tests.batch.test_hottest import Known
from tests.support.builders import watch


def watched(**histories):
    """Return the watches of users who watched these videos one after the other."""
    return WatchedInWindows(
        Known(
            *(
                watch(video, user_id=user, at_ms=1_000 * place)
                for user, videos in histories.items()
                for place, video in enumerate(videos)
            )
        ),
        CompletionRule(),
    )


def listed(source, places):
    """Return the names on the list of each video."""
    names = source.videos.names
    return {
        names[video]: [names[other] for other in others if other >= 0]
        for video, others in enumerate(places.tolist())
    }


def test_what_is_watched_afterwards_is_similar_and_not_what_came_before():
    source = watched(u1="ab", u2="ab")

    assert listed(source, similar.covisited(source, 3)) == {"a": ["b"], "b": []}


def test_what_follows_at_once_comes_before_what_follows_later():
    source = watched(u1="abc", u2="abc")

    assert listed(source, similar.covisited(source, 3))["a"] == ["b", "c"]


def test_a_popular_video_does_not_win_everything():
    """After `a` people watch `hit` as often as `b`; `hit` they watch after everything."""
    source = watched(
        u1=["a", "b"], u2=["a", "b"], u3=["a", "hit"], u4=["a", "hit"],
        **{f"w{n}": [f"x{n}", "hit"] for n in range(8)},
    )  # fmt: skip

    assert listed(source, similar.covisited(source, 1))["a"] == ["b"]


def test_a_pair_is_measured_by_the_root_of_both_totals():
    """a: b twice of 2 and 3 in all (with one added each), c 3 times of 9: 2/√3 above 3/√10."""
    first, second = np.array([0, 0, 3]), np.array([1, 2, 2])
    places = similar._best(first, second, np.array([2.0, 3.0, 6.0]), 4, 2)

    assert places[0].tolist() == [1, 2]


def test_the_nearest_vectors_are_neighbours_and_zeros_are_nobodys():
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0, 0]], np.float32)

    assert similar.neighbours(vectors, 2).tolist() == [[1, 2], [0, 2], [1, 0], [-1, -1]]


def test_a_blend_adds_the_reciprocals_of_the_places():
    """1/61 + 1/62 for the video that is on both lists, 1/61 and 1/62 for the others."""
    one, other = np.array([[1, 2]], np.int32), np.array([[3, 1]], np.int32)

    places, scores = similar.blended([one, other], 3)

    assert places.tolist() == [[1, 3, 2]]
    np.testing.assert_allclose(scores, [[1 / 61 + 1 / 62, 1 / 61, 1 / 62]], rtol=1e-6)


def test_a_case_is_a_later_watch_of_something_new_with_the_watch_before():
    source = watched(u1="abab", u2="bc")
    cases = similar.next_watches(source, 0)
    names = source.videos.names
    pairs = [
        (names[before], names[after])
        for before, after in zip(cases.before_C, cases.next_C, strict=True)
    ]

    assert pairs == [("a", "b"), ("b", "c")]


def test_the_hit_rate_counts_the_cases_whose_next_watch_is_on_the_list():
    cases = similar.NextWatches(np.array([0, 0, 1]), np.array([1, 2, 0]))

    assert cases.hit_rate(np.array([[1, 9], [5, 0], [0, 0]]), 2) == 2 / 3


def test_figures_are_of_what_was_left_out():
    """Ten users watch `a` then `b`, the last ones after the cut: co-visitation knows it by then."""
    source = WatchedInWindows(
        Known(
            *(
                watch(video, user_id=f"u{n}", at_ms=60_000 * n + place)
                for n in range(10)
                for place, video in enumerate("ab")
            )
        ),
        CompletionRule(),
    )
    found = fit(source, None, most=5, is_vectors_fitted=False, has_figures=True)

    assert found.num_cases > 0
    assert found.hit_rates["co_visitation"] == 1.0
    assert [(one.video_id, [v.video_id for v in one.videos]) for one in found.lists] == [
        ("a", ["b"])
    ]


def test_sums_forget_the_lightest_keys_and_stay_bounded():
    sums = SparseSums(1, max_keys=10)
    for _ in range(3):
        sums.add(np.arange(100), np.arange(100, dtype=np.float64)[:, None])
    keys, weights = sums.items()

    assert keys.tolist() == [95, 96, 97, 98, 99]
    assert weights[:, 0].tolist() == [285.0, 288.0, 291.0, 294.0, 297.0]
    assert sums.num_forgotten == 95
