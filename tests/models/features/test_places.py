"""Distinct rows are numbered without sorting, the first ones first."""

import numpy as np

from models.features.places import Places


def test_given_rows_come_first_and_the_others_in_order():
    places = Places()

    rows = places.number(np.array([7, 3]), np.array([[9, 3], [0, 5]]), num_rows=10)

    assert rows.tolist() == [7, 3, 5, 9]
    assert places.of(np.array([[9, 3], [0, 5]])).tolist() == [[4, 2], [0, 3]]
    assert places.of(np.array([7, 3])).tolist() == [1, 2]


def test_row_0_has_place_0_in_every_call():
    """Padding stays padding, whatever a table of before had."""
    places = Places()
    for num_rows in (10, 5_000):
        rows = places.number(np.array([num_rows - 1]), np.array([0, 1]), num_rows=num_rows)

        assert rows.tolist() == [num_rows - 1, 1]
        assert places.of(np.array([0])).tolist() == [0]
