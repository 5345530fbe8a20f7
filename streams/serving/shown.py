"""Move videos that were shown and not watched to lower places, for that user, after ranking.

Each time it was shown costs `PLACES_PER_SHOWING`, half of that a day later, and never more than
`MOST_PLACES` in all; so a list that nobody touches makes way for the next videos, and comes
back. What was watched is left out of the list anyway and loses nothing here.

The rule moves places, not scores: it fits any ranker, and what the trainer measures is the order
before it. Time is that of the events, so a replayed log is
answered as it was.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from contract.points import POINT_BYTES, point_id
from models.history.history import DAY_MS
from streams.serving.point_rows import PointRows
from streams.serving.requests import Request

# Shape legend: B = users of the batch, C = candidates (padded with row 0), N = rows of the item
# store, S = videos shown to one user, once for each time.

PLACES_PER_SHOWING = 2.0
MOST_PLACES = 40.0
HALF_LIFE_MS = DAY_MS


def demote_shown(
    order_BC: Int64[np.ndarray, "B C"],
    rows_BC: Int64[np.ndarray, "B C"],
    requests: Sequence[Request],
    points: PointRows,
    num_rows: int,
) -> Int64[np.ndarray, "B C"]:
    """Return *order_BC*, columns of *rows_BC*, with videos shown in vain at lower places."""
    if not any(request.window.impressions for request in requests):
        return order_BC
    rows_BC = np.take_along_axis(rows_BC, order_BC, 1)
    lost_BC = _places_lost(rows_BC, requests, points, num_rows)
    place_BC = np.arange(rows_BC.shape[1]) + lost_BC + 0.5 * (lost_BC > 0)  # to the nearest place
    place_BC[rows_BC == 0] = np.inf  # padding stays behind everything
    moved: np.ndarray = np.take_along_axis(order_BC, np.argsort(place_BC, 1, kind="stable"), 1)
    return moved


def order_without_shown(video_ids: Sequence[str], request: Request) -> list[int]:
    """Return the places of *video_ids* in the order with those shown and not watched further down.

    For lists that are made without an item store.
    """
    if not request.window.impressions:
        return list(range(len(video_ids)))
    joined = b"".join(entry.points for entry in request.window.impressions)
    lost: dict[int, float] = defaultdict(float)
    weight_S = _weights(request)
    for point, weight in zip(np.frombuffer(joined, "<i8").tolist(), weight_S.tolist(), strict=True):
        lost[point] += weight

    def moved(place: int) -> float:
        places = min(PLACES_PER_SHOWING * lost.get(point_id(video_ids[place]), 0.0), MOST_PLACES)
        return place + places + 0.5 * (places > 0)

    return sorted(range(len(video_ids)), key=moved)


def _places_lost(
    rows_BC: Int64[np.ndarray, "B C"],
    requests: Sequence[Request],
    points: PointRows,
    num_rows: int,
) -> Float[np.ndarray, "B C"]:
    windows = [request.window for request in requests]
    joined = b"".join(entry.points for window in windows for entry in window.impressions)
    shown = points.rows(np.frombuffer(joined, "<i8"))
    lost_BC, showings_N = np.zeros(rows_BC.shape), np.zeros(num_rows)
    start = 0
    for number, request in enumerate(requests):
        weight_S = _weights(request)
        rows_S, start = shown[start : start + len(weight_S)], start + len(weight_S)
        np.add.at(showings_N, rows_S, weight_S)
        lost_BC[number] = showings_N[rows_BC[number]]
        showings_N[rows_S] = 0.0
    return np.minimum(PLACES_PER_SHOWING * lost_BC, MOST_PLACES)


def _weights(request: Request) -> Float[np.ndarray, "S"]:
    """Return what each showing counts: 1 just now, half of it a half-life ago."""
    shown = request.window.impressions
    ages_ms = [request.now_ms - entry.event_time_ms for entry in shown]
    sizes = [len(entry.points) // POINT_BYTES for entry in shown]
    return np.repeat(0.5 ** (np.array(ages_ms, np.float64) / HALF_LIFE_MS), sizes)
