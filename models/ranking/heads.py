"""Define what a ranker predicts: whether a shown video is watched, and for how long.

Every ranker has three outputs in common: the logits of *watched* and of *completed*, and the median
watch time, which is what an absolute error asks for. The expected watch time comes of one of two
heads:

*weighted_logistic* is the paper's. Positives weigh their watch time T, negatives one, so that the
learned odds are ``sum(T of positives) / number of negatives``, which is ``E[T] / (1 - p)`` for the
share p of positives. The paper takes p as small and serves ``e^logit``; where p is not small,
``E[T] = e^logit * (1 - p)``. `uncorrected_s` is the paper's. The logit is learned as the sum of
that of *watched* and of an output t of its own: then ``E[T] = p * e^t``, and two outputs that are
both sure cannot be at odds.

*distribution* gives the probability of each of `NUM_BINS` ranges of watch time. The expected value
is the sum of their means, which are learned as averages.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4.2,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
    Sun et al., CREAD: A Classification-Restoration Framework with Error Adaptive Discretization for
    Watch Time Prediction in Video Recommender Systems, AAAI 2024,
    https://doi.org/10.1609/aaai.v38i8.28752
"""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

# Shape legend: M = candidates, O = outputs, Q = ranges of watch time.

WATCHED, COMPLETED, MEDIAN, FIRST_OF_TIME = range(4)
NUM_BINS = 24
SCALE_S = 20.0
"""Watch times are learned in units of about their mean."""
_MAX_LOGIT = 12.0


def num_outputs(watch_head: str) -> int:
    """Return how many outputs a network with *watch_head* has."""
    return FIRST_OF_TIME + (NUM_BINS if watch_head == "distribution" else 1)


def edges_s(max_watch_s: float) -> Float32[np.ndarray, "Q"]:
    """Return where ranges of watch time begin: evenly on a scale of logarithms from 0 s on."""
    edges: np.ndarray = np.expm1(np.linspace(0.0, np.log1p(max_watch_s), NUM_BINS + 1))[:-1]
    return edges.astype(np.float32)


def loss(
    outputs_MO: Tensor,
    is_watched_M: Tensor,
    is_completed_M: Tensor,
    watch_s_M: Tensor,
    *,
    watch_head: str,
    max_watch_s: float,
    is_weighted: bool = True,
) -> Tensor:
    """Return the loss of each candidate."""
    watched_M, completed_M = is_watched_M.float(), is_completed_M.float()
    watch_s_M = watch_s_M.clamp(0.0, max_watch_s)
    total_M = binary_cross_entropy_with_logits(outputs_MO[:, WATCHED], watched_M, reduction="none")
    total_M = total_M + 0.5 * binary_cross_entropy_with_logits(
        outputs_MO[:, COMPLETED], completed_M, reduction="none"
    )
    median_M = softplus(outputs_MO[:, MEDIAN]) * SCALE_S
    total_M = total_M + 0.5 * (median_M - watch_s_M).abs() / SCALE_S
    if watch_head == "distribution":
        bin_M = torch.bucketize(watch_s_M, torch.from_numpy(edges_s(max_watch_s)), right=True) - 1
        return total_M + 0.5 * cross_entropy(
            outputs_MO[:, FIRST_OF_TIME:], bin_M.clamp(0, NUM_BINS - 1), reduction="none"
        )
    weight_M = watch_s_M / SCALE_S if is_weighted else torch.ones_like(watch_s_M)
    weight_M = torch.where(is_watched_M, weight_M, torch.ones_like(weight_M))
    odds_M = binary_cross_entropy_with_logits(
        outputs_MO[:, WATCHED].detach() + outputs_MO[:, FIRST_OF_TIME],
        watched_M,
        weight=weight_M,
        reduction="none",
    )
    return total_M + 0.5 * odds_M


def p_watched(outputs_MO: Tensor) -> Tensor:
    """Return the probability that a shown video is watched.

    Written out: ONNX Runtime's own sigmoid is off by 1e-7, which is 2 % of 5e-6, and the expected
    watch time multiplies it by up to e^12.
    """
    inverse_odds_M = torch.exp(-outputs_MO[:, WATCHED])
    p_M: Tensor = torch.ones_like(inverse_odds_M) / (1.0 + inverse_odds_M)
    return p_M


def expected_s(outputs_MO: Tensor, bin_means_Q: Tensor, *, watch_head: str) -> Tensor:
    """Return the expected watch time of a shown video in seconds, before it is calibrated."""
    if watch_head == "distribution":
        return (torch.softmax(outputs_MO[:, FIRST_OF_TIME:], dim=1) * bin_means_Q).sum(1)
    time_M = outputs_MO[:, FIRST_OF_TIME].clamp(max=_MAX_LOGIT)
    return SCALE_S * p_watched(outputs_MO) * torch.exp(time_M)


def uncorrected_s(outputs_MO: Tensor) -> Tensor:
    """Return the paper's expected watch time, which takes watches as rare."""
    logit_M = outputs_MO[:, WATCHED] + outputs_MO[:, FIRST_OF_TIME]
    return SCALE_S * torch.exp(logit_M.clamp(max=_MAX_LOGIT))


def median_s(outputs_MO: Tensor) -> Tensor:
    """Return the median watch time of a shown video in seconds."""
    return softplus(outputs_MO[:, MEDIAN]) * SCALE_S
