import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving import simple_lsh


def log_normal(num_items, dim, seed=0):
    """Return vectors whose norms differ by factors, as those of inner-product models do."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.normal(size=(num_items, dim)) * rng.lognormal(sigma=0.5, size=(num_items, 1))


def test_converts_as_worked_by_hand():
    """(v, sqrt(m^2 - |v|^2)) / m: (3, 4) has norm 5, so with m = 10 the rest is sqrt(75) / 10."""
    items = simple_lsh.convert_items(np.array([[3.0, 4.0], [6.0, 8.0]]), max_norm=10.0)

    expected = [[0.3, 0.4, math.sqrt(0.75)], [0.6, 0.8, 0.0]]
    assert items == pytest.approx(np.array(expected), abs=1e-7)


def test_users_get_a_zero_and_unit_norm():
    """(u, 0) / |u|."""
    users = simple_lsh.convert_users(np.array([[3.0, 4.0]]))

    assert users == pytest.approx(np.array([[0.6, 0.8, 0.0]]))


def test_spreads_what_is_added_as_worked_by_hand():
    """(v, sqrt(m^2 - |v|^2) v / |v|) / m: (3, 4) points to (.6, .8), and so does its rest."""
    items = simple_lsh.convert_items(np.array([[3.0, 4.0]]), max_norm=10.0, is_spread=True)

    rest = math.sqrt(0.75)
    assert items == pytest.approx(np.array([[0.3, 0.4, 0.6 * rest, 0.8 * rest]]), abs=1e-7)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_every_item_gets_unit_norm(seed, num_items, dim, is_spread):
    """Whatever the norms were, none at all included."""
    vectors = log_normal(num_items, dim, seed)
    vectors[0] = 0.0

    items = simple_lsh.convert_items(
        vectors, max_norm=simple_lsh.max_norm_of(vectors), is_spread=is_spread
    )

    assert np.linalg.norm(items, axis=1) == pytest.approx(np.ones(num_items), abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_order_is_that_of_the_plain_inner_product(seed, is_spread):
    """Exactly: the conversion divides all scores of a user by the same number."""
    vectors, users = log_normal(200, 8, seed), log_normal(5, 8, seed + 1)
    plain = users @ vectors.T
    max_norm = simple_lsh.max_norm_of(vectors)

    items = simple_lsh.convert_items(vectors, max_norm=max_norm, is_spread=is_spread)
    scores = simple_lsh.convert_users(users, is_spread=is_spread) @ items.T

    scale = max_norm * np.linalg.norm(users, axis=1, keepdims=True)
    # rows in the order of the converted scores never go up in the plain ones, but for float32
    ordered = np.take_along_axis(plain, np.argsort(-scores, axis=1), axis=1)
    assert scores * scale == pytest.approx(plain, abs=1e-6 * scale.max())
    assert (np.diff(ordered, axis=1) <= 1e-6 * scale).all()


def test_an_item_that_outgrew_the_norm_is_shortened_to_it():
    """Its direction stays; the other items keep their scores."""
    items = simple_lsh.convert_items(np.array([[6.0, 8.0], [0.0, 1.0]]), max_norm=5.0)

    assert items == pytest.approx(
        np.array([[0.6, 0.8, 0.0], [0.0, 0.2, math.sqrt(0.96)]]), abs=1e-7
    )


def test_the_norm_leaves_room_to_grow():
    """The longest item is below it; without items it is one."""
    assert simple_lsh.max_norm_of(np.array([[3.0, 4.0]]), headroom=1.5) == pytest.approx(7.5)
    assert simple_lsh.max_norm_of(np.zeros((0, 2))) == 1.0
    assert simple_lsh.max_norm_of(np.zeros((3, 2))) == 1.0


def test_a_user_of_zeros_stays_of_zeros():
    """A broken model gives zeros; they must not become not-a-number."""
    assert (simple_lsh.convert_users(np.zeros((2, 3))) == 0).all()


def test_a_norm_that_is_not_above_zero_is_rejected():
    """Nothing can be divided by it."""
    with pytest.raises(ValueError, match="max_norm must be above 0, got 0"):
        simple_lsh.convert_items(np.zeros((1, 2)), max_norm=0.0)
    with pytest.raises(ValueError, match="headroom must be at least 1"):
        simple_lsh.max_norm_of(np.zeros((1, 2)), headroom=0.9)
