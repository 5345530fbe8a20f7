"""Train a model on whole histories, before there is a stream (torch; training only).

A log without times is a set of sequences. Every watch in one is a training example, and a
tower that has `positions` gives the users of all of them in one pass. Read `SequenceTraining`:
`epoch` is the loop, `_loss` what is learned. The model it is given learns in place, embedding
tables included, and goes on in streaming from there.

The label of a position is the next watch, where that was completed; the negatives are one
draw for the whole batch, by popularity to the power of *negative_alpha*, with the logQ
correction; a draw of the whole catalogue makes it the exact softmax.

Ages of watches are left at zero, the example age too: a history without times has neither.

Sources:
    Kang, McAuley, Self-Attentive Sequential Recommendation, ICDM 2018 (all positions at once)
    Hidasi, Karatzoglou, Recurrent Neural Networks with Top-k Gains, CIKM 2018 (sampling by
    popularity to a power, section 3.1)
    Klenitskiy, Vasilev, Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?,
    RecSys 2023, https://arxiv.org/abs/2309.07602 (softmax over thousands of negatives)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor, nn

from models.features.features import MAX_WATCHES, WATCH_FEATURES
from models.features.vocabulary import Vocabulary
from models.serving.live_signals import NUM_SIGNALS
from models.towers.layers import content_vectors, unit
from models.training import cooccurrence
from models.training.sequence_batches import SequenceBatch, WatchSequence, batches, cut
from models.training.two_tower import TwoTowerModel

# Shape legend: T = watches, B = slices of histories, N = videos, V = rows, which are one more,
# D = width of a vector, F = features of a watch, E = labels of a batch, S = negatives.


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn from histories; the defaults suit thousands of videos and minutes of a core.

    Args:
        num_epochs: passes over the histories, over which the learning rate falls to nothing.
        batch_size: slices of histories in a step.
        slice_length: watches in a slice; cuts lie elsewhere in every epoch.
        max_slices: of one user in an epoch, by lot, so that few heavy watchers do not own the
            loss (Covington et al. 2016, section 3.4); None takes all.
        num_negatives: videos that a label is told from; all, if there are not more.
        unfinished_share: of the watches that were not completed, how many are labels as well. To
            be watched at all says something where somebody chose what is shown.
        dropout: of the entries of watched vectors.
        is_warm_started: whether id embeddings start from `models.training.cooccurrence`.
    """

    num_epochs: int = 20
    batch_size: int = 64
    slice_length: int = MAX_WATCHES
    max_slices: int | None = None
    num_negatives: int = 512
    unfinished_share: float = 0.0
    negative_alpha: float = 0.5
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    dropout: float = 0.2
    max_grad_norm: float = 1.0
    is_warm_started: bool = True

    def __post_init__(self) -> None:
        for name in ("num_epochs", "batch_size", "num_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 2 <= self.slice_length <= MAX_WATCHES:  # noqa: PLR2004 - a watch and its label
            raise ValueError(
                f"slice_length must be from 2 to {MAX_WATCHES}, got {self.slice_length}"
            )
        for name in ("unfinished_share", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


def train(
    model: TwoTowerModel,
    vocabulary: Vocabulary,
    histories: Sequence[WatchSequence],
    recipe: Recipe,
    *,
    seed: int,
    signals_NK: Float32[np.ndarray, "N K"] | None = None,
    goes_on: Callable[[int, float], bool] = lambda _epoch, _loss: True,
) -> None:
    """Train *model* on these *histories*, in place.

    *goes_on* is called after every epoch with its number, from 1 on, and its mean loss; it may
    measure, and stops by False.
    *signals_NK* are the live signals of all videos at the end of the histories; zero without.

    Raises:
        ValueError: a history names a row that the catalogue does not have.
    """
    training = SequenceTraining(
        model, vocabulary, histories, recipe, seed=seed, signals_NK=signals_NK
    )
    for epoch in range(1, recipe.num_epochs + 1):
        loss = training.epoch()
        if not goes_on(epoch, loss):
            break


class SequenceTraining:
    """A model that is being trained on histories, in place."""

    def __init__(
        self,
        model: TwoTowerModel,
        vocabulary: Vocabulary,
        histories: Sequence[WatchSequence],
        recipe: Recipe,
        *,
        seed: int,
        signals_NK: Float32[np.ndarray, "N K"] | None = None,
    ) -> None:
        newest = max((int(one.rows_T.max(initial=0)) for one in histories), default=0)
        if newest > len(vocabulary):
            raise ValueError(f"row {newest} is beyond the {len(vocabulary)} of the catalogue")
        self._model, self._recipe, self._tower = model, recipe, model.user_tower
        self._histories = histories
        self._content = vocabulary.content()
        self._num_videos = len(vocabulary)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._torch_rng = torch.Generator().manual_seed(seed)
        if signals_NK is None:
            signals_NK = np.zeros((self._num_videos, NUM_SIGNALS), np.float32)
        self._signals_NK = torch.from_numpy(signals_NK)
        model.reserve(self._num_videos)
        count_N = np.zeros(self._num_videos + 1)
        for one in self._histories:
            np.add.at(count_N, one.rows_T[1:][one.is_completed_T[1:]], 1.0)
        for one in self._histories:
            model.ids.see(one.rows_T)
        self._is_rare_N = model.ids.is_rare_N
        if recipe.is_warm_started:
            self._warm_start(seed)
        # these share their memory with the tables of the model, which so learn in place
        self._ids = nn.Parameter(model.ids.weight_ND)
        self._words = nn.Parameter(model.content.weight_ND)
        self._weights = [*model.user_tower.parameters(), *model.item_tower.parameters()]
        self._weights += [] if model.head is None else [*model.head.parameters()]
        self._weights += [self._ids, self._words]
        self._optimizer = torch.optim.Adam(self._weights, betas=(0.9, 0.98), foreach=False)
        self._num_steps = 0
        weight_N = (count_N[1:] + 1.0) ** recipe.negative_alpha
        self._share_N = weight_N / weight_N.sum()

    def epoch(self) -> float:
        """Learn once from every history and return the mean loss; nothing to learn gives 0."""
        recipe = self._recipe
        slices = cut(self._histories, recipe.slice_length, self._rng, most=recipe.max_slices)
        num_steps = max(1, math.ceil(len(slices) / recipe.batch_size) * recipe.num_epochs)
        losses = []
        share = recipe.unfinished_share
        for batch in batches(slices, recipe.batch_size, self._rng, unfinished_share=share):
            self._set_learning_rate(min(1.0, self._num_steps / num_steps))
            if (batch.label_BT > 0).any():
                losses.append(self._step(batch))
        return float(np.mean(losses)) if losses else 0.0

    def _warm_start(self, seed: int) -> None:
        rows = [one.rows_T for one in self._histories]
        dim = self._model.config.dim
        first_ND = cooccurrence.embeddings(rows, self._num_videos, dim, seed=seed)
        self._model.ids.weight_ND[1 : self._num_videos + 1] = torch.from_numpy(first_ND)
        self._model.ids.weight_ND[self._model.ids.is_rare_N] = 0.0

    def _set_learning_rate(self, part: float) -> None:
        rising = min(1.0, (self._num_steps + 1) / max(1, self._recipe.warm_up_steps))
        falling = 0.5 * (1.0 + math.cos(math.pi * part))
        self._optimizer.param_groups[0]["lr"] = self._recipe.learning_rate * rising * falling

    def _step(self, batch: SequenceBatch) -> float:
        """Take one step and return its loss; one that is not finite only resets broken rows."""
        loss = self._loss(batch)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self._ids.grad is not None:
            self._ids.grad[self._is_rare_N] = 0.0
        norm = nn.utils.clip_grad_norm_(self._weights, self._recipe.max_grad_norm)
        self._num_steps += 1
        if torch.isfinite(norm):
            self._optimizer.step()
            self._keep_up()
        else:
            self._model.reset_broken()
        return loss.item()

    @torch.no_grad()
    def _keep_up(self) -> None:
        """Bring the tables' own optimisers up to the gradients of this step."""
        for table, weight in ((self._model.ids, self._ids), (self._model.content, self._words)):
            if weight.grad is not None:
                rows_U = weight.grad.any(dim=1).nonzero().squeeze(1)
                table.accumulate(rows_U, weight.grad[rows_U])

    def _vectors(self) -> tuple[Float[Tensor, "V D"], Float[Tensor, "N D"]]:
        """Return input vectors, row 0 included and zero, and output vectors without it."""
        content_ND = content_vectors(self._words, self._content)
        log_duration_N1 = torch.from_numpy(self._content.log_duration_N1)
        input_ND, output_ND = self._model.item_tower(content_ND, log_duration_N1)
        id_ND = self._ids[1 : self._num_videos + 1]
        return nn.functional.pad(input_ND + id_ND, (0, 0, 1, 0)), unit(output_ND + id_ND)

    def _loss(self, batch: SequenceBatch) -> Float[Tensor, ""]:
        recipe = self._recipe
        input_ND, output_ND = self._vectors()
        watches_BTD = dropout(input_ND[batch.rows_BT], recipe.dropout, self._torch_rng)
        completed_BT = batch.is_completed_BT.float()
        features_BTF = torch.zeros(*completed_BT.shape, len(WATCH_FEATURES))
        features_BTF[:, :, 0] = features_BTF[:, :, 1] = completed_BT
        user_BTD = self._tower.positions(watches_BTD, features_BTF, (batch.rows_BT > 0).float())
        user_ED, label_E = user_BTD[batch.label_BT > 0], batch.label_BT[batch.label_BT > 0] - 1
        user_ED = self._model.joined_users(user_ED)
        if self._model.head is not None:
            output_ND = torch.cat([output_ND, self._signals_NK], dim=1)
        if recipe.num_negatives >= self._num_videos:
            logits_EN = user_ED @ output_ND.T
            return nn.functional.cross_entropy(logits_EN, label_E)
        drawn = self._rng.choice(
            self._num_videos, recipe.num_negatives, replace=False, p=self._share_N
        )
        log_q_S = np.minimum(0.0, np.log(recipe.num_negatives * self._share_N[drawn]))
        return shared_softmax(
            user_ED,
            output_ND,
            label_E,
            torch.from_numpy(drawn),
            torch.from_numpy(log_q_S.astype(np.float32)),
        )


def dropout(x_BTD: Float[Tensor, "B T D"], share: float, rng: torch.Generator) -> Tensor:
    """Return *x_BTD* with *share* of its entries zero, by *rng*, and the others larger for it.

    torch's own dropout draws from the generator of the whole process, which no seed of ours sets.
    """
    if not share:
        return x_BTD
    is_kept_BTD = torch.rand(x_BTD.shape, generator=rng) >= share
    return x_BTD * is_kept_BTD / (1.0 - share)


def shared_softmax(
    user_ED: Float[Tensor, "E D"],
    output_ND: Float[Tensor, "N D"],
    label_E: Integer[Tensor, "E"],
    drawn_S: Integer[Tensor, "S"],
    log_q_S: Float[Tensor, "S"],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of each label against one draw of videos for all.

    Inner products are the logits, so *user_ED* has been divided by the temperature.
    The label stands in a column of its own, at its plain logit, and weighs nothing among the
    drawn: thousands of labels in a batch would make nearly every video a candidate.
    """
    drawn_ES = user_ED @ output_ND[drawn_S].T - log_q_S
    drawn_ES = drawn_ES.masked_fill(label_E[:, None] == drawn_S, -torch.inf)
    label_E1 = (user_ED * output_ND[label_E]).sum(dim=1, keepdim=True)
    return nn.functional.cross_entropy(
        torch.cat([label_E1, drawn_ES], dim=1), torch.zeros_like(label_E)
    )
