"""item2vec finds what goes together, and gives the same vectors for the same seed."""

import numpy as np
import pytest

from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.history.history import EMPTY, WindowPolicy, fold
from models.training.item2vec import Item2VecConfig, entries, item2vec
from models.training.item2vec import _keeping as keeping
from models.training.item2vec import _pairs as pairs
from tests.support.builders import search, watch

FEATURES = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())
SMALL = Item2VecConfig(
    dim=16, window=4, num_epochs=8, num_shared=16, subsampling=1.0, pairs_per_step=512
)
GROUPS = 4
"""Videos n, n + GROUPS, ... are watched by the same users; so is word n searched by them."""


def planted(*, num_users=120, length=8, seed=0):
    """Return sequences of users who each stay within one group of five videos and one word."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(num_users):
        group = int(rng.integers(GROUPS))
        videos = 1 + group + GROUPS * rng.integers(5, size=length)
        sequences.append([*videos.tolist(), 5 * GROUPS + 1 + group])
    return sequences


def test_what_is_watched_by_the_same_users_is_near():
    """Every video's nearest is of its own group, and so is the word that its users search for."""
    vectors = item2vec(planted(), SMALL, num_videos=20, num_words=GROUPS, seed=0)

    videos, words = vectors.video_ND[1:], vectors.word_HD[1:]
    group = np.arange(20) % GROUPS
    among = videos @ videos.T - 9.0 * np.eye(20)
    assert (group[among.argmax(axis=1)] == group).all()
    assert ((videos @ words.T).argmax(axis=1) == group).all()


def test_the_same_seed_gives_the_same_vectors():
    """Bit for bit; another seed gives others."""
    config = Item2VecConfig(dim=8, num_epochs=1, num_shared=8)
    one, again, other = (
        item2vec(planted(num_users=10), config, num_videos=20, num_words=GROUPS, seed=seed)
        for seed in (3, 3, 4)
    )

    np.testing.assert_array_equal(one.video_ND, again.video_ND)
    np.testing.assert_array_equal(one.word_HD, again.word_HD)
    assert not np.array_equal(one.video_ND, other.video_ND)


def test_a_video_in_no_sequence_has_a_zero_vector():
    """Row 0, videos never watched, words never searched for; all others have norm 1."""
    vectors = item2vec([[1, 2, 1]], SMALL, num_videos=3, num_words=1, seed=0)

    norms = np.linalg.norm(vectors.video_ND, axis=1)
    assert norms.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert not vectors.word_HD.any()


def test_without_histories_all_vectors_are_zero():
    """The first start of all."""
    vectors = item2vec([[], []], SMALL, num_videos=2, seed=0)

    assert vectors.video_ND.shape == (3, 16)
    assert not vectors.video_ND.any()


def test_pairs_stay_within_a_user_and_a_window():
    """Users 1 2 3 and 4 5; with a window of 1 only neighbours, in both directions."""
    config = Item2VecConfig(window=1)
    entry, user = np.array([1, 2, 3, 4, 5]), np.array([0, 0, 0, 1, 1])

    batches = list(pairs(entry, user, config, np.random.default_rng(0)))

    found = sorted(map(tuple, np.concatenate(batches, axis=1).T.tolist()))
    assert found == [(1, 2), (2, 1), (2, 3), (3, 2), (4, 5), (5, 4)]


def test_near_entries_are_paired_more_often():
    """The width is drawn from 1 to 2, so the second neighbour counts half."""
    config = Item2VecConfig(window=2)
    entry, user = np.tile([1, 2, 3], 1_000), np.repeat(np.arange(1_000), 3)

    batches = list(pairs(entry, user, config, np.random.default_rng(0)))

    found = np.concatenate(batches, axis=1)
    assert ((found[0] == 1) & (found[1] == 2)).sum() == 1_000
    assert ((found[0] == 1) & (found[1] == 3)).sum() == pytest.approx(500, abs=60)


def test_frequent_entries_are_left_out_at_random():
    """At t = .01 a share of .64 stays by .125 + .015625, one of .01 or less always."""
    count = np.array([0.0, 64.0, 1.0, 35.0])

    assert keeping(count, 0.01)[1:3].tolist() == pytest.approx([0.140625, 1.0])


def test_a_row_beyond_the_vocabulary_is_refused():
    """Before anything is learned."""
    with pytest.raises(ValueError, match="rows must be from 1 to 3"):
        item2vec([[1, 4]], SMALL, num_videos=3, seed=0)


def test_watches_and_searches_are_in_the_order_of_time():
    """Two words between two videos; a video that is not known is left out."""
    events = [
        watch("v1", at_ms=0),
        search("soup Soup", at_ms=5),
        watch("gone", at_ms=7),
        watch("v2", at_ms=9),
    ]
    window = fold(EMPTY, events, WindowPolicy())
    known = {"v1": 1, "v2": 2}

    found = entries(
        window, FEATURES, lambda ids: np.array([known.get(i, 0) for i in ids]), num_videos=2
    )

    word = 2 + FEATURES.word_rows("soup")[0]
    assert found == [1, word, word, 2]
