"""Grow arrays by a quarter, so that adding rows one by one costs little.

Small ones double. Large ones do not: a process has some fifty arrays with a row for each video, and
all of them would double with the same upload. At 4,096 videos that made 49 MB of a trainer.
"""

import numpy as np

FIRST_CAPACITY = 1_024


def grown(array: np.ndarray, num_rows: int) -> np.ndarray:
    """Return *array* with room for *num_rows* rows; new rows are zero."""
    capacity = len(array)
    if num_rows <= capacity:
        return array
    while capacity < num_rows:
        capacity += max(capacity // 4, min(capacity, FIRST_CAPACITY), 1)
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
