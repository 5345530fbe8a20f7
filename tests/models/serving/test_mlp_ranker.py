"""The ranking network: its features, its numbers, and what it refuses."""

import dataclasses

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from contract.errors import BundleError
from contract.wire.events import MAX_DURATION_MS, RankingFeatures
from models.bundle import bundle, onnx_check
from models.bundle.mlp_ranker_export import drawn, export
from models.history.history import DAY_MS
from models.serving.items import ItemStore
from models.serving.mlp_ranker import (
    GOLDEN,
    INPUT,
    MODEL,
    OUTPUT,
    PAIR_FEATURES,
    MlpRanker,
    pair_features,
)
from models.serving.ranking import RankedUsers
from streams.serving.generation import load
from tests.support.builders import T0, item_vector
from tests.support.bundles import SMALL, catalogue, learner_of, no_features

DIM = 64
LAYERS = drawn(DIM, seed=1, hidden=(16, 8))


def bundle_with(files, root):
    """A bundle of the small learner with *files* beside its own."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, has_live_signals=False))
    card = learner.card(bundle_id="b1", generation=1, offsets={}, metrics={})
    snapshot = learner.snapshot(no_features(learner))
    bundle.write(f"file://{root}", card, learner.bundle_files() | files, snapshot)
    return bundle.load(f"file://{root}/b1")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    return bundle_with(export(LAYERS), tmp_path_factory.mktemp("bundles"))


def store_of(num_videos, seed=0):
    """Videos v0, v1, ... with vectors of unit norm and all features drawn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    store = ItemStore(DIM, DIM)
    for number in range(num_videos):
        vector = rng.normal(size=DIM)
        features = RankingFeatures(
            popularity=float(rng.integers(1_000)),
            mean_watch_ms=float(rng.integers(60_000)),
            completion_rate=float(rng.random()),
            duration_ms=60_000,
            uploaded_at_ms=T0 - int(rng.integers(90 * DAY_MS)),
        )
        plain = item_vector(f"v{number}", (vector / np.linalg.norm(vector)).tolist())
        store.put(msgspec.structs.replace(plain, features=features))
    return store


def users_of(count, seed=1):
    rng = np.random.Generator(np.random.PCG64(seed))
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return RankedUsers(vectors, np.full(count, T0), np.arange(1, count + 1))


def similarity_of(users, rows_BC, store):
    return np.einsum("bd,bcd->bc", users.vectors_BD, store.outputs_ND[rows_BC])


def network_by_hand(features_MF):
    """ReLU between the layers, nothing after the last."""
    hidden = features_MF
    for layer in LAYERS[:-1]:
        hidden = np.maximum(hidden @ layer.weight_IO + layer.bias_O, 0.0)
    return (hidden @ LAYERS[-1].weight_IO + LAYERS[-1].bias_O)[:, 0]


def test_the_features_are_in_the_columns_of_training():
    """Products of the vectors first, then the sixteen that are named."""
    store = ItemStore(2, 2)
    features = RankingFeatures(
        popularity=9.0,
        mean_watch_ms=4_000,
        completion_rate=0.25,
        duration_ms=60_000,
        uploaded_at_ms=T0 - 3 * DAY_MS,
    )
    store.put(msgspec.structs.replace(item_vector("a", (0.6, 0.8)), features=features))
    users = RankedUsers(np.array([[1.0, 0.5]], np.float32), np.array([T0]), np.array([7]))

    (row,) = pair_features(
        np.array([0.4], np.float32), np.array([1]), np.array([0]), store, users
    ).tolist()

    popularity = np.log(10) / np.log1p(1e6)
    watch, duration = np.log([5, 61]) / np.log1p(3_600)
    age = np.log(4) / np.log1p(3_650)
    forms = [form for x in (popularity, watch, duration, age) for form in (x, x * x, np.sqrt(x))]
    expected = [0.6, 0.4, 0.4, 0.16, 0.25, np.log(8) / np.log(51), *forms]
    assert row == pytest.approx(expected, rel=1e-5)
    assert len(row) == 2 + len(PAIR_FEATURES)


@pytest.mark.parametrize("uploaded_at_ms", [0, T0 + DAY_MS])
def test_an_unknown_age_is_zero(uploaded_at_ms):
    """Neither 55 years, nor less than nothing."""
    store = ItemStore(2, 2)
    features = RankingFeatures(uploaded_at_ms=uploaded_at_ms)
    store.put(msgspec.structs.replace(item_vector("a"), features=features))
    users = RankedUsers(np.ones((1, 2), np.float32), np.array([T0]), np.array([1]))

    found = pair_features(np.zeros(1, np.float32), np.array([1]), np.array([0]), store, users)

    assert found[0, -3:].tolist() == [0.0, 0.0, 0.0]


def test_scores_are_those_of_the_network_worked_in_numpy(bundled):
    """More pairs than one slice, of users with lists of different lengths."""
    store, users = store_of(300), users_of(12)
    rows_BC = np.random.Generator(np.random.PCG64(2)).integers(1, 301, (12, 250))
    rows_BC[3, 100:] = 0
    similarity_BC = similarity_of(users, rows_BC, store)

    expected_ms_BC, score_BC = MlpRanker(bundled).rank(similarity_BC, rows_BC, store, users)

    user_M, column_M = np.nonzero(rows_BC)
    pairs = pair_features(
        similarity_BC[user_M, column_M], rows_BC[user_M, column_M], user_M, store, users
    )
    by_hand_M = network_by_hand(pairs)
    np.testing.assert_allclose(score_BC[user_M, column_M], by_hand_M, atol=1e-4)
    np.testing.assert_allclose(
        expected_ms_BC[user_M, column_M],
        np.minimum(1_000 * np.exp(by_hand_M.astype(np.float64)), 60_000),
        rtol=1e-3,
    )


def test_padding_is_last_and_expects_nothing(bundled):
    """Row 0 pads short lists, wherever it stands."""
    store, users = store_of(5), users_of(2)
    rows_BC = np.array([[1, 0, 2], [0, 0, 0]])

    expected_ms_BC, score_BC = MlpRanker(bundled).rank(
        np.ones((2, 3), np.float32), rows_BC, store, users
    )

    assert (score_BC == -np.inf).tolist() == [[False, True, False], [True, True, True]]
    assert not expected_ms_BC[rows_BC == 0].any()


def test_the_expected_watch_time_is_at_most_the_duration(bundled):
    """However large the logit; where the length is not known, the contract has a bound."""
    huge = drawn(DIM, seed=1, hidden=(4,))
    huge[-1].bias_O[:] = 80.0
    sure = MlpRanker(bundle.Bundle(bundled.manifest, bundled.snapshot, export(huge)))
    store, users = store_of(1), users_of(1)
    unknown = msgspec.structs.replace(item_vector("x", [1.0] * DIM), features=RankingFeatures())
    store.put(unknown)

    expected_ms_BC, score_BC = sure.rank(
        np.zeros((1, 2), np.float32), np.array([[1, 2]]), store, users
    )

    assert expected_ms_BC[0].tolist() == pytest.approx([60_000, MAX_DURATION_MS])
    assert np.isfinite(score_BC).all()


def test_the_file_passes_the_check_that_every_bundle_passes():
    """Nothing in it but matrices, their products and ReLU."""
    onnx_check.check(MODEL, export(drawn(DIM, seed=3))[MODEL])


def test_serving_ranks_by_the_network_of_a_bundle_that_has_one(bundled):
    """One without the file is ranked by the sum of logarithms."""
    assert isinstance(load(bundled, collection_prefix="p").ranker, MlpRanker)


@pytest.mark.parametrize(
    ("golden", "told"),
    [
        ({}, "no features of width 80"),
        ({INPUT: np.zeros((2, 79), np.float32), OUTPUT: np.zeros((2, 1))}, "width 80"),
        ({INPUT: np.zeros((2, 80), np.float32), OUTPUT: np.ones((2, 1))}, "reproduce"),
        ({INPUT: np.zeros((2, 80), np.float32), OUTPUT: np.ones((3, 1))}, "another shape"),
    ],
)
def test_a_network_that_computes_something_else_here_is_refused(bundled, golden, told):
    """The old bundle then stays in service."""
    golden = {name: np.asarray(array, np.float32) for name, array in golden.items()}
    files = export(LAYERS) | {GOLDEN: safetensors.numpy.save(golden)}

    with pytest.raises(BundleError, match=told):
        MlpRanker(bundle.Bundle(bundled.manifest, bundled.snapshot, files))


def test_a_network_of_another_width_is_refused(bundled):
    """Its golden inputs have the right width, and it does not take them."""
    files = {**export(drawn(8, seed=1)), GOLDEN: export(LAYERS)[GOLDEN]}

    with pytest.raises(BundleError, match="does not take its golden inputs"):
        MlpRanker(bundle.Bundle(bundled.manifest, bundled.snapshot, files))
