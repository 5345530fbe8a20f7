"""The learner with a tree on top: a leaf for every video, at once, and still after a restart."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from models.bundle import bundle as bundles
from models.features.examples import Example
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from models.tdm.index import TreeIndex
from models.tdm.scorer import TdmConfig
from models.training.sequence_training import Recipe
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL, TASTES, catalogue, write
from trainer.learn import registry
from trainer.learn.histories import PastWatches
from trainer.learn.learner import Learner
from trainer.learn.tdm_learner import NOT_FOUND, TdmLearner

QUICK = TdmConfig(
    hidden_dim=4,
    num_negatives=8,
    num_kept=128,
    rebuild_examples=64,
    calibration_steps=5,
    calibration_users=8,
    lr=0.01,
)


def learner_of(uploads, tdm=QUICK):
    learner = TdmLearner(SMALL, seed=0, tdm=tdm)
    for one in uploads:
        learner.upload(one)
    return learner


def example(*watched, label, user_id="u", at_ms=100):
    events = [watch(video_id, at_ms=n) for n, video_id in enumerate(watched)]
    return Example(user_id, fold(EMPTY, events, WindowPolicy()), label, T0 + at_ms)


def pairs(count, *, seed=0):
    """Return examples of a pattern: who watched one of a taste watches another one of it."""
    rng, tastes = np.random.Generator(np.random.PCG64(seed)), list(TASTES)
    examples = []
    for n in range(count):
        taste = tastes[rng.integers(4)]
        first, label = rng.choice(10, 2, replace=False)
        made = example(f"{taste}{first}", label=f"{taste}{label}", user_id=f"u{n}", at_ms=100 + n)
        examples.append(made)
    return examples


@pytest.fixture(scope="module")
def trained():
    """Return a learner of 40 videos of four tastes, its tree made anew by what it learned."""
    learner = learner_of(catalogue(10))
    for n in range(0, 128, 16):
        learner.learn(learner.encode(pairs(128)[n : n + 16]))
    learner.freeze(1)
    return learner


def rows_of(learner, found):
    return learner.tree.tree.row_L[found.leaf_BK]


def test_every_video_has_a_leaf_before_anything_is_learned():
    """By category: nobody knows yet who watches what."""
    learner = learner_of(catalogue(10))

    found, scores = learner.search([example("cooking1", label="cooking2")])

    assert np.isfinite(scores).all()
    assert len(learner.tree.tree) == 40
    assert found.num_scored_B[0] > 0


def test_the_first_tree_is_ordered_by_category():
    """Eight of ten leaves beside each other are of one category."""
    learner = learner_of(catalogue(10))
    learner.freeze(1)

    rows = [row for row in learner.tree.tree.row_L.tolist() if row]
    tastes = [learner.video_ids[row - 1].rstrip("0123456789") for row in rows]
    assert sum(a != b for a, b in pairwise(tastes)) == 3


def test_a_beam_finds_the_taste_that_was_learned(trained):
    """The best found are mostly of the taste that was watched."""
    unseen = pairs(32, seed=5)

    found, _ = trained.search(unseen)

    best = rows_of(trained, found)[:, :5]
    right = [
        [trained.video_ids[row - 1][:4] == one.video_id[:4] for row in mine]
        for mine, one in zip(best, unseen, strict=True)
    ]
    assert np.mean(right) > 0.7


def test_exhaustive_scores_are_those_of_the_leaves(trained):
    """Column n belongs to ``video_ids[n]``."""
    found, scores = trained.search(pairs(4))

    columns = rows_of(trained, found) - 1
    there = columns >= 0
    at_columns = np.take_along_axis(scores, np.maximum(columns, 0), axis=1)
    assert found.score_BK[there] == pytest.approx(at_columns[there], abs=1e-4)


def test_the_bundle_serves_what_the_learner_finds(trained, tmp_path):
    """User tower, vectors and tree in one bundle, read by the serving half alone."""
    examples = pairs(8, seed=7)
    expected, _ = trained.search(examples)

    loaded = bundles.load(write(trained, tmp_path)[0])
    items = ItemStore(loaded.manifest.input_dim, loaded.manifest.output_dim)
    items.put_many(loaded.snapshot)
    windows = [one.window for one in examples]
    newest_ms = [window.newest_ms for window in windows]
    vectors = UserEncoder(loaded).encode(windows, items, newest_ms)
    seen = [items.rows(window.video_ids) for window in windows]
    found = TreeIndex(loaded, items).search(vectors, items, seen)

    assert loaded.manifest.model == "tdm"
    assert found.score_BK == pytest.approx(expected.score_BK, abs=1e-3)


def test_a_new_upload_has_a_leaf_at_the_next_look():
    """More of them than there is room for make the tree anew."""
    learner = learner_of(catalogue(10))
    learner.freeze(1)
    depth = learner.tree.tree.depth

    for n in range(30):
        learner.upload(upload(f"new{n}", category="cooking"))
    _, scores = learner.search([example("cooking1", label="cooking2")])

    assert np.isfinite(scores).all()
    assert learner.tree.tree.depth == depth + 1


def test_a_video_taken_down_is_neither_found_nor_learned():
    """Its leaf is free, and a watch of it is no example."""
    learner = learner_of(catalogue(10))
    learner.freeze(1)

    learner.remove("cooking3")
    learner.learn(learner.encode([example("cooking1", label="cooking3")]))
    found, scores = learner.search([example("cooking1", label="cooking2")])

    gone = learner.video_ids.index("cooking3")
    assert scores[0, gone] == -np.inf
    assert gone + 1 not in rows_of(learner, found)


def test_the_vectors_of_an_erased_user_are_dropped():
    """Those of the others stay in their order."""
    learner = learner_of(catalogue(10))
    learner.learn(
        learner.encode(
            [example("cooking1", label="cooking2", user_id=user) for user in ("a", "b", "a", "c")]
        )
    )

    learner.forget("a")

    assert learner.state()[1]["tree"]["user_ids"] == ["b", "c"]
    assert len(learner.state()[0]["tree_users_KD"]) == 2


def test_the_state_is_restored_exactly(trained):
    """The same searches and the same further learning, as if nothing had happened."""
    arrays, meta = trained.state()
    twins = [TdmLearner(SMALL, seed=seed, tdm=QUICK) for seed in (1, 2)]
    for twin in twins:
        twin.load_state(arrays, meta)
        twin.learn(twin.encode(pairs(16, seed=3)))
        twin.freeze(2)
        twin.rebuild()

    (one, one_scores), (other, other_scores) = (twin.search(pairs(8)) for twin in twins)
    assert (one_scores == other_scores).all()
    assert (one.leaf_BK == other.leaf_BK).all()


def test_a_state_of_0_2_with_categories_is_read(trained):
    """They were saved a second time beside the uploads; those of the uploads count."""
    arrays, meta = trained.state()
    meta["tree"] = meta["tree"] | {"categories": ["" for _ in trained.video_ids]}
    resumed = TdmLearner(SMALL, seed=2, tdm=QUICK)

    resumed.load_state(arrays, meta)

    rows = np.arange(1, len(trained.video_ids) + 1)
    assert resumed.vocabulary.categories(rows) == [one.category for one in catalogue(10)]


def test_histories_leave_a_tree_that_knows_its_users():
    """The next generation has a tree by what they are like, not one by category."""
    learner = learner_of(catalogue(10))
    tastes = list(TASTES)
    past = [
        PastWatches(f"u{n}", [f"{tastes[n % 4]}{(n + step) % 10}" for step in range(5)], [True] * 5)
        for n in range(80)
    ]

    learner.learn_histories(past, Recipe(num_epochs=1, batch_size=8), span_ms=1_000)

    users_KD, ids = learner.state()[0]["tree_users_KD"], learner.state()[1]["tree"]["user_ids"]
    assert len(users_KD) == 80
    assert ids == [f"u{n}" for n in range(80)]
    assert np.linalg.norm(users_KD, axis=1) == pytest.approx(1.0, abs=1e-4)
    learner.freeze(1)
    assert any(node.any() for node in learner.tree._learned.values())


def test_the_trainer_knows_it_by_name():
    """All other models have the learner of towers."""
    tdm, dssm = (
        registry.learner(name, registry.config_of(name), seed=0) for name in ("tdm", "dssm")
    )

    assert (type(tdm), type(dssm)) == (TdmLearner, Learner)
    assert (tdm.config.model, dssm.config.model) == ("youtube_dnn", "dssm")


def test_refuses_a_model_that_there_is_not():
    """With those that there are."""
    with pytest.raises(ValueError, match=r"unknown model 'tmd'; known: .*tdm"):
        registry.config_of("tmd")


def test_refuses_the_settings_of_another_tower():
    """A tree is built on what it says it is built on."""
    with pytest.raises(ValueError, match="tdm is built on youtube_dnn, got settings of dssm"):
        registry.learner("tdm", registry.config_of("dssm"), seed=0)


def test_similarity_is_of_what_the_tree_finds(trained):
    """What validation judges is what is served: all else is below any cosine."""
    examples = pairs(6, seed=5)
    encoded = trained.encode(examples)

    similarity_BN = trained.similarity(encoded)

    found, _ = trained.search(examples)
    plain_BN = Learner.similarity(trained, encoded)
    for similarity_N, plain_N, rows in zip(
        similarity_BN, plain_BN, rows_of(trained, found), strict=True
    ):
        is_found_N = np.isin(np.arange(1, len(trained.video_ids) + 1), rows)
        assert 0 < is_found_N.sum() < len(is_found_N)
        np.testing.assert_array_equal(similarity_N[is_found_N], plain_N[is_found_N])
        assert (similarity_N[~is_found_N] == NOT_FOUND).all()


def test_a_catalogue_without_any_video_has_an_empty_tree():
    """All of them taken down is no reason to stop, and what comes next has its leaf."""
    learner = learner_of(catalogue(num_of_each=10))
    for first in range(0, 160, 16):
        learner.learn(learner.encode(pairs(160)[first : first + 16]))
    for video_id in list(learner.video_ids):
        learner.remove(video_id)

    learner.rebuild()
    learner.freeze(1)

    assert len(learner.tree.tree) == 0
    learner.upload(upload("newcomer"))
    learner.freeze(2)
    assert learner.tree.tree.leaf(learner.vocabulary.row("newcomer")) is not None


def test_a_row_that_is_given_again_has_left_its_leaf():
    """The newcomer gets a leaf of its own."""
    learner = TdmLearner(dataclasses.replace(SMALL, max_videos=20), seed=0, tdm=QUICK)
    for one in catalogue():
        learner.upload(one)
    learner.freeze(1)

    learner.upload(upload("newcomer"))
    row = learner.vocabulary.row("newcomer")

    assert learner.tree.tree.leaf(row) is None
    learner.freeze(2)
    assert learner.tree.tree.leaf(row) is not None
