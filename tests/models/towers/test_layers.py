"""Content vectors and their gradients, against torch's own."""

import numpy as np
import pytest
import torch

from models.features.features import ContentBatch
from models.towers.layers import content_vectors


@pytest.mark.parametrize("num_rows", [50, 70_000])
def test_content_vectors_have_the_gradients_of_torch(num_rows):
    """Rows that nobody has get none; rows of 16 bits and larger ones are sorted differently."""
    rng = np.random.Generator(np.random.PCG64(0))
    sizes = np.array([3, 1, 0, 40, 7])
    content = ContentBatch(
        rows_M=rng.integers(1, num_rows, sizes.sum()).astype(np.int32),
        weights_M=rng.random(sizes.sum()).astype(np.float32),
        starts_N=np.cumsum(sizes) - sizes,
        log_duration_N1=np.zeros((5, 1), np.float32),
    )
    weight_HD = torch.from_numpy(rng.normal(size=(num_rows, 4)).astype(np.float32))
    ours, theirs = (weight_HD.clone().requires_grad_() for _ in range(2))
    asked_ND = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))

    vectors_ND = content_vectors(ours, content)
    expected_ND = torch.nn.functional.embedding_bag(
        torch.from_numpy(content.rows_M.astype(np.int64)),
        theirs,
        torch.from_numpy(content.starts_N),
        mode="sum",
        per_sample_weights=torch.from_numpy(content.weights_M),
    )
    (vectors_ND * asked_ND).sum().backward()
    (expected_ND * asked_ND).sum().backward()

    torch.testing.assert_close(vectors_ND, expected_ND)
    torch.testing.assert_close(ours.grad, theirs.grad)
