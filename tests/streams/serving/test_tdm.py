"""A bundle with a tree: candidates of the source ``tdm``, with an index or without."""

import msgspec
import numpy as np
import pytest

from contract.errors import BundleError
from contract.wire.events import Origin
from models.bundle import bundle as bundles
from models.tdm.index import SCORER
from models.tdm.scorer import TdmConfig
from streams.serving import generation as serving_module
from tests.streams.serving.test_recommend import World
from tests.support.builders import item_vector
from tests.support.bundles import SMALL, catalogue, write
from trainer.learn.tdm_learner import TdmLearner


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return a bundle with a tree over forty videos."""
    learner = TdmLearner(SMALL, seed=0, tdm=TdmConfig(hidden_dim=4))
    for one in catalogue(10):
        learner.upload(one)
    learner.freeze(1)
    return bundles.load(write(learner, tmp_path_factory.mktemp("bundles"))[0])


def served(bundle):
    return serving_module.load(bundle, collection_prefix="nextwatch-g")


def test_candidates_come_from_the_tree(bundle):
    """The index is not even asked."""
    world = World("cooking1", current=served(bundle))

    answer = world.recommend("cooking1", "cooking2")

    assert [item.source for item in answer.items] == ["tdm"] * 3
    assert answer.degraded == []
    assert world.index.num_asked == 0


def test_an_unavailable_index_changes_nothing_for_a_tree(bundle):
    """No answer is degraded."""
    world = World(current=served(bundle))
    world.index.is_away = True

    answer = world.recommend("cooking1")

    assert {item.source for item in answer.items} == {"tdm"}
    assert answer.degraded == []


def test_what_was_watched_is_left_out(bundle):
    """As with any source."""
    watched = [f"cooking{n}" for n in range(4)]

    listed = World(current=served(bundle)).listed(*watched)

    assert len(listed) == 3
    assert not set(listed) & set(watched)


def test_what_is_trending_is_a_source_beside_it(bundle):
    """Told apart as ever."""
    world = World(current=served(bundle), num_trending=8)

    sources = {item.source for item in world.recommend("cooking1").items}

    assert sources <= {"tdm", "trending"}


def test_a_new_video_is_found_by_its_content_at_once(bundle):
    """Its vectors come by `item-vectors`; the tree gives it a leaf."""
    current = served(bundle)
    vectors = bundle.snapshot
    like = vectors.video_ids.index("cooking1")
    user = vectors.output_ND[like][None]

    newcomer = item_vector("new", user[0].tolist(), origin=Origin.CONTENT)
    current.put(msgspec.structs.replace(newcomer, input_vector=vectors.input_ND[like].tolist()))

    row = current.items.row("new")
    assert row in current.tree.nearest(user, current.items, 40)[0]


def test_a_video_taken_down_is_no_longer_found(bundle):
    """And its row may go to another video, which gets a leaf of its own."""
    current = served(bundle)
    row = current.items.row("cooking1")
    user = current.items.outputs_ND[row][None].copy()

    current.remove("cooking1")
    current.remove("never there")

    assert row not in current.tree.nearest(user, current.items, 100)[0]


def test_a_tree_that_does_not_fit_is_refused_with_its_bundle(bundle):
    """The worker keeps the generation that it has."""
    files = {**bundle.files, SCORER: bundle.files["user_tower.onnx"]}

    with pytest.raises(BundleError, match="scorer"):
        served(bundles.Bundle(bundle.manifest, bundle.snapshot, files))


def test_a_broken_user_vector_still_gets_an_answer(bundle):
    """Zeros are searched for like anything else."""
    current = served(bundle)
    zeros = np.zeros((1, bundle.manifest.output_dim), np.float32)

    assert len(current.tree.nearest(zeros, current.items, 10)[0]) == 10
