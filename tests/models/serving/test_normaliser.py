"""Quantile normalisation by lines on the bits of a number is what interpolation would give."""

import numpy as np
import pytest

from models.features.ranking_features import UNKNOWN
from models.serving.normaliser import Normaliser

TIMES = np.quantile(np.exp(np.random.default_rng(0).normal(8, 3, 10_000)), np.linspace(0, 1, 33))
SIMILARITIES = np.linspace(-0.8, 0.9, 33)
COUNTS = np.array([0.0] * 11 + [1.0] * 11 + [2.0] * 5 + [7.0] * 6)


def apply(knots, values, **options):
    normaliser = Normaliser(np.array([knots], np.float32), **options)
    return normaliser.apply(np.array([values], np.float32))


@pytest.mark.parametrize("knots", [TIMES, SIMILARITIES], ids=["times", "similarities"])
def test_a_value_becomes_the_share_of_values_below_it(knots):
    """As by interpolation between the knots, up to a 32nd of a doubling around each."""
    knots = knots.astype(np.float32)
    values = np.random.default_rng(1).permutation(np.repeat(knots, 30))[:500]
    values = np.float32(values * 1.01)

    found = apply(knots, values)[0]

    expected = np.interp(values, knots, np.linspace(0, 1, 33))
    assert np.abs(found - expected).max() < 0.01
    assert np.abs(found - expected).mean() < 1e-3


def test_counts_have_the_share_of_all_up_to_them():
    """Equal knots are a step, and a count stands on top of it."""
    found = apply(COUNTS, [0.0, 1.0, 2.0, 7.0, 100.0])[0]

    assert found.tolist() == pytest.approx([10 / 32, 21 / 32, 26 / 32, 1.0, 1.0])


def test_square_and_root_stand_beside_and_the_unknown_has_a_flag():
    """Blocks of all features: shares, squares, roots, flags."""
    found = apply(np.linspace(0, 32, 33), [8.0, UNKNOWN])

    expected = np.array([[0.25, 0.0], [0.0625, 0.0], [0.5, 0.0], [0.0, 1.0]])
    assert found == pytest.approx(expected, abs=1e-6)


def test_without_roots_there_are_shares_and_flags_alone():
    """The ablation of the paper."""
    assert apply(np.linspace(0, 32, 33), [8.0, UNKNOWN], has_roots=False).tolist() == [
        [0.25, 0.0],
        [0.0, 1.0],
    ]


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-40, 3e38, -3e38, np.nan])
def test_every_number_stays_within_0_and_1(value):
    """What a client sends must not break a list; only what is no number stays none."""
    found = apply(TIMES, [value])[0]

    assert np.isnan(value) or 0.0 <= found[0] <= 1.0
