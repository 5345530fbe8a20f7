"""Trees over drawn videos, for the tests that need one."""

import numpy as np
import torch

from models.tdm.model import TreeModel, list_space
from models.tdm.scorer import TdmConfig
from models.tdm.tree import clustered_leaves, shape_for, tree_of

torch.set_num_threads(1)  # threads spin against each other on shared cores

SMALL = TdmConfig(
    hidden_dim=4, num_negatives=16, calibration_steps=60, calibration_users=16, node_lr=0.02
)


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def unit(vectors):
    """Return float32 rows of norm 1."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def videos(num_videos, dim=8, seed=0):
    """Return output vectors by row; row 0 is of no video."""
    outputs = unit(generator(seed).normal(size=(num_videos + 1, dim)))
    outputs[0] = 0.0
    return outputs


def users(num_users, dim=8, seed=1):
    """Return user vectors that lean to one side, as those of people who like what is popular."""
    leaning = generator(seed).normal(size=(num_users, dim)) + np.eye(1, dim)
    return unit(leaning)


def model_of(outputs, user_vectors, config=SMALL, *, gain=5.0, seed=0):
    """Return a clustered tree of every video in *outputs*, refreshed and uncalibrated."""
    num_videos = len(outputs) - 1
    shape = shape_for(num_videos)
    model = TreeModel(config, outputs.shape[1], gain=gain, seed=seed)
    points = list_space(outputs[1:], user_vectors, config, generator(seed), gain=max(gain, 5.0))
    leaves = clustered_leaves(points, shape.depth, generator(seed))
    model.set_tree(tree_of(np.arange(1, num_videos + 1), leaves, shape.depth), shape)
    model.refresh(outputs, user_vectors.mean(axis=0))
    return model
