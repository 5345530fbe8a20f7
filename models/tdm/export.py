"""Export a TDM tree as files of a bundle (torch; training only)."""

from collections.abc import Sequence

import msgspec
import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from models.bundle.export import compare, exported, golden
from models.tdm.index import FORM, GOLDEN, SCORER, TREE, Form
from models.tdm.model import TreeModel

_SHAPES = ((1, 1), (3, 32), (2, 7))
"""Pairs of (users, nodes of each) on which ONNX has to equal torch."""


def export(model: TreeModel, rows: Sequence[int]) -> dict[str, bytes]:
    """Return the files of *model*, by name; *rows* are the videos of the snapshot, in its order.

    Raises:
        BundleError: ONNX Runtime computes something else than torch.
    """
    dim = model.parents_nD.shape[1]
    axes = {"user": {0: "B"}, "node": {0: "B", 1: "M"}, "logit": {0: "B", 1: "M"}}
    scorer = exported(model.scorer, _inputs(dim, 2, 3), ["user", "node"], ["logit"], axes)
    for num_users, num_nodes in _SHAPES:
        user_BD, node_BME = _inputs(dim, num_users, num_nodes)
        compare(scorer, model.scorer, {"user": user_BD, "node": node_BME}, ["logit"])
    arrays = {f"nodes_{level}": model.nodes[level].numpy() for level in model.shape.inner}
    arrays |= {"leaf_N": model.tree.leaves(rows), "parents": model.parents_nD}
    form = Form(shape=model.shape, blend=model.config.blend)
    return {
        SCORER: scorer,
        GOLDEN: golden(
            model.scorer, dict(zip(("user", "node"), _inputs(dim, 4, 5), strict=True)), "logit"
        ),
        TREE: safetensors.numpy.save({n: np.ascontiguousarray(a) for n, a in arrays.items()}),
        FORM: msgspec.json.encode(form),
    }


def _inputs(dim: int, num_users: int, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Return drawn users and nodes, vectors about of unit norm as the real ones are."""
    rng = torch.Generator().manual_seed(num_users * 1_000 + num_nodes)
    user_BD = torch.randn(num_users, dim, generator=rng) / dim**0.5
    return user_BD, torch.randn(num_users, num_nodes, dim + 1, generator=rng) / dim**0.5
