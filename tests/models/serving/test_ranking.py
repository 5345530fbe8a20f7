"""The ranker: one sum of logarithms, worked by hand."""

import math

import msgspec
import numpy as np
import pytest

from contract.wire.events import RankingFeatures
from models.features.examples import USUAL_DURATION_MS
from models.serving.items import ItemStore
from models.serving.ranking import Ranker, RankerParams
from tests.support.builders import item_vector

PARAMS = RankerParams(
    temperature=0.5, similarity_weight=2.0, popularity_weight=3.0, popularity_prior=1.0
)


def store_of(popularities):
    store = ItemStore(2, 2)
    for name, popularity in popularities.items():
        store.put(item_vector(name, popularity=popularity))
    return store


def ranked(store, names, similarities, params=PARAMS):
    rows = store.rows(names)[None, :]
    return Ranker(params).scores(np.array([similarities], np.float32), rows, store)


def test_the_score_is_the_formula():
    """2 * similarity / 0.5 + 3 * log(popularity + 1)."""
    store = store_of({"a": 4.0, "b": 0.0})

    _, score = ranked(store, ["a", "b"], [0.25, 0.75])

    assert score[0].tolist() == pytest.approx([1.0 + 3 * math.log(5), 3.0])


def test_what_is_watched_to_the_end_comes_before_what_is_only_come_across():
    """The same number of watches; the share that was completed decides."""
    store = ItemStore(2, 2)
    for name, rate in (("a", 0.2), ("b", 0.8), ("unknown", 0.0)):
        store.put(item_vector(name, popularity=5.0, completion_rate=rate))

    _, score = ranked(store, ["a", "unknown", "b"], [0.5, 0.5, 0.5])

    assert np.all(np.diff(score[0]) > 0)  # nobody knows of the second: the average


def test_of_equal_similarities_the_more_popular_comes_first():
    """Popularity decides where preference does not."""
    _, score = ranked(store_of({"a": 1.0, "b": 2.0}), ["a", "b"], [0.5, 0.5])

    assert score[0, 1] > score[0, 0]


def test_padding_is_last_and_expects_nothing():
    """Row 0 pads short lists of candidates."""
    expected_ms, score = ranked(store_of({"a": 1.0}), ["a", "nobody"], [-1.0, 1.0])

    assert score[0, 1] == -np.inf
    assert expected_ms[0, 1] == 0.0


def test_expected_watch_time_grows_with_preference_and_stays_within_the_video():
    """What is preferred is watched longer, at most to its end."""
    store = store_of({"a": 1.0, "b": 1.0, "c": 1.0})  # 30 s each, nobody has watched yet

    expected_ms, _ = ranked(store, ["a", "b", "c"], [-0.5, 0.0, 0.5])

    assert np.all(np.diff(expected_ms[0]) > 0)
    assert np.all((expected_ms >= 4_500) & (expected_ms <= 30_000))


def test_a_live_stream_without_watches_has_an_expected_watch_time():
    """Its duration is not known: as long as is usual stands for it, and nothing bounds it."""
    live = item_vector("live")
    store = ItemStore(2, 2)
    store.put(msgspec.structs.replace(live, features=RankingFeatures()))

    expected_ms, score = ranked(store, ["live"], [0.5])

    assert 0 < expected_ms[0, 0] <= USUAL_DURATION_MS
    assert np.isfinite(score).all()


def test_a_batch_is_ranked_as_its_users_one_by_one():
    """Users do not mix."""
    store = store_of({"a": 1.0, "b": 5.0, "c": 0.0})
    similarity = np.array([[0.1, 0.2, 0.3], [0.9, -0.2, 0.0]], np.float32)
    rows = np.array([store.rows(["a", "b", "c"]), store.rows(["c", "nobody", "a"])])

    together = Ranker(PARAMS).scores(similarity, rows, store)
    alone = [Ranker(PARAMS).scores(similarity[[n]], rows[[n]], store) for n in range(2)]

    for part in range(2):
        np.testing.assert_allclose(together[part], np.concatenate([one[part] for one in alone]))


def test_few_candidates_of_a_large_store_score_as_among_all_of_them():
    """Only the work differs, and nobody's completion rate stands for the average of everybody's."""
    store = ItemStore(2, 2)
    for number in range(30):
        rate = 0.0 if number % 3 else number / 30
        store.put(item_vector(f"v{number}", popularity=float(number), completion_rate=rate))
    names = [f"v{number}" for number in range(30)]
    similarity = np.linspace(-1, 1, 30)

    _, among_all = ranked(store, names + names, np.tile(similarity, 2))
    _, alone = ranked(store, names[3:6], similarity[3:6])

    np.testing.assert_allclose(alone[0], among_all[0, 3:6], rtol=1e-6)


@pytest.mark.parametrize("bad", ["temperature", "popularity_prior", "unwatched_share"])
def test_parameters_that_make_no_sense_are_refused(bad):
    """A bundle with such a manifest is refused before it is served."""
    with pytest.raises(ValueError, match=bad):
        RankerParams(**{bad: 0.0})
