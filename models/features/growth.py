"""Grow arrays by doubling, so that adding rows one by one costs little."""

import numpy as np

FIRST_CAPACITY = 1_024


def grown(array: np.ndarray, num_rows: int) -> np.ndarray:
    """Return *array* with room for *num_rows* rows; new rows are zero."""
    capacity = len(array)
    if num_rows <= capacity:
        return array
    while capacity < num_rows:
        capacity = max(2 * capacity, 1)
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
