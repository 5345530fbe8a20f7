"""Arrays grow by a part of what they have: seldom, and without much room that nobody uses."""

import numpy as np

from models.features.growth import FIRST_CAPACITY, grown


def test_rows_are_kept_and_new_ones_are_zero():
    array = grown(np.ones((3, 2), np.float32), 5)

    assert len(array) >= 5
    assert (array[:3] == 1.0).all()
    assert not array[3:].any()
    assert grown(array, 5) is array


def test_a_large_array_never_has_room_for_more_than_a_quarter_again():
    """And a million rows that come one by one are copied six times in the mean, at most."""
    array, num_copied = np.zeros((1, 1), np.int8), 0
    for num_rows in range(1, 1_000_000):
        if num_rows > len(array):
            num_copied += len(array)
            array = grown(array, num_rows)
            assert len(array) <= max(num_rows * 1.25, num_rows + FIRST_CAPACITY)

    assert num_copied < 6 * 1_000_000
