"""Losses of retrieval, in torch: softmax over a sample of the catalogue, with logQ correction.

A video that is likely to be in the sample would be held down more often than it deserves, so
``log q``, the logarithm of its probability to be in the sample, is subtracted from its logit.
On top, the logit may be given the logarithm of the video's popularity as an *offset*, the one
the ranker will add when serving: the vectors then learn how much likelier *this* user is to
watch a video than anybody is, and the counters keep what they know better. Both corrections
are for training only; retrieval scores are the plain inner products.

Sources:
    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, https://doi.org/10.1145/3298689.3346996
    Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

# Shape legend: B = examples, C = candidate videos: the labels of the batch and a uniform sample,
# each video in one column only, so that no label has its own video as a negative.


def sampled_softmax(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],
    offset_C: Float[Tensor, "C"],
    hit_BC: Bool[Tensor, "B C"],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the columns *label_B*.

    Args:
        logits_BC: similarity / temperature.
        label_B: the column of the video that was watched.
        log_q_C: log-probability of each column's video to be a candidate.
        offset_C: what the ranker adds to the logit of each video.
        hit_BC: accidental hits, columns that are no negatives of a user: what was watched
            before, and is never recommended again. They weigh nothing; the label always counts.
    """
    corrected_BC = logits_BC + (offset_C - log_q_C)
    is_label_BC = torch.zeros_like(hit_BC).scatter(1, label_B[:, None], value=True)
    corrected_BC = corrected_BC.masked_fill(hit_BC & ~is_label_BC, -torch.inf)
    return torch.nn.functional.cross_entropy(corrected_BC, label_B)


def log_inclusion(
    frequency_C: Float[np.ndarray, "C"], *, num_uniform: int, num_videos: int, num_labels: int
) -> Float[np.ndarray, "C"]:
    """Return log q: how likely a video is a candidate, by the uniform draw or as a label.

    *frequency_C* is the streaming estimate of how often each video is a label. When the draw
    takes the whole catalogue q is 1, and the loss is the exact softmax.
    """
    missed_by_draw = 1.0 - min(num_uniform / num_videos, 1.0)
    missed_as_label_C = (1.0 - np.clip(frequency_C, 0.0, 1.0)) ** num_labels
    q_C: np.ndarray = np.maximum(1.0 - missed_by_draw * missed_as_label_C, 1e-12)
    log_q_C: np.ndarray = np.log(q_C)
    return log_q_C
