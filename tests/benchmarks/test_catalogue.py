"""The made-up catalogue is a real bundle and a real collection, and the floor answers from them."""

import numpy as np
import pytest

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import open_catalogue
from benchmarks.serving.lower_bound import NUM_RECOMMENDED, LowerBound
from models.serving.trained_ranker import TrainedRanker
from tests.support.builders import T0


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return open_catalogue(tmp_path_factory.mktemp("bench"), 1_000)


@pytest.fixture(scope="module")
def floor(catalogue, tmp_path_factory):
    floor = LowerBound(catalogue, tmp_path_factory.mktemp("index"))
    yield floor
    floor.shard.close()


def test_the_floor_answers_each_user_with_the_best_of_its_own_candidates(catalogue, floor):
    """Twenty different videos for everybody, ranked by the network of the bundle."""
    windows = [window for _, window in ServingAudience(catalogue, 500, T0).windows(range(16))]

    rows_BK = floor.answer(windows)

    assert isinstance(floor.serving.ranker, TrainedRanker)
    assert rows_BK.shape == (16, NUM_RECOMMENDED)
    assert all(len(set(rows)) == NUM_RECOMMENDED and 0 not in rows for rows in rows_BK.tolist())


def test_the_index_holds_the_vectors_of_the_bundle(floor):
    """The nearest point to the vector of a video is that video."""
    vectors_BD = floor.serving.items.outputs_ND[[7, 500]]

    nearest = [floor.row_of[hits[0].id] for hits in floor.search(vectors_BD)]

    assert nearest == [7, 500]


def test_a_catalogue_is_made_once(catalogue):
    """The second to ask gets what the first one made."""
    made_ns = catalogue.directory.stat().st_mtime_ns

    again = open_catalogue(catalogue.directory.parent, 1_000)

    assert again.directory.stat().st_mtime_ns == made_ns
    assert again.manifest_sha256 == catalogue.manifest_sha256


def test_vectors_lie_around_their_centres(floor):
    """Two videos of one centre are nearer to each other than two of different ones."""
    outputs_ND = floor.serving.items.outputs_ND[1:]

    of_one = np.sum(outputs_ND[:500] * outputs_ND[500:], axis=1)
    of_two = np.sum(outputs_ND[:499] * outputs_ND[1:500], axis=1)

    assert of_one.mean() > 0.5 > abs(of_two.mean())
