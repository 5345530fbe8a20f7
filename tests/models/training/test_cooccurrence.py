"""What was watched near what becomes vectors that say so."""

import numpy as np

from models.training import cooccurrence


def test_videos_watched_together_are_near_and_others_are_not():
    """Two groups that no user mixes: rows 1 to 3 and rows 4 to 6."""
    histories = [np.array([1, 2, 3, 2, 1]), np.array([4, 5, 6, 5])] * 5

    vectors = cooccurrence.embeddings(histories, 6, 2, seed=0)

    nearness = vectors @ vectors.T
    assert nearness[:3, :3].min() > 0.9
    assert abs(nearness[:3, 3:]).max() < 0.1


def test_vectors_have_norm_1_and_zero_if_never_watched_beside_anything():
    """Row 3 is in nobody's history."""
    vectors = cooccurrence.embeddings([np.array([1, 2, 4])], 4, 2, seed=0)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1], atol=1e-5)


def test_nearer_counts_more_and_only_within_a_history():
    """Distance d counts 1 / d, both ways; what two users watched is no pair."""
    pairs, counts = cooccurrence._counts([np.array([1, 2, 3]), np.array([4])], 5)

    found = dict(zip(zip(*divmod(pairs, 5), strict=True), counts.tolist(), strict=True))
    assert found == {(1, 2): 1, (2, 1): 1, (2, 3): 1, (3, 2): 1, (1, 3): 0.5, (3, 1): 0.5}


def test_positive_mutual_information_is_the_formula_worked_by_hand():
    """Rows 1 and 2 stood together 3 times, 2 and 3 once; smoothing to the power 0.75."""
    pairs = np.array([1 * 4 + 2, 2 * 4 + 1, 2 * 4 + 3, 3 * 4 + 2])
    counts = np.array([3.0, 3.0, 1.0, 1.0], np.float32)
    total = {1: 3.0, 2: 4.0, 3: 1.0}
    smooth = {row: n**0.75 / sum(m**0.75 for m in total.values()) for row, n in total.items()}

    pmi = cooccurrence._positive_pmi(pairs, counts, 4).to_dense().numpy()

    one_way = max(np.log(3.0 / (total[1] * smooth[2])), 0.0)
    other_way = max(np.log(3.0 / (total[2] * smooth[1])), 0.0)
    np.testing.assert_allclose(pmi[1, 2], (one_way + other_way) / 2, rtol=1e-5)
    np.testing.assert_allclose(pmi, pmi.T, rtol=1e-6)
    assert pmi[1, 3] == 0


def test_a_catalogue_without_watches_has_zero_vectors():
    """No error: there is nothing to know."""
    assert not cooccurrence.embeddings([], 3, 8, seed=0).any()


def test_more_dimensions_than_videos_are_filled_up_with_zeros():
    """A small catalogue has the width that the towers want all the same."""
    vectors = cooccurrence.embeddings([np.array([1, 2])], 2, 8, seed=0)

    assert vectors.shape == (2, 8)
