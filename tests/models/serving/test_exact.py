"""Searching everything finds what sorting everything would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving import exact


def drawn(seed, num_users, num_videos, *, levels=None):
    """Return random vectors; with *levels*, so coarse that many scores are equal."""
    rng = np.random.default_rng(seed)
    users_BD = rng.standard_normal((num_users, 4)).astype(np.float32)
    videos_ND = rng.standard_normal((num_videos, 4)).astype(np.float32)
    if levels:
        users_BD, videos_ND = np.round(users_BD * levels), np.round(videos_ND * levels)
    return users_BD, videos_ND


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(1, 50),
    st.sampled_from([None, 1]),
)
def test_the_scores_found_are_the_largest_in_order(seed, num_users, num_videos, k, levels):
    """Also where many are equal, and where fewer are there than are wanted."""
    users_BD, videos_ND = drawn(seed, num_users, num_videos, levels=levels)

    found = exact.nearest(users_BD, videos_ND, k)

    for scores_N, rows in zip(users_BD @ videos_ND.T, found, strict=True):
        assert len(set(rows.tolist())) == min(k, num_videos)
        np.testing.assert_allclose(scores_N[rows], np.sort(scores_N)[::-1][: len(rows)], rtol=1e-5)


def test_the_threshold_of_a_sample_loses_nothing():
    """In a catalogue so large that only a part of the scores is sampled."""
    users_BD, videos_ND = drawn(1, 3, 50_000)

    found = exact.nearest(users_BD, videos_ND, 100)

    for scores_N, rows in zip(users_BD @ videos_ND.T, found, strict=True):
        assert set(rows.tolist()) == set(np.argsort(-scores_N)[:100].tolist())


@pytest.mark.parametrize("num_videos", [0, 5])
def test_an_empty_catalogue_or_no_wish_gives_nothing(num_videos):
    """Nothing to find is no error."""
    users_BD, videos_ND = drawn(1, 2, num_videos)

    assert [len(rows) for rows in exact.nearest(users_BD, videos_ND, 0)] == [0, 0]
