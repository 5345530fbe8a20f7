"""Rows that another video gets are forgotten by all that count and rank by row."""

import numpy as np
import pytest

from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import HOUR_MS
from models.ranking.config import RANKERS
from tests.support.builders import T0, upload
from trainer.evaluate.popularity import Popularity, Viewing
from trainer.ranking.learner import RankingLearner

FEATURES = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())


@pytest.fixture
def vocabulary():
    return Vocabulary(FEATURES, max_videos=2)


def test_counters_of_a_freed_row_start_at_nothing(vocabulary):
    """The newcomer has not been watched, whoever had its row."""
    popularity = Popularity(vocabulary, half_life_ms=HOUR_MS, live_half_life_ms=HOUR_MS)
    for one in (upload("a"), upload("b")):
        vocabulary.put(one)
        popularity.add(one)
    popularity.count([Viewing("a", T0, 5_000, is_completed=True)])
    assert popularity.popularity_N[1] > 0

    newcomer = upload("c")
    row = vocabulary.put(newcomer)
    popularity.add(newcomer)

    assert row == 1
    assert popularity.popularity_N[1] == 0
    assert popularity.mean_watch_ms_N[1] == 0
    assert popularity.duration_ms("c") == newcomer.duration_ms


def test_the_ranker_knows_a_freed_row_no_more(vocabulary):
    """Neither its point nor what it learned of it."""
    popularity = Popularity(vocabulary, half_life_ms=HOUR_MS, live_half_life_ms=HOUR_MS)
    ranker = RankingLearner(
        RANKERS["expected_watch_time"],
        vocabulary,
        popularity,
        CompletionRule(),
        temperature=1 / 60,
        seed=0,
    )
    for one in (upload("a"), upload("b")):
        vocabulary.put(one)
        ranker.upload(one)
    points = dict(ranker._row_of_point)
    ranker.model.tables.own.weight.data[1] = 0.5

    vocabulary.put(upload("c"))

    forgotten = [point for point, row in points.items() if not ranker.row_of_point(point)]
    assert len(forgotten) == 1
    assert not np.any(ranker.model.tables.own.weight.detach().numpy()[1])
