"""A skip pushes away what is like it, for a few watches."""

import numpy as np
import pytest

from models.features.examples import CompletionRule
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.items import ItemStore
from streams.serving.requests import request_of
from streams.serving.skips import MAX_AGE_MS, NUM_RECENT, push_away_skipped
from tests.support.builders import asking, item_vector, watch

VECTORS = {"skipped": (1.0, 0.0), "alike": (0.8, 0.6), "other": (0.0, 1.0), "opposite": (-1.0, 0.0)}
SCORES = np.array([2.0, 1.0, 0.0])


@pytest.fixture
def items():
    items = ItemStore(2, 2)
    for video_id, vector in VECTORS.items():
        items.put(item_vector(video_id, vector))
    return items


def request_after(*events, at_ms=0):
    """Return what somebody asks at *at_ms* who did *events*."""
    return request_of("u1", fold(EMPTY, events, WindowPolicy()), [asking(at_ms=at_ms)])


def lowered(items, *events, weight=1.0, at_ms=0):
    """Return how far alike, other and opposite fall for who did *events* and asks at *at_ms*."""
    rows_BC = items.rows(["alike", "other", "opposite"])[None, :].astype(np.int64)
    request = request_after(*events, at_ms=at_ms)
    after = push_away_skipped(
        SCORES[None, :], rows_BC, [request], items, CompletionRule(), weight=weight
    )
    return (SCORES - after[0]).round(6).tolist()


SKIP = watch("skipped", watch_ms=1_000, duration_ms=60_000)


def test_what_is_like_a_skipped_video_falls_and_nothing_rises(items):
    """By its likeness, in standard deviations of the scores; what is unlike stays."""
    assert lowered(items, SKIP) == [round(0.8 * SCORES.std(), 6), 0.0, 0.0]


def test_a_watch_is_not_a_skip(items):
    """Neither a whole one nor a third, nor a second of three."""
    assert lowered(items, watch("skipped")) == [0.0, 0.0, 0.0]
    assert lowered(items, watch("skipped", watch_ms=1_000, duration_ms=3_000)) == [0.0, 0.0, 0.0]


def test_a_skip_among_watches_counts_by_its_share_and_is_forgotten_after_a_few(items):
    """One skip does not turn somebody away from what the last watches were."""
    watches = [watch(f"other{n or ''}", at_ms=n + 1) for n in range(NUM_RECENT)]
    alone, half = lowered(items, SKIP)[0], lowered(items, SKIP, watches[0])[0]

    assert half == pytest.approx(alone / 2, abs=1e-5)
    assert lowered(items, SKIP, *watches) == [0.0, 0.0, 0.0]
    assert lowered(items, SKIP, watch("other", at_ms=MAX_AGE_MS + 1)) == [0.0, 0.0, 0.0]


def test_a_skip_of_long_ago_pushes_nothing_away_when_its_user_comes_back(items):
    """Its age is counted to the answer, however long nothing else happened."""
    assert lowered(items, SKIP, at_ms=MAX_AGE_MS) == lowered(items, SKIP)
    assert lowered(items, SKIP, at_ms=MAX_AGE_MS + 1) == [0.0, 0.0, 0.0]


def test_without_weight_or_vectors_nothing_happens(items):
    """A setting turns it off, and an unknown video is like none."""
    assert lowered(items, SKIP, weight=0.0) == [0.0, 0.0, 0.0]
    assert lowered(items, watch("unknown", watch_ms=1, duration_ms=60_000)) == [0.0, 0.0, 0.0]


def test_padding_stays_behind_everything(items):
    """A score of minus infinity is no number to take a deviation of."""
    rows_BC = np.array([[items.row("alike"), 0]])

    after = push_away_skipped(
        np.array([[1.0, -np.inf]]),
        rows_BC,
        [request_after(SKIP)],
        items,
        CompletionRule(),
        weight=1.0,
    )
    assert after.tolist() == [[1.0, -np.inf]]
