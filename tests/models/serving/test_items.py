"""The item store: rows for everything, zeros for what is unknown."""

import msgspec
import numpy as np
import pytest

from contract.wire.events import RankingFeatures
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot, ItemStore, feature_row
from tests.support.builders import T0, item_vector


def store_of(*vectors):
    store = ItemStore(2, 2)
    for vector in vectors:
        store.put(vector)
    return store


def test_an_unknown_video_has_row_0_and_weighs_nothing():
    """Whatever is looked up has a row, and zeros are the ones of the unknown."""
    store = store_of(item_vector("a", (3.0, 4.0)))

    assert store.rows(["a", "nobody"]).tolist() == [1, 0]
    assert store.inputs_ND[store.rows(["nobody"])].tolist() == [[0.0, 0.0]]


def test_a_video_put_twice_keeps_its_row_and_has_the_last_vector():
    """Upserts are idempotent; the last one counts."""
    store = store_of(item_vector("a", (1.0, 0.0)), item_vector("a", (0.0, 1.0)))

    assert len(store) == 1
    assert store.outputs_ND[store.rows(["a"])].tolist() == [[0.0, 1.0]]


def test_the_store_grows_past_its_first_capacity_and_keeps_what_it_has():
    """Doubling moves every matrix and loses nothing."""
    store = store_of(*(item_vector(f"v{n}", (n, -n), popularity=n) for n in range(3_000)))

    rows = store.rows([f"v{n}" for n in range(3_000)])
    assert len(store) == 3_000
    assert store.inputs_ND[rows, 0].tolist() == list(range(3_000))
    assert store.popularity_N[rows].tolist() == list(range(3_000))


def test_a_snapshot_is_put_as_if_one_by_one():
    """The bulk path and the single path end in the same store."""
    vectors = [item_vector(f"v{n}", (n, 1.0), popularity=n) for n in range(2_000)]
    one_by_one = store_of(*vectors)
    at_once = ItemStore(2, 2)
    at_once.put_many(
        ItemSnapshot(
            [vector.video_id for vector in vectors],
            np.array([vector.input_vector for vector in vectors], np.float32),
            np.array([vector.output_vector for vector in vectors], np.float32),
            np.array([feature_row(vector.features) for vector in vectors]),
        )
    )

    assert np.array_equal(at_once.inputs_ND, one_by_one.inputs_ND)
    assert np.array_equal(at_once.duration_ms_N, one_by_one.duration_ms_N)
    assert at_once.popular(5) == one_by_one.popular(5)


def test_a_removed_video_is_unknown_and_its_row_is_reused():
    """Nothing of the old video is left for the newcomer."""
    store = store_of(item_vector("a", popularity=5), item_vector("b"))
    store.remove("a")
    store.remove("a")

    assert "a" not in store
    assert store.rows(["a"]).tolist() == [0]
    assert store.inputs_ND[1].tolist() == [0.0, 0.0]
    store.put(item_vector("c", (0.0, 2.0)))
    assert store.video_id(1) == "c"
    assert store.popularity_N[1] == 0.0


def test_a_vector_of_another_width_is_refused():
    """It belongs to another generation, and must not be cut to fit."""
    with pytest.raises(ValueError, match="keeps 2 components, got 3"):
        store_of(item_vector("a", (1.0, 0.0, 0.0)))


def test_popular_is_by_popularity_and_then_by_the_newest_upload():
    """Of videos that nobody has watched, the newest comes first."""
    store = ItemStore(2, 2)
    for name, popularity, uploaded_at_ms in (("old", 0, T0), ("new", 0, T0 + 1), ("hit", 9, T0)):
        features = RankingFeatures(popularity=popularity, uploaded_at_ms=uploaded_at_ms)
        store.put(msgspec.structs.replace(item_vector(name), features=features))

    assert store.popular(10) == ["hit", "new", "old"]
    assert store.popular(1) == ["hit"]


def test_a_removed_video_leaves_the_popular_at_once():
    """The kept order may be a little old, but never names what was taken down."""
    store = store_of(*(item_vector(f"v{n}", popularity=n) for n in range(1_000)))
    assert store.popular(2) == ["v999", "v998"]

    store.remove("v999")

    assert store.popular(2) == ["v998", "v997"]


def test_feature_rows_follow_the_contract():
    """A field that is added to the contract has to find its column."""
    numbers = (1.0, 2.0, 0.5, 4, 5, 6.0, 0.7, 1.2, 8, 9, 10, 11)
    values = dict(zip(RANKING_FEATURE_NAMES, numbers, strict=True))

    assert feature_row(RankingFeatures(**values)) == list(values.values())


def test_free_rows_are_not_among_the_popular_videos():
    """With nothing watched and no upload times known, every video that is there is named."""
    store = store_of(*(item_vector(name) for name in "abcd"))
    store.remove("b")

    assert sorted(store.popular(10)) == ["a", "c", "d"]


def test_the_mean_completion_rate_follows_every_change():
    """It is of the videos whose rate is known, and kept between changes."""
    store = store_of(item_vector("a", completion_rate=0.2), item_vector("b"))
    assert store.mean_completion_rate == 0.2

    store.put(item_vector("c", completion_rate=0.6))
    assert store.mean_completion_rate == pytest.approx(0.4)
    store.remove("a")
    assert store.mean_completion_rate == 0.6
    store.remove("c")
    assert store.mean_completion_rate == 1.0


def test_the_rows_that_changed_since_are_told_each_once():
    """For what is derived of rows and kept beside them."""
    store = ItemStore(2, 2)
    for name in ("a", "b", "c"):
        store.put(item_vector(name))
    before = store.num_changes

    store.put(item_vector("c"))
    store.put(item_vector("a"))
    store.put(item_vector("c"))
    store.remove("b")

    assert store.changed_since(before).tolist() == [1, 2, 3]
    assert store.changed_since(store.num_changes).tolist() == []


def test_after_many_changes_every_row_has_changed():
    """The store remembers about as many changes as it has rows."""
    store = ItemStore(2, 2)
    store.put(item_vector("a"))
    store.put(item_vector("b"))
    before = store.num_changes

    for _ in range(20):
        store.put(item_vector("b"))

    assert store.changed_since(before).tolist() == [0, 1, 2]
    assert store.changed_since(store.num_changes - 1).tolist() == [store.row("b")]
