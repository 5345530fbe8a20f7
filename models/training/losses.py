"""Compute losses of retrieval: the watched video against a sample of the catalogue (torch).

A video that is likely to be in the sample would be held down more often than it deserves, so
``log q``, the logarithm of how often it is expected there, is subtracted from its logit (the
importance or logQ correction). It is for training only: retrieval scores are the plain inner
products.

`LOSSES` is the table of those that read nothing but logits and corrections. The hierarchical
softmax has parameters besides: models/training/hierarchical_softmax.py.

Sources:
    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, https://doi.org/10.1145/3298689.3346996
    Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015
    Gutmann, Hyvarinen, Noise-Contrastive Estimation, AISTATS 2010; Mnih, Teh, A Fast and Simple
    Algorithm for Training Neural Probabilistic Language Models, ICML 2012
    Hidasi, Karatzoglou, Recurrent Neural Networks with Top-k Gains for Session-based
    Recommendations, CIKM 2018, https://doi.org/10.1145/3269206.3271761
    Petrov, Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
    Negative Sampling, RecSys 2023, https://doi.org/10.1145/3604915.3608783
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, logsigmoid, softplus

from models.training.config import TowerConfig

# Shape legend: B = examples, C = candidate videos: the labels of the batch and a draw of the
# catalogue, each video in one column only, so that no label has its own video as a negative.

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Takes what `sampled_softmax` takes, in its order, and returns the mean over the examples."""


def sampled_softmax(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],
    hit_BC: Bool[Tensor, "B C"],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the columns *label_B*.

    With a draw of the whole catalogue (q = 1) it is the softmax itself; with the labels of the
    batch alone, Yi's in-batch softmax; with a draw by frequency^alpha, GRU4Rec's cross-entropy.

    Args:
        logits_BC: similarity / temperature.
        label_B: the column of the video that was watched.
        log_q_C: logarithm of how often each column's video is expected among the candidates.
        hit_BC: accidental hits, columns that are no negatives of a user: what was watched
            before, and is never recommended again. They weigh nothing; the label always counts.
    """
    corrected_BC = logits_BC - log_q_C
    excluded_BC = hit_BC & ~_is_label(label_B, hit_BC)
    return cross_entropy(corrected_BC.masked_fill(excluded_BC, -torch.inf), label_B)


def plain_softmax(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],
    hit_BC: Bool[Tensor, "B C"],
) -> Float[Tensor, ""]:
    """Return `sampled_softmax` without its correction: what an ablation switches off."""
    return sampled_softmax(logits_BC, label_B, torch.zeros_like(log_q_C), hit_BC)


def nce(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],
    hit_BC: Bool[Tensor, "B C"],
) -> Float[Tensor, ""]:
    """Return the noise-contrastive loss: logistic losses of ``logit - log(k q)``.

    Summed over the columns, mean over the examples. *log_q_C* has k in it already. The logits
    have to be log-probabilities, as far as they go: see `self_normalised`.
    """
    odds_BC = logits_BC - log_q_C
    is_label_BC = _is_label(label_B, hit_BC)
    loss_BC = softplus(torch.where(is_label_BC, -odds_BC, odds_BC))
    return loss_BC.masked_fill(hit_BC & ~is_label_BC, 0.0).sum(dim=1).mean()


def gbce(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],
    hit_BC: Bool[Tensor, "B C"],
    *,
    calibration: float = 0.75,
) -> Float[Tensor, ""]:
    """Return gSASRec's loss: cross-entropy with the label's probability to the power of beta.

    Sampled negatives alone make a model overconfident; ``beta = a (t (1 - 1/a) + 1/a)`` with the
    sampling rate a undoes it: at *calibration* t = 0 this is the plain binary cross-entropy, at 1
    the sigmoid of a logit is the probability of a watch. Negatives are taken for a uniform draw,
    of which q only tells the rate. The sum is over label and negatives, divided by their number.
    """
    is_label_BC = _is_label(label_B, hit_BC)
    beta = 1.0 - calibration * (1.0 - sampling_rate(log_q_C))
    positive_B = -beta * logsigmoid(logits_BC.gather(1, label_B[:, None]).squeeze(1))
    excluded_BC = hit_BC | is_label_BC
    negative_B = softplus(logits_BC).masked_fill(excluded_BC, 0.0).sum(dim=1)
    return ((positive_B + negative_B) / (1 + (~excluded_BC).sum(dim=1))).mean()


def sampling_rate(log_q_C: Float[Tensor, "C"]) -> Float[Tensor, ""]:
    """Return which share of the catalogue the columns are: the harmonic mean of q.

    One column stands for 1 / q videos (Horvitz and Thompson 1952), so the catalogue has about
    the sum of these.
    """
    return len(log_q_C) / torch.exp(-log_q_C).sum()


def bpr_max(
    logits_BC: Float[Tensor, "B C"],
    label_B: Integer[Tensor, "B"],
    log_q_C: Float[Tensor, "C"],  # noqa: ARG001 - every loss of the table takes the same
    hit_BC: Bool[Tensor, "B C"],
    *,
    regularisation: float = 0.01,
) -> Float[Tensor, ""]:
    """Return GRU4Rec's pairwise loss: the label against the best of the negatives, softly.

    ``-log sum_j s_j sigmoid(r_label - r_j) + regularisation * sum_j s_j r_j^2``, s being the
    softmax over the negatives alone. An example without negatives has nothing to learn from.
    """
    excluded_BC = hit_BC | _is_label(label_B, hit_BC)
    # not -inf: a row of nothing else has no softmax, and its gradient would be no number
    negative_BC = logits_BC.masked_fill(excluded_BC, torch.finfo(logits_BC.dtype).min / 2)
    weight_BC = log_softmax(negative_BC, dim=1)
    is_won_BC = logsigmoid(logits_BC.gather(1, label_B[:, None]) - logits_BC)
    pairs_BC = (weight_BC + is_won_BC).masked_fill(
        excluded_BC, torch.finfo(logits_BC.dtype).min / 2
    )
    size_B = (weight_BC.exp() * logits_BC.square()).masked_fill(excluded_BC, 0.0).sum(dim=1)
    loss_B = regularisation * size_B - torch.logsumexp(pairs_BC, dim=1)
    return loss_B.masked_fill(excluded_BC.all(dim=1), 0.0).mean()


def self_normalised(loss: Loss) -> Loss:
    """Return *loss* on logits minus the logarithm of their sum over the catalogue.

    Losses of one video at a time take a logit for a log-probability. Inner products of unit
    vectors are bounded and cannot become one, so the normalising constant, which Gutmann and
    Hyvarinen learn, is estimated from the sample: one for the batch, without a gradient. The
    label of an example is in its sample for certain, so it counts once, the others 1 / q times.
    """

    def normalised(logits_BC: Tensor, label_B: Tensor, log_q_C: Tensor, hit_BC: Tensor) -> Tensor:
        certain_BC = logits_BC.detach()
        weighed_BC = torch.where(_is_label(label_B, hit_BC), certain_BC, certain_BC - log_q_C)
        log_z_B = torch.logsumexp(weighed_BC, dim=1)
        return loss(logits_BC - log_z_B.mean(), label_B, log_q_C, hit_BC)

    return normalised


def _is_label(label_B: Tensor, like_BC: Tensor) -> Tensor:
    return torch.zeros_like(like_BC).scatter(1, label_B[:, None], value=True)


LOSSES: dict[str, Callable[[TowerConfig], Loss]] = {
    "sampled_softmax": lambda c: sampled_softmax if c.is_importance_corrected else plain_softmax,
    "nce": lambda _: self_normalised(nce),
    "gbce": lambda _: self_normalised(gbce),
    "bpr_max": lambda _: bpr_max,
}


HIERARCHICAL = "hierarchical_softmax"
"""The name of the one loss with parameters of its own."""


def loss_of(config: TowerConfig) -> Loss:
    """Return the loss that *config* names.

    Raises:
        ValueError: there is no such loss in the table.
    """
    if config.loss not in LOSSES:
        known = ", ".join(sorted([*LOSSES, HIERARCHICAL]))
        raise ValueError(f"unknown loss {config.loss!r}; known: {known}")
    return LOSSES[config.loss](config)
