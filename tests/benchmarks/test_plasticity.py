"""A trainer that never ends has to learn the tenth pattern as well as the first."""

from dataclasses import replace

from benchmarks.learning.plasticity import run_planted
from models.training.config import TowerConfig

QUICK = TowerConfig(dim=16, hidden_dim=16, content_buckets=256, num_negatives=16)


def kept(config):
    first, *_, last = run_planted(config, num_passes=8, seed=0, num_videos=40, num_batches=16)
    return last / first


def test_the_eighth_pattern_is_learned_nearly_as_well_as_the_first():
    """With sums that only grow it is not."""
    decaying, growing = (
        kept(QUICK),
        kept(replace(QUICK, id_moment_decay=1.0, content_moment_decay=1.0)),
    )

    assert decaying > 0.8
    assert growing < 0.75
